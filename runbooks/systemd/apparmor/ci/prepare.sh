#!/bin/bash
# Gives a bare host a small service to confine: it listens on port 80 as a user of its own, keeps notes,
# writes a log that it opens again on SIGHUP, and hands out any file that a name with ../ in it leads to.
set -Eeuo pipefail

install --mode=755 "$KB_FIXTURES/confined/notes" /usr/local/bin/notes
useradd --system --home-dir /var/lib/notes --shell /usr/sbin/nologin notes
install --directory --owner=notes --group=notes /var/lib/notes /var/log/notes
install --directory /etc/notes
echo "the notes are ready" >/etc/notes/notes.conf
cat >/etc/systemd/system/notes.service <<'END'
[Unit]
Description=Notes

[Service]
User=notes
ExecStart=/usr/local/bin/notes
AmbientCapabilities=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
END
cat >/usr/local/bin/notes-work <<'END'
#!/bin/bash -e
# Puts the service through its work: a note is written and read, the log rotated and opened again.
echo "buy milk" | curl --fail --silent --show-error --upload-file - 'http://127.0.0.1/note?name=a'
echo "the note reads: $(curl --fail --silent --show-error 'http://127.0.0.1/note?name=a')"
mv /var/log/notes/notes.log /var/log/notes/notes.log.1
systemctl kill --kill-whom=main --signal=HUP notes
timeout 10 sh -c 'until [ -e /var/log/notes/notes.log ]; do sleep 0.1; done'
curl --fail --silent --show-error --output /dev/null 'http://127.0.0.1/note?name=a'
echo "the log after the rotation: $(cat /var/log/notes/notes.log)"
END
chmod 755 /usr/local/bin/notes-work
systemctl daemon-reload
systemctl enable --quiet --now notes
timeout 60 sh -c 'until curl --fail --silent --output /dev/null http://127.0.0.1/healthz; do sleep 0.3; done'
echo '{"exercise": "/usr/local/bin/notes-work", "attack": "curl --fail --silent --show-error http://127.0.0.1/note?name=../../../etc/passwd"}'
