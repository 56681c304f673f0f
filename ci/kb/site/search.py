"""What the search can find: pages cut into sections, and an index of their words in pieces.

The engine is MiniSearch, in the reader's browser. It takes an index that was made elsewhere, and
such a one is written here: below `search/pages` for runbooks, notebooks and guides, below
`search/claims` for the ledger. Each has

- `docs.json`: the pages, and what can be found of them (documents): a page itself, its sections,
  and each of the words that people type to find it;
- `words-X.json`: the words that begin with X, each with the documents that it is in;
- `text-DIGEST.json`: the text of a page's documents, for the words around a hit.

A browser fetches the first when somebody turns to the search, then what the query's words need.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from kb.site.cache import Cache, digest

_LONGEST = 400  # characters of one line; what is longer is data, not text
_SECTION = 12_000  # characters of one section
_HEADINGS = frozenset(f"h{level}" for level in range(1, 7))

FIELDS = ("title", "found", "heading", "text")  # of a document; the index has their numbers
# A run of Chinese or Japanese characters, or letters and digits with what joins them in paths,
# options, versions and addresses. `search.js` has the same; a test holds the two together.
_WORD = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
    "|[A-Za-z0-9_\u00c0-\u024f]+(?:[-./:=+@~][A-Za-z0-9_\u00c0-\u024f]+)*"
)
_JOINED = re.compile("[-./:=+@~]")
_HUMPS = re.compile("_+|(?<=[a-z0-9])(?=[A-Z])")
_WHOLE = 40  # characters of a joined word that is one in itself, too


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


def sections(title: str, prose: str, blocks: Mapping[str, str]) -> list[dict[str, str]]:
    """The sections of one page, each with its `anchor`, `heading` and `text`; every line once.

    Args:
        title: of the page; what stands before the second heading is said of the page.
        prose: the page's HTML with a placeholder (`data-kb="name"`) for every block.
        blocks: the text of each block.
    """
    outline = _Outline(blocks)
    outline.feed(prose)
    outline.close()
    seen: set[str] = {title}
    found = [{"anchor": "", "heading": "", "text": ""}]
    for number, section in enumerate(outline.sections):
        text = lines("".join(section.parts), seen)
        if number <= 1:
            found[0]["text"] = "\n".join(filter(None, (found[0]["text"], text)))
        elif section.anchor or text:
            found.append({"anchor": section.anchor, "heading": section.title.strip(), "text": text})
    return found


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


def words(text: str) -> Iterator[str]:
    """The words that a text is found by, in lower case.

    Chinese has no spaces: each two characters that stand together are a word. What is joined, as in
    `ProtectSystem=strict` or `vm.max_map_count`, is one as a whole and in each of its parts.
    """
    for found in _WORD.findall(text):
        if found[0] >= "\u3005":
            yield from (found[at : at + 2] for at in range(max(1, len(found) - 1)))
            continue
        parts = _JOINED.split(found)
        whole = [found] if len(found) <= _WHOLE else []
        humps = [hump for part in parts for hump in _HUMPS.split(part)]
        for word in dict.fromkeys(word.lower() for word in (*whole, *parts, *humps)):
            if len(word) > 1:
                yield word


def piece(word: str) -> str:
    """The name of the piece of the index that a word is in."""
    first = word[0]
    if "a" <= first <= "z":
        return first
    return "0" if "0" <= first <= "9" else "x"


@dataclass(frozen=True)
class Found:
    """A page as the search knows it.

    `about` is shown with it; `typed` are the words that people type to find it, each with the
    anchor of what cures it; `sections` as :func:`sections` returns them.
    """

    url: str
    title: str
    about: Mapping[str, Any]
    sections: list[dict[str, str]]
    typed: tuple[tuple[str, str], ...] = ()

    def documents(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Anchor, the words to show, and the fields."""
        for number, section in enumerate(self.sections):
            fields = {"heading": section["heading"], "text": section["text"]}
            if number == 0:
                fields = {"title": self.title, "text": section["text"]}
            yield section["anchor"], section["heading"], fields
        for typed, anchor in self.typed:
            yield anchor, typed, {"found": typed}


def counted(page: Found, key: str, cache: Cache) -> dict[str, Any]:
    """What a page adds to the index; kept, since counting takes longer than all the rest."""
    kept = cache.load(key)
    if kept is None:
        documents: list[list[dict[str, int]]] = []
        found = []
        for anchor, shown, fields in page.documents():
            counts = []
            for name in FIELDS:
                count: dict[str, int] = {}
                for word in words(fields.get(name, "")):
                    count[word] = count.get(word, 0) + 1
                counts.append(count)
            documents.append(counts)
            found.append([anchor, shown, int("found" in fields)])
        text = json.dumps([section["text"] for section in page.sections], ensure_ascii=False)
        kept = {
            "files": {},
            "counts": documents,
            "docs": found,
            "text": text,
        }
        cache.save(key, kept)
    return kept


def write(directory: Path, pages: Iterable[Found], cache: Cache) -> None:
    """Writes the index of these pages, in pieces."""
    code = Path(__file__).read_bytes()
    keyed = [(page, digest(code, _json(vars(page)))) for page in pages]
    key = digest("index", *(key for _, key in keyed))
    whole = cache.load_text(key)
    if whole is None:
        counts = [(page, counted(page, key, cache)) for page, key in keyed]
        whole = json.dumps(_index(counts), ensure_ascii=False)
        cache.save_text(key, whole)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in json.loads(whole).items():
        (directory / name).write_text(content, encoding="utf-8")


def _index(pages: list[tuple[Found, dict[str, Any]]]) -> dict[str, str]:
    """The files of an index, by name."""
    files: dict[str, str] = {}
    listed: list[dict[str, Any]] = []
    documents: list[list[Any]] = []
    lengths: list[list[int]] = []
    # By piece and word: for each field a list of document, count, document, count.
    postings: dict[str, dict[str, dict[int, list[int]]]] = defaultdict(dict)
    for page, kept in pages:
        name = f"text-{digest(kept['text'])[:12]}"
        files[f"{name}.json"] = kept["text"]
        first = len(documents)
        about = {"url": page.url, "title": page.title, "text": name, "first": first, **page.about}
        listed.append(about)
        for (anchor, shown, typed), counts in zip(kept["docs"], kept["counts"], strict=True):
            number = len(documents)
            documents.append([len(listed) - 1, anchor, shown, typed])
            lengths.append([len(count) for count in counts])
            for field_number, count in enumerate(counts):
                for word, times in count.items():
                    fields = postings[piece(word)].setdefault(word, {})
                    fields.setdefault(field_number, []).extend((number, times))
    average = [sum(one) / max(1, len(lengths)) for one in zip(*lengths, strict=True)]
    files["docs.json"] = _json({
        "pages": listed,
        "docs": documents,
        "lengths": lengths,
        "average": average,
        "pieces": sorted(postings),
    })  # fmt: skip
    for name, found in postings.items():
        packed = [
            [word, *([number, *pairs] for number, pairs in fields.items())]
            for word, fields in found.items()
        ]
        files[f"words-{name}.json"] = _json(packed)
    return files


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
