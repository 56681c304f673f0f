#!/bin/bash
# A host with a service whose script somebody wrote on Windows and copied here: its lines end otherwise,
# and it has lost its right to be executed.
set -Eeuo pipefail
install --mode=755 "$KB_FIXTURES/startup/orders" /usr/local/bin/orders
printf '#!/bin/bash\r\nexec /usr/local/bin/orders -listen 127.0.0.1:8080\r\n' >/usr/local/bin/start-orders
chmod 644 /usr/local/bin/start-orders
cat <<END
{"command": "/usr/local/bin/start-orders", "ready": "http://127.0.0.1:8080/healthz", "user": "nobody", "within": 60, "demonstration": "$KB_FIXTURES"}
END
