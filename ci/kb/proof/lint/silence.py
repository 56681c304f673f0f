"""Commands whose failure ends a bash cell without a word, since cells run under errexit, pipefail.

A `grep` that finds nothing has failed. In an assignment, or in the middle of a pipeline, it ends
the cell before the message that was meant for that case. And what a command said is lost if it
fails inside `seen=$(...)`, with `echo "$seen"` as the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kb.proof.statements import statements

SEARCH = re.compile(r"(?<![\w-])(?:[efz]?grep|pgrep|pidof)\b(?![^|]*\s(?:-\w*q\w*|--quiet)\b)")
LOOKS = re.compile(r"^(?:if|elif|while|until|!)\b|^!")  # a status that is asked for ends nothing
ASSIGNED = re.compile(r"^(?:\w+=\S*\s+)*(\w+)=\"?\$\((.*)\)\"?$", re.DOTALL)


def silent_ends(script: str) -> Iterator[tuple[int, str]]:
    """The line, from 1, of each such command, and what is wrong with it."""
    printed = ""  # by the statement before: what `echo` of it would print if that had not failed
    begun = 0
    for number, statement in statements(script):
        said = re.fullmatch(r'(?:echo|printf [^ ]+) "\$\{?(\w+)\}?"', statement)
        if printed and said and said[1] == printed:
            yield (
                begun,
                (
                    f"if this fails, what it said is lost, since `{statement}` comes too late:"
                    f' use `... | tee "$TMPDIR/{printed}"`'
                ),
            )
        printed = ""
        if LOOKS.match(statement) or "||" in _outer(statement):
            continue
        assigned = ASSIGNED.match(statement)
        if assigned is None:
            *filters, _ = _outer(statement).split("|")
            if any(map(SEARCH.search, filters)):
                yield number, _ADVICE
        elif "||" not in assigned[2]:
            printed, begun = assigned[1], number
            if SEARCH.search(assigned[2]):
                yield number, _ADVICE


_ADVICE = (
    "a search that finds nothing has failed, and ends the cell here: say what that means with"
    " `|| kb-refuse ...`, or that it is fine with `{ grep ... || true; }`"
)


def _outer(statement: str) -> str:
    """A statement without what is in parentheses and braces."""
    while (shorter := re.sub(r"\([^()]*\)|\{ [^{}]*\}", "", statement)) != statement:
        statement = shorter
    return statement
