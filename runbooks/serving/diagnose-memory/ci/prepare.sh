#!/bin/bash
# A host with a service that a loop keeps running, as a supervisor does. Somebody has turned its collector
# off, to make it faster.
set -Eeuo pipefail

install --mode=755 "$KB_FIXTURES/memory/orders" /usr/local/bin/orders
printf 'GOGC=off\nFAULT=garbage\n' >/etc/default/orders
chmod 640 /etc/default/orders
cat >/usr/local/bin/supervise <<'END'
#!/bin/bash
# Keeps orders running, with what /etc/default/orders says.
while :; do
    (
        set -a
        . /etc/default/orders
        exec /usr/local/bin/orders -fault "$FAULT"
    ) || true
    sleep 0.2
done
END
chmod 755 /usr/local/bin/supervise
setsid --fork /usr/local/bin/supervise </dev/null >/dev/null 2>&1
cat >/usr/local/bin/break-orders <<'END'
#!/bin/bash
# usage: break-orders FAULT: from now on it has that one. When this ends, the new process answers.
set -Eeuo pipefail
echo "FAULT=$1" >/etc/default/orders
earlier=$(pgrep --exact orders)
pkill --exact orders
until [[ ! -e /proc/$earlier ]] && curl --fail --silent --output /dev/null http://127.0.0.1:8080/order; do sleep 0.2; done
END
chmod 755 /usr/local/bin/break-orders
timeout 60 sh -c 'until curl --fail --silent --output /dev/null http://127.0.0.1:8080/order; do sleep 0.2; done'
cat <<END
{"pprof": "http://127.0.0.1:8080/debug/pprof", "looks": 2, "seconds": 0, "allowed": 320, "settings": "/etc/default/orders", "restart": "pkill --exact orders", "exercise": "curl --silent 'http://127.0.0.1:8080/order?[1-500]'", "demonstration": "$KB_FIXTURES"}
END
