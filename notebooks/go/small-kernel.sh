#!/bin/bash
# small-kernel.sh KERNEL MEMORY COMMAND [OPTION...]: what COMMAND says on a small Linux of its own.
#
# KERNEL is user-mode Linux, a whole kernel that runs as one program of any user; where it is empty, CI's
# is taken, or linux.uml on PATH. Its root is this machine's; COMMAND, a line of bash, is all that it runs.

set -Eeuo pipefail

kernel=$1 memory=$2 command=$3
shift 3
packaged=${KB_FIXTURES:-}/small-kernel/debian/usr
[ -n "$kernel" ] || kernel=$packaged/bin/linux.uml
[ -x "$kernel" ] || kernel=$(command -v linux.uml) || { echo 'no small kernel: apt-get install user-mode-linux' && exit; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/init" <<EOF
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$packaged/sbin
export LD_LIBRARY_PATH=$(echo "$packaged"/lib/*-linux-gnu)
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
{ $command; } 2>&1 | sed 's/^/says: /'
exec python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)' # power off
EOF
chmod +x "$work/init"
# Its memory is a file in TMPDIR, as long as MEMORY and mostly a hole.
HOME=$work TMPDIR=$work timeout 120 "$kernel" "mem=$memory" root=/dev/root rootfstype=hostfs rootflags=/ rw \
    "init=$work/init" con=null con0=null,fd:1 "$@" </dev/null >"$work/console" 2>&1 || { cat "$work/console" && exit 1; }
sed -n 's/\r$//; s/^says: //p' "$work/console"
