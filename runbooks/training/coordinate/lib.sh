# shellcheck shell=bash disable=SC2154 # the parameters
# What the cells share. Sourced; it has the environment of etcdctl and of epoch.
export ETCDCTL_ENDPOINTS=$endpoint
if [ -n "$access" ]; then
    set -o allexport
    # shellcheck source=/dev/null
    . "$access"
    set +o allexport
fi
# curl_etcd PATH: what the member of this host says there.
curl_etcd() {
    curl --silent --show-error --max-time 10 ${ETCDCTL_CACERT:+--cacert "$ETCDCTL_CACERT"} \
        ${ETCDCTL_CERT:+--cert "$ETCDCTL_CERT"} ${ETCDCTL_KEY:+--key "$ETCDCTL_KEY"} "$endpoint$1"
}
# number NAME: one of its metrics, as a whole number.
number() { curl_etcd /metrics | awk -v name="$1" '$1 == name {printf "%.0f\n", $2}'; }
# ctl ARGUMENT...: etcdctl, without the log of its client, which says each thing a second time.
ctl() { etcdctl "$@" 2> >(grep --invert-match '^{' >&2); }
# ready SECONDS: waits until it takes part in the cluster again.
ready() {
    local deadline=$((SECONDS + $1))
    until python3 -I "$KB_HERE/coordinate/epoch.py" look --check members 2>"$TMPDIR/why"; do
        ((SECONDS < deadline)) || { cat "$TMPDIR/why" >&2; return 1; }
        sleep 0.2
    done
}
# wanted: the file of settings as it should be.
wanted() {
    local names='ETCD_AUTO_COMPACTION_MODE|ETCD_AUTO_COMPACTION_RETENTION|ETCD_QUOTA_BACKEND_BYTES'
    { [ ! -e "$settings" ] || grep --invert-match --extended-regexp "^[[:space:]]*($names)=" "$settings" || true; }
    echo "ETCD_AUTO_COMPACTION_MODE=periodic"
    echo "ETCD_AUTO_COMPACTION_RETENTION=$retention"
    echo "ETCD_QUOTA_BACKEND_BYTES=$(numfmt --from=iec "$quota")"
}
# restarted SECOND: restarts the member, so that it has begun after that second, and waits until it takes part.
restarted() {
    local deadline=$((SECONDS + ready_within))
    while (($(date +%s) < $1 + 2)); do sleep 0.2; done # its start is told in whole seconds
    bash -c "$restart"
    echo "changed: restarted the member at $endpoint"
    until [ "$(number process_start_time_seconds 2>/dev/null || echo 0)" -gt "$1" ]; do
        ((SECONDS < deadline)) || { echo "$endpoint does not answer within $ready_within s of its restart: see its log (journalctl --unit etcd)" >&2; return 1; }
        sleep 0.2
    done
    ready "$ready_within"
}
