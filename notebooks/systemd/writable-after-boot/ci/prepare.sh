#!/bin/bash
# A service for the runbook, which writes below a mount that comes late in a boot. And small units without
# it, that all start now; not all of them do after the next boot.
set -Eeuo pipefail
units=/etc/systemd/system

install --mode=755 "$KB_FIXTURES/plain-service/bin/confined" /usr/local/bin/confined
cat >$units/confined.service <<'END'
[Service]
Type=notify
ExecStart=/usr/local/bin/confined -address 127.0.0.1:8077 -state /var/lib/confined

[Install]
WantedBy=multi-user.target
END
# As one of files on the network: local-fs.target does not wait for it.
cat >$units/late.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/sleep 8
END
cat >$units/mnt-late.mount <<'END'
[Unit]
DefaultDependencies=no
Requires=late.service
After=late.service

[Mount]
What=/var/spool/late
Where=/mnt/late
Type=none
Options=bind

[Install]
WantedBy=multi-user.target
END
mkdir --parents /mnt/late /var/spool/late /run/by-hand
mkdir --mode=1777 /var/spool/late/exports

names=()
unit() { # NAME LINE...: it ends at once; its end at 226 counts as success, so that no unit is left failed
    names+=("$1.service")
    printf '%s\n' "${@:2}" '[Service]' Type=oneshot ExecStart=/usr/bin/true ProtectSystem=strict \
        SuccessExitStatus=226 '[Install]' WantedBy=multi-user.target >"$units/$1.service"
}
unit below-run '[Service]' ReadWritePaths=/run/by-hand
unit below-mount '[Service]' ReadWritePaths=/mnt/late/exports
unit with-dash '[Service]' ReadWritePaths=-/run/by-hand
unit waiting '[Unit]' RequiresMountsFor=/mnt/late/exports '[Service]' ReadWritePaths=/mnt/late/exports
unit own-directory '[Service]' RuntimeDirectory=by-unit

systemctl daemon-reload
systemctl enable --quiet --now mnt-late.mount
systemctl enable --quiet --now confined "${names[@]}"
timeout 60 bash -c 'until curl --fail --silent --output /dev/null http://127.0.0.1:8077/healthz; do sleep 0.3; done'
statuses=$(systemctl show --property=ExecMainStatus --value "${names[@]}" | xargs)
echo "{\"before\": \"$statuses\"}"
