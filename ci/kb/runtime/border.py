"""What other libraries do without promising it, looked at before anything runs.

Where they change, each of these would go wrong in silence: parameters that nobody checks, a secret
in an output.
"""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import version
from typing import Any

from kb.runtime import parameters

SENT_BY = ("stream", "msg_or_type", "content")  # what `redact` reads in a session's `send`


class BorderError(Exception):
    """A library that does something in another way. One sentence."""

    def __init__(self, library: str, what: str) -> None:
        super().__init__(
            f"{library} {version(library)} {what} in a way that is unknown here: install the"
            " version that requirements-host.txt names (nothing has been changed)"
        )

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check_injected(nb: Any) -> None:
    """See that papermill's cell of parameters is where, and as, the guard reads it.

    Raises :class:`BorderError`, and ParameterError for a cell that holds more than parameters.
    """
    passed = nb.metadata.get("papermill", {}).get("parameters", {})
    cells = [c.source for c in nb.cells if "injected-parameters" in c.metadata.get("tags", [])]
    read = {name for source in cells for name in parameters.passed(source)}
    if not passed.keys() <= read or not all(
        source.startswith(parameters.INJECTED) for source in cells
    ):
        raise BorderError("papermill", "writes parameters")


def check_senders(ipython: Any) -> None:
    """See that all that a kernel sends goes through its session's ``send``, where it is masked."""
    session = ipython.kernel.session
    known = list(inspect.signature(session.send).parameters)[: len(SENT_BY)] == list(SENT_BY)
    senders = (sys.stdout, sys.stderr, ipython.display_pub, ipython.displayhook)
    if not known or any(getattr(sender, "session", None) is not session for sender in senders):
        raise BorderError("ipykernel", "sends outputs")
