# Two hosts in one: network namespaces `net-client`, 10.9.0.1, and `net-server`, 10.9.0.2, with a cable between them;
# and words that the commands of faults.toml are made of.
# shellcheck shell=bash

client() { ip netns exec net-client "$@"; }
server() { ip netns exec net-server "$@"; }

# ask OPTION... URL: a request by the client, as Go's net/http makes it.
ask() { client app get "$@"; }

# serve OPTION...: the server runs, and listens.
serve() {
    : >served
    server app serve "$@" >>served 2>&1 &
    disown
    until_so grep --quiet listening served
    cat served
}
stop() { # the server
    ip netns pids net-server | xargs --no-run-if-empty kill
    until_so nothing_runs net-server
}
nothing_runs() { [ -z "$(ip netns pids "$1")" ]; }

# kept COMMAND...: it runs on; what it says is shown when it says the first.
kept() {
    : >kept
    "$@" >>kept 2>&1 &
    disown
    until_so test -s kept
    cat kept
}

# drop and pass: what a firewall does with the port's packets.
drop() {
    tc -netns net-server qdisc add dev eth0 clsact
    tc -netns net-server filter add dev eth0 ingress protocol ip flower ip_proto tcp dst_port 8080 action drop
}
pass() { tc -netns net-server qdisc delete dev eth0 clsact; }

# slow: what the client sends takes its time, as over a long way.
slow() { tc -netns net-client qdisc add dev eth0 root netem delay 400ms; }

waiting() { # FILTER: a connection of the client is in that state
    client ss --no-header --tcp --numeric --options state "$1" dst 10.9.0.2 >waiting
    test -s waiting
}

# meanwhile STATE COMMAND...: what the client's connection looks like while the command waits for it.
meanwhile() {
    "${@:2}" >/dev/null 2>&1 &
    disown
    until_so waiting "$1"
    cat waiting
    ip netns pids net-client | xargs kill
}

taken() { [ "$(server ss --no-header --listening --tcp | awk '{ print $2 }')" = 0 ]; } # nobody waits

# What the kernel has said since the mark.
mark() { dmesg | wc --lines >mark; }
kernel_says() {
    dmesg | tail --lines=+"$(($(<mark) + 1))" | grep 'SYN flooding' || echo "(nothing in the kernel's log)"
}
flood() { # so many connects at once, until the kernel says so
    client app dial -n 64 10.9.0.2:8080
    kernel_says | grep --quiet flooding
}

# certify NAME: a certificate for it, and the authority that signed it.
certify() {
    local kind=(-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 7)
    openssl req "${kind[@]}" -subj "/CN=Our CA" -keyout ca.key -out ca.pem 2>certified
    openssl req "${kind[@]}" -subj /CN=server -CA ca.pem -CAkey ca.key -addext "subjectAltName=$1" \
        -keyout server.key -out server.pem 2>>certified
}

# What a Dockerfile makes that begins with FROM scratch: the program, and nothing else.
image() {
    mkdir --parents image/etc/ssl/certs
    cp --dereference app image/app
}

begin() {
    leave
    local name
    for name in client server; do
        ip netns add "net-$name"
        ip -netns "net-$name" link set lo up
    done
    ip -netns net-client link add eth0 type veth peer name eth0 netns net-server
    ip -netns net-client address add 10.9.0.1/24 dev eth0
    ip -netns net-server address add 10.9.0.2/24 dev eth0
    ip -netns net-client link set eth0 up
    ip -netns net-server link set eth0 up
    until_so carrier net-client
    until_so carrier net-server
}
carrier() { ip -netns "$1" -oneline link show dev eth0 | grep --quiet 'state UP'; }
leave() {
    local name
    for name in net-client net-server; do
        if [ -e "/run/netns/$name" ]; then
            ip netns pids "$name" | xargs --no-run-if-empty kill -KILL
            until_so nothing_runs "$name"
            ip netns delete "$name"
        fi
    done
}
