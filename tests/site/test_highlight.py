"""Colours change nothing of the code."""

from __future__ import annotations

import html
import re

import pytest
from kb.site import highlight

BASH = """if [ -e "$go" ]; then # a <comment>
    cat >"$TMPDIR/x" <<'EOF'
$not {a} 'variable' & "that"
EOF
fi
echo $'\\n' "${a:-'b'}" `date` $((1 + 2)) \\
"""
PYTHON = '''import re  # a <comment> "with quotes"
text = f"{a['b']}" r'\\d' """three
lines # no comment""" + \'\'\'it's\'\'\' + "open
def f(x: int = 0x1F) -> str: return print(None)
'''


def text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize(("code", "language"), [(BASH, "bash"), (PYTHON, "python"), ("", "python")])
def test_the_code_stays_as_it_is(code: str, language: str, sparse: bool) -> None:
    shown = highlight.block(code, language, sparse=sparse)
    assert text(shown) == code + "\n"


@pytest.mark.parametrize(
    ("code", "language", "span"),
    [
        ("x = 1  # why", "python", "<span class=c># why</span>"),
        ('x = "# no comment"', "python", '<span class=s>"# no comment"</span>'),
        ("return form", "python", "<span class=k>return</span> form"),
        ("len(x)", "python", "<span class=nb>len</span>(x)"),
        ("n = 10_000", "python", "<span class=m>10_000</span>"),
        ('rb"x" + b', "python", '<span class=s>rb"x"</span> + b'),
        ("echo $HOME # why", "bash", "<span class=nv>$HOME</span>"),
        ("if true; then", "bash", "<span class=k>if</span>"),
    ],
)
def test_colours(code: str, language: str, span: str) -> None:
    assert span in highlight.block(code, language)


def test_what_a_terminal_obeys_is_no_code() -> None:
    shown = highlight.block("echo \x1b[31m\u202e<b>", "bash")
    assert "\x1b" not in shown and "\u202e" not in shown and "<b>" not in shown


def test_strings_that_never_end_are_quick() -> None:
    assert len(highlight.block('"""' * 20_000 + "'" * 20_000 + "\\" * 20_000, "python")) > 60_000
