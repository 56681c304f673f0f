#!/bin/bash
# A service as many are: a program in /usr/local/bin, run as root, that keeps a file below /var/lib.
# A toolchain in /usr/local/go that only its mode protects. And a device node that stands in for that of
# NVIDIA's driver: no driver is behind it.
set -Eeuo pipefail
release=1.27.3
mkdir -p /usr/local/go /run/toolchain/upper /run/toolchain/work
mount -t overlay toolchain /usr/local/go \
    -o "lowerdir=$KB_FIXTURES/go/$release/go,upperdir=/run/toolchain/upper,workdir=/run/toolchain/work"
install --mode=755 "$KB_FIXTURES/plain-service/bin/confined" /usr/local/bin/confined
cat >/etc/systemd/system/confined.service <<'EOF'
[Unit]
Description=A small web service

[Service]
Type=notify
ExecStart=/usr/local/bin/confined -address 127.0.0.1:8077 -state /var/lib/confined

[Install]
WantedBy=multi-user.target
EOF
systemctl daemon-reload
systemctl enable --quiet --now confined.service
mkdir /var/cache/confined
echo kept >/var/cache/confined/something
chown -R nobody:nogroup /var/{lib,cache}/confined
mkdir --mode=1777 /var/exports
mknod --mode=666 /dev/nvidiactl c 195 255
echo '{"service": "confined", "health": "http://127.0.0.1:8077/healthz", "goroot": "/usr/local/go", "memory": "256M", "write": "/var/exports", "ready_seconds": 180}'
