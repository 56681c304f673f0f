# What a host has to have, found out before anything is put there; the shell of any host runs it.
# $1: where the runbook is put, below the home; $2: the machine that the wheels are for; $3: KiB of room.
# Prints the directory and Python's version, or one sentence and fails.
# shellcheck shell=sh
refuse() {
    echo "refused: $*"
    exit 3
}
umask 077
said=$(mkdir -p "$HOME/.noble-runbooks/$1" 2>&1) || refuse "nothing can be put into $HOME: $said"
cd "$HOME/.noble-runbooks/$1" || exit
command -v python3 >/dev/null || refuse "there is no python3: install it (apt-get install python3)"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    refuse "python3 is $(python3 --version 2>&1), and 3.11 or later is needed"
[ "$(uname -m)" = "$2" ] || refuse "it is $(uname -m), and the machine that this comes from $2"
room=$(df -Pk . | awk 'NR == 2 { print $4 }')
[ "$room" -ge "$3" ] || [ -e shiv ] ||
    refuse "$HOME has room for $((room / 1024)) MiB, and $(($3 / 1024)) are needed: make room"
pwd
python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'
