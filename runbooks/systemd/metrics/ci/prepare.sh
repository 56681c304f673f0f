#!/bin/bash
# Gives a bare host what the runbook meets in real life: a Go service that shows its metrics, without
# limits, and a Prometheus as its Debian package lays it out. The two programs of the package stay where
# they are, since they are big. The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

install --mode=755 "$KB_FIXTURES/measured/orders" /usr/local/bin/orders
cat >/etc/systemd/system/orders.service <<'END'
[Unit]
Description=Orders

[Service]
Type=notify
DynamicUser=yes
ExecStart=/usr/local/bin/orders -runtime-metrics gc,scheduler

[Install]
WantedBy=multi-user.target
END

package=$KB_FIXTURES/prometheus/debian
ln -s "$package/usr/bin/prometheus" "$KB_FIXTURES/prometheus/promtool/usr/bin/promtool" /usr/bin
cp -r "$package/etc/prometheus" /etc
cp "$package/etc/default/prometheus" /etc/default
cp "$package/usr/lib/systemd/system/prometheus.service" /usr/lib/systemd/system
useradd --system --no-create-home --home-dir /var/lib/prometheus --shell /usr/sbin/nologin prometheus
install --directory --owner=prometheus --group=prometheus /var/lib/prometheus /var/lib/prometheus/metrics2
# What it measures all the time is nobody's change to the host.
mount -t tmpfs -o "size=200m,uid=$(id -u prometheus),gid=$(id -g prometheus)" prometheus /var/lib/prometheus/metrics2

# A file of rules with a misspelt word, to be refused.
cat >/root/misspelt.yml <<'END'
groups:
- name: mine
  rules:
  - alert: OrdersDown
    exprr: up{job="orders"} == 0
END

cat >/usr/local/bin/orders-load <<'END'
#!/bin/bash -e
# usage: orders-load ALERT     brings the service near the limit that the alert is about
case $1 in
    *Memory*) work='hold?mib=225' ;;
    *Cpu*) work='compute?seconds=600' ;;
esac
curl --fail --silent --show-error "http://127.0.0.1:8000/$work"
END
chmod 755 /usr/local/bin/orders-load

systemctl daemon-reload
systemctl enable --quiet --now orders prometheus
for url in http://127.0.0.1:8000/metrics http://127.0.0.1:9090/-/ready; do
    timeout 120 bash -c "until curl --fail --silent --output /dev/null $url; do sleep 0.3; done"
done
tr -d '\n' <<END
{"ready_within": 180, "cpu_quota": 50, "scrape_interval": "5s", "window": "20s", "alert_for": "5s",
 "provoke": "/usr/local/bin/orders-load", "expect": "ServiceNearMemoryMax ServiceNearCpuQuota",
 "relieve": "curl --fail --silent --show-error http://127.0.0.1:8000/release",
 "demonstration": "$KB_FIXTURES/measured"}
END
