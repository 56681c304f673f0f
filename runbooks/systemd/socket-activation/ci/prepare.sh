#!/bin/bash
# Gives a bare host what the runbook meets in real life: a service that listens by itself, started at
# boot and running. The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

programs=$KB_FIXTURES/socket-activation/bin
install "$programs/hello-1" /usr/local/bin/hello
install "$programs/hey" /usr/local/bin/hey
cat >/etc/systemd/system/hello.service <<'END'
[Unit]
Description=Says hello

[Service]
Type=notify
ExecStart=/usr/local/bin/hello -listen :8080
DynamicUser=yes
Environment="A=carried" \
    B=over
Restart=always

[Install]
WantedBy=multi-user.target
END
ln -s ../hello.service /etc/systemd/system/multi-user.target.wants/hello.service
systemctl start hello.service
cat <<END
{"service": "hello", "binary": "/usr/local/bin/hello", "new_build": "$programs/hello-2", "arguments": "-idle 4s", "idle_exit": 4, "ready_within": 120}
END
