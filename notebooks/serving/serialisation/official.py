"""Prints the hash of a state that the official library reads: official.py FILE"""

import hashlib
import sys
from pathlib import Path

import safetensors

total = hashlib.sha256()
for name, tensor in sorted(safetensors.deserialize(Path(sys.argv[1]).read_bytes())):
    shape = " ".join(map(str, tensor["shape"]))
    total.update(f"{name} [{shape}]\n".encode())
    total.update(tensor["data"])
print(total.hexdigest())
