#!/bin/bash
# Gives a bare host what brings people here: a Go service whose unit was given a limit once, more customers
# than that, and the line in limits.d that was to mend it. Each order makes it ask a second service.
set -Eeuo pipefail
install --mode=755 "$KB_FIXTURES/open-files/orders" /usr/local/bin/orders
cd /etc/systemd/system
cat >stock.service <<'END'
[Service]
DynamicUser=yes
ExecStart=/usr/local/bin/orders -listen 127.0.0.1:8081
END
cat >orders.service <<'END'
[Unit]
Description=Orders

[Service]
DynamicUser=yes
ExecStart=/usr/local/bin/orders
LimitNOFILE=64

[Install]
WantedBy=multi-user.target
END
cat >customers.service <<'END'
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/customers.py
END
cat >/usr/local/lib/customers.py <<'END'
"""Customers that stay connected: 80 of them, of whom the first orders twice a second."""
import http.client
import time

while True:
    try:
        customers = [http.client.HTTPConnection("127.0.0.1", 8080, timeout=3600) for _ in range(80)]
        for customer in customers:
            customer.connect()
        while True:
            time.sleep(0.5)
            customers[0].request("GET", "/order")
            customers[0].getresponse().read()
    except (OSError, http.client.HTTPException):
        time.sleep(1)  # the service is being restarted, or stopped
END
echo '* - nofile 65536' >/etc/security/limits.d/90-nofile.conf
systemctl daemon-reload
systemctl enable --quiet --now orders
systemctl start stock
timeout 60 sh -c 'until curl --fail --silent --output /dev/null http://127.0.0.1:8080/order; do sleep 0.3; done'
systemctl start customers
said() { journalctl --quiet --unit orders --output cat --grep "$1" --lines 1; }
timeout 60 bash -c "$(declare -f said)"'; until said "accept4: too many open files" && said "socket: too many open files"; do sleep 0.5; done' >/dev/null
cat <<END
{"ready_within": 180, "limit": 16384, "connections": 2000, "restart": true, "demonstration": "$KB_FIXTURES/open-files"}
END
