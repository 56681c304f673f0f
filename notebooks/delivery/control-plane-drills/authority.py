"""A certificate authority of openssl's, for a server on loopback."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

SETTINGS = """\
[ca]
default_ca = drills
[drills]
database = {work}/{name}.db
new_certs_dir = {work}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
"""


def openssl(command: str) -> None:
    """One of its commands, without a file name that has a blank."""
    subprocess.run(["openssl", *command.split()], check=True, capture_output=True)


class Authority:
    """Issues certificates for the key of one server."""

    def __init__(self, work: Path, name: str) -> None:
        self._work, self._name = work, name
        self.certificate = work / f"{name}.crt"
        (work / f"{name}.db").touch()
        (work / f"{name}.cnf").write_text(SETTINGS.format(work=work, name=name))
        key = f"-newkey rsa:2048 -nodes -keyout {work}/{name}.key"
        openssl(f"req -x509 {key} -days 30 -subj /CN={name} -out {self.certificate}")
        if not (work / "serving.key").exists():
            openssl(f"genrsa -out {work}/serving.key 2048")

    def issue(self, begins: int, ends: int, address: str) -> Path:
        """serving.crt, for that address, valid between two hours from now."""
        now = datetime.datetime.now(datetime.UTC)
        first, last = (
            f"{now + datetime.timedelta(hours=hours):%Y%m%d%H%M%SZ}" for hours in (begins, ends)
        )
        work, made = self._work, self._work / "serving.crt"
        subject = f"-subj /CN=kube-apiserver -addext subjectAltName=IP:{address}"
        openssl(f"req -new -key {work}/serving.key {subject} -out {work}/serving.csr")
        openssl(
            f"ca -batch -notext -config {work}/{self._name}.cnf -cert {self.certificate} "
            f"-keyfile {work}/{self._name}.key -startdate {first} -enddate {last} "
            f"-in {work}/serving.csr -out {made}.new"
        )
        return Path(f"{made}.new").replace(made)
