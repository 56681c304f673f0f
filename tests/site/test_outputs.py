"""Outputs of every kind become HTML that can do no harm, files, and text for the search."""

from __future__ import annotations

import base64

import pytest
from corpus import display, mime, png, settled, stream
from kb.runtime import preview
from kb.runtime.settle import MIME as SETTLED
from kb.site import outputs
from kb.site.render import evidence


class Shelf:
    """Keeps files as the site would."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def store(self, content: bytes, suffix: str) -> str:
        name = f"file-{len(self.files)}{suffix}"
        self.files[name] = content
        return name

    def render(self, *shown: dict[str, object], inline: int = outputs.INLINE) -> outputs.Rendered:
        return outputs.render(
            shown, store=self.store, verdict=lambda s: str(s["claim"]), inline=inline
        )


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_the_type_of_a_plan_is_that_of_the_preview() -> None:
    assert outputs.PLAN == preview.MIME


def test_a_plan_has_the_colours_of_a_diff(shelf: Shelf) -> None:
    """Nobody vouches for its lines, nor for what they are said to be."""
    lines = [["head", "would change /etc/x"], ["at", "@@ -1 +1 @@"], ["del", "-<b>"], ["add", "+a"]]
    lines += [["", " same"], ["onclick=x", "odd\x1b[31m"]]
    text = "\n".join(line for _, line in lines)
    shown = shelf.render(display(**{"text/plain": text, preview.MIME: {"lines": lines}}))
    assert shown.html == (
        '<pre class="kb-out" tabindex="0"><span class="ansi-bold">would change /etc/x</span>\n'
        '<span class="ansi-cyan">@@ -1 +1 @@</span>\n<span class="kb-del">-&lt;b&gt;</span>\n'
        '<span class="kb-add">+a</span>\n same\nodd</pre>'
    )
    assert "would change /etc/x" in shown.text
    for broken in (None, {}, {"lines": "x"}, {"lines": [["add"]]}):
        assert "cannot be read" in shelf.render(mime(preview.MIME, broken)).html


def test_streams_are_joined_in_order(shelf: Shelf) -> None:
    shown = shelf.render(stream("one\n"), {**stream("two\n"), "name": "stderr"})
    assert shown.html == '<pre class="kb-out" tabindex="0">one\ntwo</pre>'
    assert shown.text == "one\ntwo"


def test_html_keeps_its_table_and_loses_its_teeth(shelf: Shelf) -> None:
    shown = shelf.render(
        display(
            text_html="<table id='x' class='y' style='position:fixed'><tr><th>a</th>"
            "<td onclick='f()'>b</td></tr></table><script>f()</script><style>*{}</style>"
            "<iframe src='//e'></iframe><img src=x onerror=f()><form><input></form>"
            "<a href='javascript:f()'>l</a><svg><script>f()</script></svg>"
        )
    )
    assert "<th>a</th><td>b</td>" in shown.html
    for part in ("script", "style", "iframe", "img", "form", "input", "svg", "on", "id=", "href"):
        assert f"<{part}" not in shown.html and f" {part}" not in shown.html
    assert "f()" not in shown.html
    assert "a" in shown.text and "b" in shown.text


def test_html_that_closes_what_it_did_not_open_stays_inside(shelf: Shelf) -> None:
    shown = shelf.render(display(text_html="</div></section></main><b>x"))
    assert shown.html == '<div class="kb-html" tabindex="0"><b>x</b></div>'


def test_html_too_large_to_parse_is_shown_as_text(shelf: Shelf) -> None:
    shown = shelf.render(display(text_html="<div>" * 60_000, text_plain="a table"))
    assert shown.html == '<pre class="kb-out" tabindex="0">a table</pre>'


def test_pictures_are_files(shelf: Shelf) -> None:
    image = png(width=30, height=20)
    shown = shelf.render(mime("image/png", base64.b64encode(image).decode()))
    assert shelf.files == {"file-0.png": image}
    assert 'src="file-0.png"' in shown.html
    assert 'width="30" height="20"' in shown.html
    assert 'alt="Picture drawn by this cell"' in shown.html


@pytest.mark.parametrize("content", ["not base64!", base64.b64encode(b"<html>").decode()])
def test_a_picture_that_is_none_is_not_published(shelf: Shelf, content: str) -> None:
    shown = shelf.render(mime("image/png", content))
    assert "not shown" in shown.html
    assert not shelf.files


def test_a_drawing_is_a_file_without_scripts(shelf: Shelf) -> None:
    drawing = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd">'
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        ' onload="f()"><script>f()</script><foreignObject><p/></foreignObject>'
        '<style>@import "http://e/x.css";</style><a href="javascript:f()"><text>x</text></a>'
        '<use xlink:href="#a"/><use xlink:href="http://e/x.svg#a"/><animate attributeName="href"/>'
        '<rect style="fill:url(#g)" id="a"/><rect style="fill:url(http://e/)"/></svg>'
    )
    shown = shelf.render(mime("image/svg+xml", drawing))
    (content,) = shelf.files.values()
    kept = content.decode()
    assert shown.html.startswith("<img ")
    assert 'xlink:href="#a"' in kept and "fill:url(#g)" in kept
    for part in ("script", "onload", "foreignObject", "import", "http://e", "animate", "<a"):
        assert part not in kept


def test_long_text_is_cut_in_the_middle_and_kept_beside_the_page(shelf: Shelf) -> None:
    lines = [f"line {number}" for number in range(10_000)]
    shown = shelf.render(stream("\n".join(lines)), inline=1000)
    assert "line 0\n" in shown.html and "line 9999" in shown.html
    assert "are left out here" in shown.html and 'href="file-0.txt"' in shown.html
    assert len(shown.html) < 2000
    assert shelf.files["file-0.txt"].decode().splitlines() == lines
    assert len(shown.text) <= outputs.SEARCHED


def test_twenty_megabytes_are_cut_everywhere(shelf: Shelf) -> None:
    shown = shelf.render(stream("x" * 20_000_000))
    assert len(shown.html) < outputs.INLINE + 1000
    assert len(shelf.files["file-0.txt"]) < outputs.TEXT_FILE + 100
    assert "the first part" in shown.html


def test_scripts_and_unknown_types_are_named_and_not_shown(shelf: Shelf) -> None:
    shown = shelf.render(mime("application/javascript", "f()"), mime("application/<x>", "y"))
    assert "application/javascript" in shown.html and "f()" not in shown.html
    assert "application/&lt;x&gt;" in shown.html


def test_an_error_is_its_sentence_with_the_traceback_a_click_away(shelf: Shelf) -> None:
    shown = shelf.render(
        {
            "output_type": "error",
            "ename": "StepError",
            "evalue": "apply failed <here>",
            "traceback": ["\x1b[31mTraceback\x1b[0m", "more"],
        }
    )
    assert "<strong>Failed</strong> apply failed &lt;here&gt;" in shown.html
    assert '<details class="kb-more"><summary>Traceback</summary>' in shown.html
    assert shown.text == "apply failed <here>"


def test_a_verdict_is_rendered_by_the_ledger(shelf: Shelf) -> None:
    assert shelf.render(settled("a1-x", "confirmed", "got 1")).html == "a1-x"
    assert "cannot be read" in shelf.render(mime(SETTLED, "no object")).html


@pytest.mark.parametrize("output", [{}, {"output_type": "display_data"}, mime("text/plain", None)])
def test_odd_outputs_break_nothing(shelf: Shelf, output: dict[str, object]) -> None:
    shelf.render(output)


def test_of_a_long_output_the_first_lines_are_seen(shelf: Shelf) -> None:
    lines = [f"line {number}" for number in range(outputs.LONG)]
    assert "<details" not in shelf.render(stream("\n".join(lines))).html
    seen, _, folded = shelf.render(stream("\n".join([*lines, "the end"]))).html.partition("<det")
    assert f"line {outputs.FIRST - 1}</pre>" in seen
    assert f"<summary>{len(lines) + 1 - outputs.FIRST} more lines</summary>" in folded
    assert "the end</pre>" in folded


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "refuted if `` contains `read`: no; and `` lacks `*`: yes",
            "refuted if <em>nothing</em> contains <code>read</code>: no; and <em>nothing</em> lacks"
            " <code>*</code>: yes",
        ),
        (
            "confirmed if not (`a version `X_2' not found` matches `^(<|>)$`: no)",
            "confirmed if not (<code>a version `X_2&#x27; not found</code> matches"
            " <code>^(&lt;|&gt;)$</code>: no)",
        ),
    ],
)
def test_values_in_a_line_of_evidence_are_code(line: str, shown: str) -> None:
    """One may be empty, or hold the sign that ends it."""
    assert evidence(line) == shown
