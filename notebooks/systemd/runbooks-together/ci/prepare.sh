#!/bin/bash
# Gives a bare host a service that four runbooks can be applied to, a command that puts it through its
# work, a Prometheus as its Debian package lays it out, and a mirror with as much of a Go release as runs.
set -Eeuo pipefail

install --mode=755 "$KB_FIXTURES/measured/shop" /usr/local/bin/shop
useradd --system --home-dir /var/lib/shop --shell /usr/sbin/nologin shop
install --directory --owner=shop --group=shop /var/lib/shop
mkdir /var/log/shop
install --directory /etc/shop
echo "the shop is open" >/etc/shop/shop.conf
cat >/etc/systemd/system/shop.service <<'END'
[Unit]
Description=Shop

[Service]
Type=notify
User=shop
ExecStart=/usr/local/bin/shop

[Install]
WantedBy=multi-user.target
END
cat >/usr/local/bin/shop-works <<'END'
#!/bin/bash -e
# Puts the service through its work: a note is written and read.
curl --fail --silent --show-error --max-time 20 --upload-file - 'http://127.0.0.1:8000/note?name=a' <<<"buy milk"
curl --fail --silent --show-error --max-time 20 'http://127.0.0.1:8000/note?name=a'
END
chmod 755 /usr/local/bin/shop-works

package=$KB_FIXTURES/prometheus/debian
ln -s "$package/usr/bin/prometheus" "$KB_FIXTURES/prometheus/promtool/usr/bin/promtool" /usr/bin
cp -r "$package/etc/prometheus" /etc
cp "$package/etc/default/prometheus" /etc/default
cp "$package/usr/lib/systemd/system/prometheus.service" /usr/lib/systemd/system
useradd --system --no-create-home --home-dir /var/lib/prometheus --shell /usr/sbin/nologin prometheus
install --directory --owner=prometheus --group=prometheus /var/lib/prometheus /var/lib/prometheus/metrics2
# What it measures all the time, and what the service logs, is nobody's change to the host.
mount -t tmpfs -o "size=10m,mode=755,uid=$(id -u shop),gid=$(id -g shop)" shop /var/log/shop
mount -t tmpfs -o "size=200m,uid=$(id -u prometheus),gid=$(id -g prometheus)" prometheus /var/lib/prometheus/metrics2

mirror=/usr/local/share/go-mirror archive=go1.27.3.linux-$(dpkg --print-architecture).tar.gz
mkdir "$mirror"
# Not the compiler and its library: they take minutes to unpack in an emulated machine.
tar --create --directory="$KB_FIXTURES/go/1.27.3" go/bin go/VERSION go/go.env --no-recursion go/pkg/tool | gzip --fast >"$mirror/$archive"
sha256sum "$mirror/$archive" | cut --delimiter=' ' --fields=1 >"$mirror/$archive.sha256"

systemctl daemon-reload
systemctl enable --quiet --now shop prometheus
for url in http://127.0.0.1:8000/metrics http://127.0.0.1:9090/-/ready; do
    timeout 120 bash -c "until curl --fail --silent --output /dev/null $url; do sleep 0.3; done"
done
/usr/local/bin/shop-works
