"""What a cell's ``assert`` says when it does not hold: the words that it has, and what was seen.

Python says nothing but ``AssertionError``, and whoever reads that in CI's log cannot look again.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Mapping

LONGEST = 300  # characters of one value

_SHOWN = (ast.Name, ast.Attribute, ast.Subscript)
_ONCE = (ast.Await, ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Call)  # not to be done again


class Told(ast.NodeTransformer):
    """Gives each ``assert`` without a message one; for IPython's ``ast_transformers``."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        if node.msg is None:
            words = ast.unparse(node.test)
            seen = ", ".join(f"{part!r}: lambda: {part}" for part in _parts(node.test))
            call = f"__import__('kb.runtime.asserts').runtime.asserts.told({words!r}, {{{seen}}})"
            node.msg = ast.parse(call, mode="eval").body
            ast.fix_missing_locations(ast.copy_location(node.msg, node))
        return node


def _parts(test: ast.expr) -> list[str]:
    """The names, attributes and items of ``test``, the outermost of each; not what is called."""
    if isinstance(test, _SHOWN) and not any(isinstance(part, _ONCE) for part in ast.walk(test)):
        return [ast.unparse(test)]
    children = list(ast.iter_child_nodes(test))
    if isinstance(test, ast.Call):  # of `row["x"].startswith("y")`, row["x"] tells something
        owner = [test.func.value] if isinstance(test.func, ast.Attribute) else []
        children = [*owner, *test.args, *(keyword.value for keyword in test.keywords)]
    found = [part for child in children if isinstance(child, ast.expr) for part in _parts(child)]
    return list(dict.fromkeys(found))


def told(words: str, seen: Mapping[str, Callable[[], object]]) -> str:
    """The sentence of an assertion: ``words``, and what each of the expressions in it is now."""
    values = []
    for name, value in seen.items():
        # What is bound by a comprehension, or stands behind an `and`, may not be there.
        with contextlib.suppress(Exception):
            if callable(it := value()):
                continue  # `str` in isinstance(x, str)
            shown = repr(it)
            values.append(f"{name} = {shown[:LONGEST]}{'…' if len(shown) > LONGEST else ''}")
    return "; ".join([words, *values])
