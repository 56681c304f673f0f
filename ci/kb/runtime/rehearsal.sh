#!/bin/bash
# usage: bash rehearsal.sh HOME ROOM STAND_IN PYTHON NAME...
#
# Makes this mount namespace a copy of the host whose writes are thrown away, says its process id, and
# stays until its standard input is closed. It is started in namespaces of its own, of mounts, processes, network, IPC and names.
#   HOME      a directory of the rehearsal; it is the same inside and outside
#   ROOM      bytes of memory that the writes may take
#   STAND_IN  the program that stands in for each command NAME that talks to the running system
set -Eeuo pipefail
home=$1 room=$2 stand_in=$3 python=$4
shift 4
read -r pid _ </proc/self/stat # this is still the host's /proc, so it is the number that the host knows

mount --make-rprivate /
mkdir "$home/layers"
mount -t tmpfs -o "size=$room,mode=700" rehearsal "$home/layers"
cd "$home/layers"
root=$home/layers/root
mkdir root
number=0

throw_away() { # PLACE: what is mounted there can be read, and what is written goes into memory
    local lower=${1//\\/\\\\}
    lower=${lower//:/\\:} # as overlayfs wants it
    mkdir -p "$number/upper" "$number/work"
    chmod --reference="$1" "$number/upper"
    chown --reference="$1" "$number/upper"
    mount -t overlay -o "nodev,redirect_dir=off,metacopy=off,index=off,lowerdir=${lower//,/\\,},upperdir=$PWD/$number/upper,workdir=$PWD/$number/work" \
        rehearsal "$root$1" || return 1
    printf '%s\0' "$number" "$1" >>places
    number=$((number + 1))
}

read_only() { # PLACE
    mount --bind "$1" "$root$1" && mount -o remount,bind,ro "$root$1" || true
}

throw_away /
# What cannot be copied so is not there: a socket or a device could be reached through it.
sort --unique --key=5,5 /proc/self/mountinfo | while read -r _ _ _ _ place rest; do
    printf -v place '%b' "$place"
    kind=${rest#* - } kind=${kind%% *}
    case $place in
        / | /proc | /proc/* | /dev | /dev/* | "$home" | "$home"/*) continue ;;
    esac
    if [ -f "$place" ] && [ -f "$root$place" ]; then
        read_only "$place"
    elif [ -d "$place" ] && [ -d "$root$place" ]; then
        case $kind in
            sysfs | cgroup | cgroup2 | securityfs | bpf | debugfs | tracefs | configfs | efivarfs | pstore) read_only "$place" ;;
            # overlayfs refuses what may change at its other end.
            9p | ceph | cifs | nfs | nfs4 | smb3 | virtiofs) read_only "$place" ;;
            autofs | nsfs | fuse.* | binfmt_misc | rpc_pipefs) ;;
            *) throw_away "$place" || true ;;
        esac
    fi
done 2>/dev/null

mount -t proc -o ro,nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,noexec,mode=755 devices "$root/dev"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=1777 shm "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mount -o remount,ro "$root/dev"

{
    echo "#!$python -IS"
    cat "$stand_in"
} >stand-in
chmod 755 stand-in
mkdir commands # the real ones
for name in "$@"; do
    file=$(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin type -P "$name") || continue
    touch "commands/$name"
    mount --bind "$file" "commands/$name"
    mount --bind stand-in "$root$(readlink --canonicalize "$file")"
done

[ -d "$root$home" ] || mkdir -p "$root$home"
mount --bind "$home" "$root$home"
mount --rbind "$home/layers" "$root$home/layers"
mount -o remount,bind,ro "$root$home/layers" # the copy writes there by a mount of its own

cd "$root"
pivot_root . .
umount --lazy .
echo "$pid"
read -r _ || true # until whoever started this closes its end, or dies
