#!/bin/bash
# make-room.sh: gets an etcd out of `mvcc: database space exceeded`
#
# usage: ETCDCTL_ENDPOINTS=http://10.0.0.1:2379,... make-room.sh SNAPSHOT
#
# Saves a snapshot to the file SNAPSHOT, as a way back; forgets the history of the keys (compact); gives the
# space back, one member after the other and the leader last (defrag); and ends the alarm. No key and no
# current value goes. It may be run again at any point. It needs etcdctl of 3.4 or later, and what
# that needs to connect: ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY, ETCDCTL_USER.
set -Eeuo pipefail

fail() {
    echo "make-room.sh: $*" >&2
    exit 1
}
# Without the client's own log, which says each thing a second time.
ctl() { "${ETCDCTL:-etcdctl}" "$@" 2> >(grep --invert-match '^{' >&2); }
# A field of a member's status: Leader, MemberID, DBSize, Revision.
field() { ETCDCTL_ENDPOINTS=$2 ctl endpoint status --write-out=fields | awk -F ' : ' -v name="\"$1\"" '$1 == name && !seen++ {print $2}'; }

[ $# = 1 ] || { sed -n '/^# usage/s/# //p' "$0" >&2; exit 2; }
[ -n "${ETCDCTL_ENDPOINTS:-}" ] || fail "ETCDCTL_ENDPOINTS is not set: name at least one member, such as http://127.0.0.1:2379"
[ ! -e "$1" ] || fail "$1 is there already: choose another name for the snapshot"

listed=$(ctl member list --write-out=simple) || fail "no member answers at $ETCDCTL_ENDPOINTS: see that a majority runs; nothing was changed"
followers=() leader=
while IFS=, read -r _ state name _ urls _; do
    url=${urls%%,*} url=${url# } name=${name# }
    [ "$state" = " started" ] || fail "the member $name has never started: start it, or remove it; nothing was changed"
    id=$(field MemberID "$url") || id=
    [ -n "$id" ] || fail "the member $name does not answer at $url: start it, or remove it, and run this again; nothing was changed"
    if [ "$id" = "$(field Leader "$url")" ]; then leader=$url; else followers+=("$url"); fi
done <<<"$listed"
[ -n "$leader" ] || fail "no member is the leader: wait until one is, and run this again; nothing was changed"

ETCDCTL_ENDPOINTS=$leader ctl snapshot save "$1" --command-timeout=10m >/dev/null || fail "there is no snapshot in $1: see the line above; nothing was changed"
echo "saved a snapshot to $1"

revision=$(field Revision "$leader")
said=$(ctl compact "$revision" 2>&1) || [[ $said == *"has been compacted"* ]] || fail "$said"
echo "forgot the history before revision $revision"

for url in "${followers[@]}" "$leader"; do
    before=$(field DBSize "$url")
    ETCDCTL_ENDPOINTS=$url ctl defrag --command-timeout=10m >/dev/null || fail "$url was not defragmented: see the line above, and run this again"
    echo "$url: $before bytes before, $(field DBSize "$url") now"
done

ctl alarm disarm >/dev/null
lease=$(ctl lease grant 60 | awk '{print $2}') || fail "writes are still refused: is what is current larger than the quota? Start the members with a larger --quota-backend-bytes, and run this again"
ctl lease revoke "$lease" >/dev/null
alarms=$(ctl alarm list)
[ -z "$alarms" ] || fail "an alarm is left ($alarms): see whether something still fills it, and run this again"
echo "etcd takes writes again"
