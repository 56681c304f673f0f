# Words that the commands of faults.toml are made of.
# shellcheck shell=bash

runs() { { ls -l /proc/*/exe 2>/dev/null || true; } | grep --quiet "/$1\$"; }

# start COMMAND...: it runs on, to the end of the scene or of `stop`.
start() {
    "$@" &
    echo "$!" >>pids
    disown
}
stop() {
    if [ -e pids ]; then
        xargs kill -KILL <pids 2>/dev/null || true
        rm pids
    fi
}

# kept COMMAND...: it runs on; what it says is shown when it says the first.
kept() {
    : >said
    start "$@" >>said 2>&1
    until_so test -s said
    cat said
}

# room: how many MiB are free in /dev/shm, which is to be filled.
room() {
    df --output=avail --block-size=1M /dev/shm | tail --lines=1 >room
    [ "$(<room)" -le 256 ] || { echo "/dev/shm has more than 256 MiB: run this in a container"; return 1; }
}

# limited N COMMAND...: by a user of its own, who may have so many processes and threads.
limited() {
    # shellcheck disable=SC2016 # the inner bash expands them, as that user
    setpriv --reuid=54321 --regid=54321 --clear-groups bash -c 'ulimit -u "$1" && exec "${@:2}"' bash "$@"
}

begin() { leave; }
leave() {
    stop
    rm --force /dev/shm/old.log /dev/shm/new.log
    find . -mindepth 1 ! -name app -delete
}
