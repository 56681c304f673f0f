"""Cell outputs, which nobody vouches for, made into HTML that can do no harm."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import nh3

from kb.runtime import terminal
from kb.runtime.matrix import MIME as MATRIX
from kb.runtime.settle import MIME as SETTLED

# Spelt out: with its module comes all that foresees, which takes as long as a page.
PLAN = "application/vnd.noble-runbooks.plan+json"

INLINE = 16_000  # characters of one text output on a page
LONG = 24  # lines of one, above which it is folded
FIRST = 8  # of its lines that are not
SEARCHED = 4_000  # characters of one output in the search index
TEXT_FILE = 2_000_000  # characters of one text output in a file beside the page
HTML = 60_000  # characters of one HTML output; the parser's time grows with the square of depth
IMAGE = 8_000_000  # bytes of one image

_RASTER = {
    "image/png": (b"\x89PNG\r\n\x1a\n", ".png"),
    "image/jpeg": (b"\xff\xd8\xff", ".jpg"),
    "image/gif": (b"GIF8", ".gif"),
}
_TEXT = ("text/plain", "text/markdown", "text/latex", "application/json")

# What the lines of a plan are, and how they are shown.
_PLAN = {
    "head": "ansi-bold",
    "add": "kb-add",
    "del": "kb-del",
    "at": "ansi-cyan",
    "note": "ansi-faint",
}

_TAGS = (
    "a abbr b blockquote br caption code col colgroup dd del div dl dt em hr i ins kbd li mark ol p"
    " pre q s samp small span strong sub sup table tbody td tfoot th thead tr u ul var"
)
_ATTRIBUTES = {"a": {"href"}, "th": {"colspan", "rowspan", "scope"}, "td": {"colspan", "rowspan"}}
_DROPPED_WHOLE = {"script", "style", "iframe", "object", "template", "noscript", "title", "svg"}

_BLOCK_END = re.compile(r"</(?:p|li|ul|div)>")

Store = Callable[[bytes, str], str]
"""Takes a file's bytes and suffix, keeps them for the site, returns a URL."""


@dataclass
class Rendered:
    """One or more outputs as HTML, as text to be found by, and as a notebook may hold them."""

    html: str = ""
    text: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)


def render(
    outputs: Iterable[dict[str, Any]],
    *,
    store: Store,
    verdict: Callable[[dict[str, Any]], str],
    inline: int = INLINE,
) -> Rendered:
    """Renders the outputs of one cell in their order.

    Args:
        outputs: outputs in the notebook format, version 4.
        store: keeps a file for the site.
        verdict: renders what `settle` showed.
        inline: characters of one text output that go on the page.
    """
    renderer = _Renderer(store, verdict, inline)
    shown = [renderer.output(output) for output in _merged(outputs)]
    return Rendered(
        html="\n".join(one.html for one in shown if one.html),
        text="\n".join(one.text[:SEARCHED] for one in shown if one.text),
        outputs=[output for one in shown for output in one.outputs],
    )


