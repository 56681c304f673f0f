"""All that a user is told when something is wrong stands in tests/errors: one place to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import golden
import pytest

ROOT = Path(__file__).parents[2]
SENTENCE = 6  # letters of its own that make a text a message; one with fewer passes another's on
# Functions that return a sentence about what is wrong, and lists of such sentences.
RETURNING = {"why_ended", "why_dead", "hung", "lacks", "why_not", "_sentence", "_wrong_type"}
LISTS = {"damage", "failed", "refused"}
# Whatever raises these is a defect of ours: it has a traceback.
OURS = {"AssertionError", "KeyboardInterrupt"}
# What a plan cannot foresee is a line of the plan, shown in test_rehearsal.
OURS |= {"UnavailableError", "UnknownError", "AfterActsError"}
# What no test brings about, each with the reason.
UNSHOWN = {
    "it is being changed at this moment: stop what writes there": "it is between two system calls",
    "somebody puts things in its way at this moment": "as above",
}


def template(node: ast.AST) -> str:
    """A regular expression of what an expression comes to: what is put in can be anything."""
    match node:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(map(template, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left) + template(right)
        case ast.IfExp(body=body, orelse=other):
            return f"(?:{template(body)}|{template(other)})"
        case _:
            return "(?s:.*)"


def said_by(node: ast.AST) -> Iterator[ast.AST]:
    """The messages that a statement or an expression gives to a user."""
    match node:
        case ast.Raise(exc=ast.Call(func=kind, args=[message, *_])):
            if ast.unparse(kind) not in OURS:
                yield message
        case ast.Call(func=ast.Name("print"), args=[message], keywords=[ast.keyword(arg="file")]):
            yield message
        case ast.Call(func=ast.Attribute(attr="fail"), args=[message, *_]):
            yield message
        case ast.Call(func=ast.Name("need"), args=[_, message]):
            yield message
        case ast.Call(func=ast.Attribute(ast.Name(name), "append"), args=[message]):
            if name in LISTS:
                yield message
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "message":
                    yield value
        case ast.FunctionDef(name=name) if name in RETURNING:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value:
                    yield inner.value


def in_python(path: Path) -> Iterator[tuple[int, str]]:
    """Line and template of each message in a program."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    if path.name == "rules.py":  # each rule yields what breaks it
        nodes += [
            ast.Raise(ast.Call(node, [node.value], []))
            for node in nodes
            if isinstance(node, ast.Yield)
        ]
    for node in nodes:
        for message in said_by(node):
            yield message.lineno, template(message)


def in_bash(path: Path) -> Iterator[tuple[int, str]]:
    """The same in a script: what `kb-refuse` and `die` say."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(
        r'(?:\bkb-refuse|\bdie)\s+"((?:[^"\\]|\\.|\$\(\([^)]*\)\)|\$\([^)]*\))*)"', text
    ):
        pieces = re.split(
            r"\$\{[^}]*\}|\$\(\([^)]*\)\)|\$\([^)]*\)|\$\w+|\$\*", found[1].replace("\\", "")
        )
        yield text.count("\n", 0, found.start()) + 1, "(?s:.*)".join(map(re.escape, pieces))


def messages(root: Path) -> Iterator[tuple[str, str]]:
    """Place and template of all messages of the package and of what it comes with."""
    for path in sorted((root / "ci").rglob("*")):
        relative = path.relative_to(root)
        if path.suffix == ".py" and relative.parts[1] == "kb":
            found = in_python(path)
        elif path.suffix == ".sh" and relative.parts[1] in ("kb", "setup", path.name):
            found = in_bash(path)
        else:
            continue
        for line, pattern in found:
            words = re.sub(r"\(\?s:\.\*\)|\(\?:|[|)]", "", pattern)
            if len(re.findall(r"[a-z]", words)) >= SENTENCE:
                yield f"{relative}:{line}", pattern


def unshown(root: Path, shown: list[str]) -> list[str]:
    """The messages below ``root`` that are not among those that are shown."""
    return [
        f"{place}: {pattern}"
        for place, pattern in messages(root)
        if not any(re.search(pattern, text) for text in shown)
    ]


def test_every_message_is_shown() -> None:
    shown = [text for *_, text in golden.messages()]
    missing = unshown(ROOT, [*shown, *UNSHOWN])
    assert not missing, "\n".join(["show these in a test with the fixture `told`:", *missing])


def test_every_exception_is_one() -> None:
    shown = [text for *_, text in golden.messages()]
    assert not [text for text in UNSHOWN if not unshown(ROOT, [*shown, *UNSHOWN.keys() - {text}])]


def test_what_is_shown_is_told_by_a_test() -> None:
    tests = {
        path.stem.removeprefix("test_"): path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").glob("*/test_*.py")
    }
    for file, title, _ in golden.messages():
        name = re.sub(r"( \(\d+\))?(:.*)?$", "", title).replace(" ", "_")
        assert f"def test_{name}(" in tests[file], f"{file}.txt: no test tells this: {title}"


SAYS = {
    "kb/proof/x.py": 'raise HostError(f"{name} fell off the rack: {why}")',
    "kb/runtime/x.py": 'def why_not(self):\n    return "it is too late for that"',
    "kb/proof/y.py": 'print(f"error: {error} is odd", file=sys.stderr)',
    "kb/runtime/x.sh": 'kb-refuse "$1 is too short: make it longer"',
    "setup/x.sh": 'test -e x ||\n    die "There is no $x, nor ${y:-z}."',
}


@pytest.mark.parametrize("path", SAYS)
def test_a_new_message_does_not_escape(path: str, tmp_path: Path) -> None:
    file = tmp_path / "ci" / path
    file.parent.mkdir(parents=True)
    file.write_text(f"{SAYS[path]}\n")
    [missing] = unshown(tmp_path, ["it fell", "it is too long"])
    assert missing.startswith(f"ci/{path}:")
