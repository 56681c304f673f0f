#!/bin/bash
# Gives a bare host a job's user with a checkpoint of theirs. A container's /dev/shm is a small file system.
set -Eeuo pipefail
useradd --system trainer
install --directory --owner=trainer --group=trainer --mode=750 /srv/job
python3 - <<'END'
import json, struct

header = json.dumps({"w": {"dtype": "U8", "shape": [2048], "data_offsets": [0, 2048]}}).encode()
with open("/srv/job/last.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + bytes(2048))
END
chown trainer:trainer /srv/job/last.safetensors
chmod 640 /srv/job/last.safetensors
cat <<'END'
{"checkpoint": "/srv/job/last.safetensors", "demonstration": "/dev/shm"}
END
