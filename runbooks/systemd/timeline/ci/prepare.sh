#!/bin/bash
# Gives a bare host a service to look at: it takes orders on port 8080, and has net/http/pprof and a
# flight recorder on port 6060. Its incident is a request during which somebody sets the clock.
set -Eeuo pipefail

install --mode=755 "$KB_FIXTURES/timeline/orders" /usr/local/bin/orders
cat >/etc/systemd/system/orders.service <<'END'
[Unit]
Description=Orders

[Service]
DynamicUser=yes
ExecStart=/usr/local/bin/orders
Environment=GODEBUG=madvdontneed=1

[Install]
WantedBy=multi-user.target
END
cat >/usr/local/bin/incident <<'END'
#!/bin/bash -e
# One request of some seconds; in its middle the time of day is set ahead, and afterwards back.
curl --fail --silent --header 'X-Request-Id: incident-1' 'http://127.0.0.1:8080/order?wait=4000' &
sleep 2
date --set='+90 seconds' >/dev/null
wait $!
date --set='-90 seconds' >/dev/null
END
chmod 755 /usr/local/bin/incident
systemctl daemon-reload
systemctl enable --quiet --now orders
timeout 60 sh -c 'until curl --fail --silent --output /dev/null http://127.0.0.1:8080/healthz; do sleep 0.3; done'
echo '{"url": "http://127.0.0.1:8080/order?wait=20", "flight": "http://127.0.0.1:6060/debug/flight", "exercise": "/usr/local/bin/incident"}'
