#!/bin/bash
# Gives a bare host age, sops, a key of its own, and a service's secrets: those that are in use, and the next ones,
# both encrypted. The last line is the parameters that the runbook is then given.
set -Eeuo pipefail
umask 077
install --mode=755 "$KB_FIXTURES/age/debian/usr/bin/"age{,-keygen} "$KB_FIXTURES/sops/bin/sops" /usr/local/bin/
useradd --system app
mkdir /etc/secrets
age-keygen -o /etc/secrets/age.key 2>/dev/null
recipient=$(age-keygen -y /etc/secrets/age.key)
plain=$(mktemp --tmpdir=/dev/shm --suffix=.yaml)
for secrets in /etc/secrets/app.yaml /srv/app.yaml; do
    value() { head --bytes=18 /dev/urandom | base64; }
    printf 'database: postgres://app:%s@db/app\ntoken: kb-secret-%s\npin: "4711"\nlogin: |\n    user app\n\n    password %s\n' \
        "$(value)" "$(value)" "$(value)" >"$plain"
    HOME=/nonexistent sops encrypt --age "$recipient" "$plain" >"$secrets"
done
rm "$plain"
cat <<END
{"file": "/srv/app.yaml", "directory": "/dev/shm/secrets/app", "owner": "app", "demonstration": "$KB_FIXTURES/rotation/rotation"}
END
