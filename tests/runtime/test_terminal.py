"""Terminal text that is published holds colours and nothing else a terminal obeys."""

import pytest
from kb.runtime import terminal


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("10%\r50%\r100%\ndone", "100%\ndone"),
        ("abc\b\bX", "aX"),
        ("\x1b[2J\x1b[1;1Hcleared\x1b[K", "cleared"),
        ("\x1b]8;;http://elsewhere.example\x07link\x1b]8;;\x07", "link"),
        ("\x1b]8;;http://elsewhere.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title that never ends\nnext", "\nnext"),
        ("\x1bPpayload\x1b\\x\x1b", "x"),
        ("\x1b\x1b[0K[31mnot red", "[31mnot red"),
        ("\x1b[31\bm", ""),
        ("nul\x00 c1\x9b31m del\x7f", "nul\ufffd c1\ufffd31m del\ufffd"),
        ("half a pair \ud800", "half a pair \ufffd"),
        ("evil\u202etxt.exe", "evil\ufffdtxt.exe"),
    ],
)
def test_control_sequences_go(raw: str, shown: str) -> None:
    assert terminal.plain(terminal.clean(raw)) == shown
    assert "\x1b" not in terminal.to_html(terminal.clean(raw))


@pytest.mark.parametrize(
    ("raw", "html"),
    [
        ("\x1b[31mbad\x1b[0m good", '<span class="ansi-red">bad</span> good'),
        ("\x1b[1;92mok\x1b[m", '<span class="ansi-bold ansi-green">ok</span>'),
        ("\x1b[1;31ma\x1b[22mb\x1b[39mc", '<span class="ansi-bold ansi-red">a</span>'
         '<span class="ansi-red">b</span>c'),
        ("\x1b[38;5;196mx\x1b[38;2;1;2;3my\x1b[48;5;1mz", "xyz"),
        ("\x1b[99999999999999999999m<b>", "&lt;b&gt;"),
        ("\x1b[31m<script>\x1b[0m", '<span class="ansi-red">&lt;script&gt;</span>'),
    ],
)  # fmt: skip
def test_colours_become_classes(raw: str, html: str) -> None:
    assert terminal.to_html(terminal.clean(raw)) == html


def test_a_long_line_without_a_return_is_quick() -> None:
    # A pattern that goes back and forth would not come to an end here.
    assert len(terminal.clean("x" * 5_000_000 + "\ry")) == 1