def _merged(outputs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Joins neighbouring streams, as a terminal would show them."""
    stream: list[str] = []
    for output in outputs:
        if output.get("output_type") == "stream":
            stream.append(_joined(output.get("text", "")))
            continue
        if stream:
            yield {"output_type": "stream", "text": "".join(stream)}
            stream = []
        yield output
    if stream:
        yield {"output_type": "stream", "text": "".join(stream)}


def _joined(value: object) -> str:
    """Multi-line strings may be stored as lists of lines."""
    if isinstance(value, list):
        return "".join(map(str, value))
    return value if isinstance(value, str) else str(value)


def _one_line(value: object, longest: int) -> str:
    return terminal.plain(terminal.clean(_joined(value)))[:longest]


def _notice(sentence: str) -> Rendered:
    said = f'<p class="kb-notice">{html.escape(sentence)}</p>'
    return Rendered(html=said, outputs=[_display({"text/plain": sentence})])


def _display(data: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def _stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text + "\n"}


def _block(inner: str) -> str:
    # tabindex: a box that scrolls has to be reachable by keyboard.
    return f'<pre class="kb-out" tabindex="0">{inner}</pre>'


def _words(markup: str) -> str:
    """What a reader sees of HTML of ours, a line for each block of it."""
    lines = nh3.clean(_BLOCK_END.sub("\n", markup), tags=set()).splitlines()
    return html.unescape("\n".join(" ".join(line.split()) for line in lines if line.strip()))


def _folded(text: str, more: str = "") -> str:
    """An output, of a long one the first lines and the rest a click away."""
    lines = text.split("\n")
    if len(lines) <= LONG:
        return _block(terminal.to_html(text)) + more
    first, rest = "\n".join(lines[:FIRST]), "\n".join(lines[FIRST:])
    return (
        f"{_block(terminal.to_html(first))}"
        f'<details class="kb-more"><summary>{len(lines) - FIRST} more lines</summary>'
        f"{_block(terminal.to_html(rest))}{more}</details>"
    )


def _cut(text: str, size: int) -> tuple[str, str, str]:
    """Splits into head, middle and tail, at line ends where lines are short enough."""
    head_end = text.rfind("\n", size // 3, size * 2 // 3)
    head_end = size * 2 // 3 if head_end < 0 else head_end
    tail_start = text.find("\n", len(text) - size // 3, len(text) - size // 6)
    tail_start = len(text) - size // 3 if tail_start < 0 else tail_start + 1
    return text[:head_end], text[head_end:tail_start].strip("\n"), text[tail_start:]


def matrix_table(seen: object) -> str:
    """What `matrix` showed, as a table that marks where a row changes; "" if it is none."""
    if not isinstance(seen, dict):
        return ""
    columns, rows = seen.get("columns"), seen.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, dict):
        return ""
    head = "".join(
        f'<th scope="col">{html.escape(_one_line(name, 200))}</th>'
        for name in (seen.get("over", ""), *columns)
    )
    body = []
    for name, values in rows.items():
        if not isinstance(values, list) or len(values) != len(columns):
            return ""
        cells = [html.escape(_one_line(value, 500)) for value in values]
        marked = [
            f"<td><mark>{cell}</mark></td>" if before not in (None, cell) else f"<td>{cell}</td>"
            for before, cell in zip([None, *cells], cells, strict=False)
        ]
        label = html.escape(_one_line(name, 200))
        body.append(f'<tr><th scope="row">{label}</th>{"".join(marked)}</tr>')
    return (
        f'<table class="kb-matrix"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


@dataclass
class _Renderer:
    store: Store
    verdict: Callable[[dict[str, Any]], str]
    inline: int

    def output(self, output: dict[str, Any]) -> Rendered:
        kind = output.get("output_type")
        if kind == "stream":
            return self.text(output["text"])
        if kind == "error":
            return self.error(output)
        data = output.get("data")
        return self.bundle(data) if isinstance(data, dict) and data else Rendered()

    def bundle(self, data: dict[str, Any]) -> Rendered:
        """Renders the one representation that says most."""
        renderers: dict[str, Callable[[dict[str, Any]], Rendered]] = {
            SETTLED: self.settled,
            MATRIX: self.matrix,
            PLAN: self.plan,
            **dict.fromkeys(_RASTER, self.raster),
            "image/svg+xml": self.svg,
            "text/html": self.html,
            **dict.fromkeys(_TEXT, self.any_text),
        }
        for mime, renderer in renderers.items():
            if mime in data:
                return renderer(data)
        kinds = ", ".join(sorted(str(mime)[:60] for mime in data)[:5])
        return _notice(f"An output of type {kinds} is not shown.")

    def text(self, raw: str) -> Rendered:
        text = terminal.clean(raw).strip("\n")
        if not text.strip():
            return Rendered()
        searched = terminal.plain(text[: 2 * SEARCHED])
        if len(text) <= self.inline:
            return Rendered(html=_folded(text), text=searched, outputs=[_stream(text)])
        head, left_out, tail = _cut(text, self.inline)
        cut = len(text) > TEXT_FILE
        file = terminal.plain(text[:TEXT_FILE]) + ("\n[cut here]\n" if cut else "\n")
        url = html.escape(self.store(file.encode(), ".txt"))
        said = f"{left_out.count(chr(10)) + 1:,} lines ({len(left_out):,} characters)"
        which = "the first part" if cut else "the whole output"
        return Rendered(
            html=_folded(
                head,
                f'<p class="kb-notice">{said} are left out here: <a href="{url}">{which}</a>.</p>'
                + _block(terminal.to_html(tail)),
            ),
            text=searched,
            outputs=[_stream(f"{head}\n[{said} are left out here]\n{tail}")],
        )

    def any_text(self, data: dict[str, Any]) -> Rendered:
        value = next(data[mime] for mime in _TEXT if mime in data)
        if isinstance(value, dict):
            value = json.dumps(value, indent=2, ensure_ascii=False)
        return self.text(_joined(value))

    def error(self, output: dict[str, Any]) -> Rendered:
        said = _one_line(output.get("evalue", ""), 2000)
        sentence = said or _one_line(output.get("ename", ""), 100) or "the cell failed"
        traceback = output.get("traceback") or []
        trace = "\n".join(map(str, traceback)) if isinstance(traceback, list) else str(traceback)
        kept = {
            "output_type": "error",
            "ename": _one_line(output.get("ename", ""), 100),
            "evalue": sentence,
            "traceback": terminal.clean(trace[: self.inline]).splitlines(),
        }
        more = ""
        if _one_line(trace, 10_000).strip() not in ("", sentence.strip()):
            body = self.text(trace).html
            more = f'<details class="kb-more"><summary>Traceback</summary>{body}</details>'
        box = f'<div class="kb-error"><strong>Failed</strong> {html.escape(sentence)}</div>'
        return Rendered(html=box + more, text=sentence, outputs=[kept])

    def settled(self, data: dict[str, Any]) -> Rendered:
        if not isinstance(data[SETTLED], dict):
            return _notice("A verdict that cannot be read.")
        text = _one_line(data.get("text/plain", ""), SEARCHED)
        shown = self.verdict(data[SETTLED])
        return Rendered(html=shown, text=text, outputs=[_stream(_words(shown))])

    def matrix(self, data: dict[str, Any]) -> Rendered:
        table = matrix_table(data[MATRIX])
        if not table:
            return _notice("A table that cannot be read.")
        text = terminal.plain(terminal.clean(_joined(data.get("text/plain", ""))))
        kept = _display({"text/html": table, "text/plain": text})
        box = f'<div class="kb-html" tabindex="0">{table}</div>'
        return Rendered(html=box, text=text, outputs=[kept])

    def plan(self, data: dict[str, Any]) -> Rendered:
        """What a step would do: its diffs in the colours of a diff."""
        lines = data[PLAN].get("lines") if isinstance(data[PLAN], dict) else None
        if not isinstance(lines, list) or not all(
            isinstance(line, list) and len(line) == 2 for line in lines
        ):
            return _notice("A plan that cannot be read.")
        shown = []
        for kind, text in lines:
            safe = html.escape(_one_line(text, 2000), quote=False)
            name = _PLAN.get(str(kind))
            shown.append(f'<span class="{name}">{safe}</span>' if name and safe else safe)
        if not lines or sum(map(len, shown)) > self.inline:
            return self.text(_joined(data.get("text/plain", "")))
        text = terminal.plain(terminal.clean(_joined(data.get("text/plain", ""))))
        return Rendered(html=_block("\n".join(shown)), text=text)

    def raster(self, data: dict[str, Any]) -> Rendered:
        mime = next(mime for mime in _RASTER if mime in data)
        magic, suffix = _RASTER[mime]
        try:
            image = base64.b64decode(_joined(data[mime]))
        except (binascii.Error, ValueError):
            image = b""
        if not image.startswith(magic) or len(image) > IMAGE:
            return _notice(f"A picture ({mime}) is not shown: damaged or too large.")
        size = ""
        if suffix == ".png" and len(image) >= 24:
            width, height = struct.unpack(">II", image[16:24])
            if 0 < width < 20_000 and 0 < height < 20_000:
                size = f' width="{width}" height="{height}"'
        encoded = base64.b64encode(image).decode()
        return self.image(self.store(image, suffix), data, size, {mime: encoded})

    def svg(self, data: dict[str, Any]) -> Rendered:
        from kb.site import svg  # noqa: PLC0415 - slow to load, and few pages have a drawing

        drawing = svg.clean(_joined(data["image/svg+xml"]))
        if drawing is None:
            return _notice("A drawing (SVG) is not shown: damaged or too large.")
        kept = {"image/svg+xml": drawing.decode()}
        return self.image(self.store(drawing, ".svg"), data, "", kept)

    def image(self, url: str, data: dict[str, Any], size: str, kept: dict[str, str]) -> Rendered:
        described = _one_line(data.get("text/plain", ""), 200)
        # Python's way of printing an object says nothing of the picture.
        alt = "Picture drawn by this cell" if described[:1] in ("", "<") else described
        return Rendered(
            html=f'<img class="kb-image" src="{html.escape(url)}" alt="{html.escape(alt)}"{size}'
            ' loading="lazy">',
            outputs=[_display({**kept, "text/plain": alt})],
        )

    def html(self, data: dict[str, Any]) -> Rendered:
        source = terminal.plain(terminal.clean(_joined(data["text/html"])))
        if len(source) > HTML:
            return self.text(_joined(data.get("text/plain", source)))
        safe = nh3.clean(
            source,
            tags=set(_TAGS.split()),
            attributes=_ATTRIBUTES,
            clean_content_tags=_DROPPED_WHOLE,
            url_schemes={"http", "https", "mailto"},
            link_rel="noopener noreferrer nofollow",
        )
        text = html.unescape(nh3.clean(safe.replace("<", " <"), tags=set()))
        if not text.strip():
            return Rendered()
        kept = _display({"text/html": safe, "text/plain": text})
        box = f'<div class="kb-html" tabindex="0">{safe}</div>'
        return Rendered(html=box, text=text, outputs=[kept])
