"""Entries for the theme's search: one for each section, every line of a page once."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

_LONGEST = 400  # characters of one line; what is longer is data, not text
_SECTION = 12_000  # characters of one section
_HEADINGS = frozenset(f"h{level}" for level in range(1, 7))
_HAN = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Chinese has no spaces, and the browser finds whole words only: every character becomes a word.
_BETWEEN = re.compile(f"(?<=[{_HAN}])(?=[^\\s\u200b])|(?<=[^\\s\u200b])(?=[{_HAN}])")
_HAS_HAN = re.compile(f"[{_HAN}]")


@dataclass
class Section:
    """A heading with what stands under it, up to the next heading."""

    anchor: str = ""
    title: str = ""
    parts: list[str] = field(default_factory=list)


class _Outline(HTMLParser):
    """Splits the prose of a page into sections, and puts each block under its heading."""

    def __init__(self, blocks: Mapping[str, str]) -> None:
        super().__init__(convert_charrefs=True)
        self.sections = [Section()]
        self._blocks = blocks
        self._heading = ""
        self._link = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in _HEADINGS:
            self._heading = tag
            self.sections.append(Section(anchor=values.get("id") or ""))
        elif tag == "a" and values.get("class") == "headerlink":
            self._link = True
        elif name := values.get("data-kb"):
            self.sections[-1].parts.append("\n" + self._blocks.get(name, "") + "\n")
        elif tag in ("p", "li", "tr", "div", "pre", "br", "dt", "dd"):
            self.sections[-1].parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._heading:
            self._heading = ""
        elif tag == "a":
            self._link = False

    def handle_data(self, data: str) -> None:
        if self._link:
            return
        if self._heading:
            self.sections[-1].title += data
        else:
            self.sections[-1].parts.append(data)


def entries(url: str, title: str, prose: str, blocks: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns the entries of one page.

    Args:
        url: of the page, from the site's root.
        title: of the page.
        prose: the page's HTML with a placeholder (`data-kb="name"`) for every block.
        blocks: the text of each block.
    """
    outline = _Outline(blocks)
    outline.feed(prose)
    outline.close()
    seen: set[str] = set()
    found = []
    for number, section in enumerate(outline.sections):
        text = lines("".join(section.parts), seen)
        if not section.anchor and not text:
            continue
        # The theme shows the entry without an anchor as the page itself.
        first = number <= 1
        found.append(
            entry(
                url if first else f"{url}#{section.anchor}",
                title if first else section.title.strip(),
                text,
            )
        )
    return _joined_first(found, url)


def entry(location: str, title: str, text: str) -> dict[str, Any]:
    """One entry of the index, whose title and text are HTML."""
    return {
        "location": location,
        "title": segmented(html.escape(title, quote=False)),
        "text": segmented(html.escape(text, quote=False)),
    }


def lines(text: str, seen: set[str]) -> str:
    """Returns the lines not seen before, capped; adds them to `seen`."""
    kept = []
    room = _SECTION
    for raw in text.split("\n"):
        line = " ".join(raw.split())[:_LONGEST]
        if not line or line in seen or room < len(line):
            continue
        seen.add(line)
        room -= len(line)
        kept.append(line)
    return "\n".join(kept)


def segmented(text: str) -> str:
    """Puts a zero-width space around every Han and Kana character."""
    return _BETWEEN.sub("\u200b", text) if _HAS_HAN.search(text) else text


def extend_index(path: Path, more: Iterable[Mapping[str, Any]]) -> None:
    """Adds entries to the index that the theme's plugin wrote, and segments those in it."""
    index = json.loads(path.read_text(encoding="utf-8"))
    for old in index["docs"]:
        old["title"], old["text"] = segmented(old["title"]), segmented(old["text"])
    index["docs"].extend(more)
    path.write_text(json.dumps(index, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")


def _joined_first(found: list[dict[str, Any]], url: str) -> list[dict[str, Any]]:
    """Text before the first heading belongs to the same entry as the title."""
    if len(found) > 1 and found[0]["location"] == found[1]["location"] == url:
        found[1]["text"] = "\n".join(filter(None, (found[0]["text"], found[1]["text"])))
        return found[1:]
    return found
