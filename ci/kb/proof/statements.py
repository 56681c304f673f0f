"""A bash script taken apart into its simple statements, as far as rules and pages need that."""

from __future__ import annotations

import re
from collections.abc import Iterator

KEYWORD = re.compile(r"^(?:then|do|else|\{|\w[\w-]* ?\(\) ?\{)\s+")
HERE = re.compile(r"<<(-?)\s*(?:\"(\w+)\"|'(\w+)'|\\?(\w+))")


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
