# What shows the faults in diagnose-startup.ipynb, after lib.sh; they lie in $place.
# shellcheck shell=bash
# shellcheck disable=SC2154

# told KIND COMMAND [READY [USER]]: what is told of a start that goes wrong so.
told() {
    echo "== ${2//"$place/"/}"
    startup tell --command "$2" --ready "${3:-}" --user "${4:-}" --within "${patience:-60}" --expect "$1" |
        sed "s|$place/||g"
}

# script NAME LINE: a script with that first line.
script() {
    printf '%s\nexit 0\n' "$2" >"$place/$1"
    chmod 755 "$place/$1"
}

# files: programs and scripts that do not start.
files() {
    printf '#!/bin/sh\n' >"$place/no-right"
    script lines $'#!/bin/sh\r'
    script interpreter '#!/usr/bin/env python2'
    script no-first-line 'echo hello'
    cp /usr/bin/true "$place/other-machine"
    printf '\xf3' | dd of="$place/other-machine" bs=1 seek=18 conv=notrunc status=none # RISC-V
    echo 'int main(void) { return 0; }' >"$place/main.c"
    gcc "$place/main.c" -o "$place/alpine" -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1
    echo 'int seven(void) { return 7; }' >"$place/seven.c"
    gcc -shared "$place/seven.c" -o "$place/libseven.so.1" -Wl,-soname,libseven.so.1
    gcc "$place/main.c" -o "$place/library" -Wl,--no-as-needed "$place/libseven.so.1"
    install -D "$place/libseven.so.1" /opt/seven/lib/libseven.so.1
    mkdir --mode=700 "$place/closed"
    install --mode=755 /usr/bin/true "$place/closed/program"
    install --mode=600 /dev/null "$place/orders.conf"
}

# taken PORT: another program has it, until this cell ends.
taken() {
    python3 -m http.server "$1" --bind 127.0.0.1 >/dev/null 2>&1 &
    until curl --silent --noproxy '*' --output /dev/null "http://127.0.0.1:$1/"; do sleep 0.2; done
}

# full PORT: somebody listens there and takes no connection, and more wait already than may.
full() {
    python3 - "$1" "$place/full" <<'END' &
import pathlib, signal, socket, sys

listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(0)
waiting = [socket.socket() for _ in range(8)]
for one in waiting:
    one.setblocking(False)
    one.connect_ex(listener.getsockname())
pathlib.Path(sys.argv[2]).touch()
signal.pause()
END
    until [ -e "$place/full" ]; do sleep 0.2; done
}
