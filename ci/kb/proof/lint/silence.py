"""Commands whose failure ends a bash cell without a word, since cells run under errexit, pipefail.

A `grep` that finds nothing has failed. In an assignment, or in the middle of a pipeline, it ends
the cell before the message that was meant for that case. And what a command said is lost if it
fails inside `seen=$(...)`, with `echo "$seen"` as the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SEARCH = re.compile(r"(?<![\w-])(?:[efz]?grep|pgrep|pidof)\b(?![^|]*\s(?:-\w*q\w*|--quiet)\b)")
LOOKS = re.compile(r"^(?:if|elif|while|until|!)\b|^!")  # a status that is asked for ends nothing
KEYWORD = re.compile(r"^(?:then|do|else|\{|\w[\w-]* ?\(\) ?\{)\s+")
ASSIGNED = re.compile(r"^(?:\w+=\S*\s+)*(\w+)=\"?\$\((.*)\)\"?$", re.DOTALL)
HERE = re.compile(r"<<(-?)\s*(?:\"(\w+)\"|'(\w+)'|\\?(\w+))")


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


def statements(script: str) -> Iterator[tuple[int, str]]:
    """Each simple statement, with its first line; texts in quotes are left out."""
    text = _bare(_without_documents(script))
    number, start, depth, statement = 1, 1, 0, ""
    for at, character in enumerate(text):
        if not statement.strip():
            start, statement = number, ""
        depth += (character == "(") - (character == ")" and depth > 0)
        whole = statement.rstrip()
        ends = character in ";\n" and depth == 0 and not whole.endswith(("|", "&&", "\\"))
        if ends or at == len(text) - 1:
            statement += "" if ends else character
            yield start, _stripped(statement)
            statement = ""
        else:
            statement += " " if character == "\n" else character
        number += character in "\n\r"


def _stripped(statement: str) -> str:
    statement = statement.replace("\\ ", " ").strip()
    while found := KEYWORD.match(statement):
        statement = statement[found.end() :]
    return statement


def _outer(statement: str) -> str:
    """A statement without what is in parentheses and braces."""
    while (shorter := re.sub(r"\([^()]*\)|\{ [^{}]*\}", "", statement)) != statement:
        statement = shorter
    return statement


def _without_documents(script: str) -> str:
    """The script with its here documents emptied, line for line."""
    kept, end = [], ""
    for line in script.splitlines():
        if end:
            kept.append("")
            end = "" if line.strip() == end else end
            continue
        kept.append(line)
        if found := HERE.search(line):
            end = next(filter(None, found.groups()[1:]))
    return "\n".join(kept) + "\n"


def _bare(script: str) -> str:
    """The script without comments and without what is in quotes, but for `$(...)` and `$name`.

    A line that ends within quotes is a carriage return: it ends no statement, and counts as a line.
    """
    found, quoted = "", [False]  # whether we are in double quotes, one for each `$(` around us
    at = 0
    while at < len(script):
        character = script[at]
        if character == "\\" and script[at + 1 : at + 2] != "\n":
            at += 2
            continue
        if character == '"':
            quoted[-1] = not quoted[-1]
        elif script.startswith("$(", at) and not script.startswith("$((", at):
            quoted.append(False)
            found += "$("
            at += 2
            continue
        elif character == ")" and len(quoted) > 1 and not quoted[-1]:
            quoted.pop()
        elif quoted[-1]:
            if character == "\n":
                character = "\r"
            elif not re.match(r"\$\{?\w|[\w{}]", script[at : at + 3]):
                at += 1
                continue
        elif character == "'":
            end = script.find("'", at + 1)
            end = len(script) if end < 0 else end
            found += "_" + "\r" * script.count("\n", at, end)
            at = end + 1
            continue
        elif character == "#" and re.match(r"(^|\s)$", script[at - 1 : at]):
            at = script.find("\n", at)
            at = len(script) if at < 0 else at
            continue
        found += character
        at += 1
    return found
