"""Starts the kernel on a host that CI made (``python -m kb.kernel -f CONNECTION``)."""

from __future__ import annotations

import os
import sys

from ipykernel.kernelapp import IPKernelApp

# A host's kernel leaves nothing on it that a snapshot would see, and cells do not see how.
FOR_KERNEL_ONLY = ("PYTHONDONTWRITEBYTECODE", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")


def main() -> None:
    """Serve until told to stop.

    The sockets are made for everyone: whoever called may not be the user that the host runs as. The
    directory they lie in is the caller's alone, and each message is signed.
    """
    mask = os.umask(0)
    app = IPKernelApp.instance()
    app.initialize([*sys.argv[1:], "--HistoryManager.enabled=False", "--quiet"])
    os.umask(mask)
    for name in FOR_KERNEL_ONLY:
        os.environ.pop(name, None)
    app.start()


if __name__ == "__main__":
    main()
