"""SVG from outputs, cut down to drawing: no scripts, no event handlers, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import tinycss2

LARGEST = 2_000_000  # characters
MOST = 100_000  # elements, those counted again that are drawn again by a reference

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_XML = "http://www.w3.org/XML/1998/namespace"
# No markers: one is drawn at each point of each line that inherits it. No filters: a blur of a
# large drawing takes minutes, and a drawing without its shadows says as much.
_SHAPES = (
    "svg g defs symbol use title desc path rect circle ellipse line polyline polygon text tspan"
    " textPath linearGradient radialGradient stop pattern clipPath mask image style switch"
)
_TAGS = {f"{{{_SVG}}}{name}" for name in _SHAPES.split()}
_STYLE = f"{{{_SVG}}}style"
# What is drawn beside and then laid over takes more than an element does.
_COSTS = {f"{{{_SVG}}}mask": 50, f"{{{_SVG}}}pattern": 50, f"{{{_SVG}}}clipPath": 10}
# What is not simply laid over is drawn beside, too. A style sheet could ask that of all elements.
_LAYERS = {"opacity", "mix-blend-mode", "isolation"}
_LAYER = 10
_RULES = 50  # rules of a style sheet that are looked at for an element in the time it is drawn
_SELECTOR = 100  # characters; a long one is looked for along all that an element lies in
_HREFS = ("href", f"{{{_XLINK}}}href")
_FUNCTIONS = {
    "rgb", "rgba", "hsl", "hsla", "url",
    "matrix", "translate", "translatex", "translatey", "rotate", "scale", "scalex", "scaley",
    "skewx", "skewy",
}  # fmt: skip
_DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]*>", re.IGNORECASE)
# A reference inside the drawing, or a picture that the drawing carries along.
_OWN = re.compile(r"\s*(#[\w.:-]+|data:image/(?:png|jpeg);base64,[\w+/=\s]+)\s*")


def clean(source: str) -> bytes | None:
    """Returns the drawing as an SVG file, or None where it is no SVG, too large, or hostile XML."""
    if len(source) > LARGEST:
        return None
    source = _DOCTYPE.sub("", source, count=1)
    if "<!" in source.replace("<!--", "").replace("<![CDATA[", ""):
        return None  # entity definitions: what a bomb is made of
    try:
        root = ElementTree.fromstring(source.strip())  # noqa: S314 - no definitions are left
        if root.tag != f"{{{_SVG}}}svg":
            return None
        _strip(root)
        if _Drawing(root).size() > MOST:
            return None
        ElementTree.register_namespace("", _SVG)
        ElementTree.register_namespace("xlink", _XLINK)
        return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None


def _strip(element: ElementTree.Element) -> None:
    for name, value in list(element.attrib.items()):
        kept = _attribute(name, value)
        if kept is None:
            del element.attrib[name]
        else:
            element.attrib[name] = kept
    if element.tag == _STYLE:
        # All text inside is style to a browser, that behind an element inside too.
        style = _stylesheet("".join(element.itertext()))
        element[:] = []
        element.text = style
    for child in list(element):
        if child.tag in _TAGS:  # comments and instructions have a function for a tag
            _strip(child)
        else:
            element.remove(child)


def _attribute(name: str, value: str) -> str | None:
    """What is kept of an attribute; None if nothing is."""
    if name in _HREFS:
        return value if _OWN.fullmatch(value) else None
    if name.startswith("{"):
        return value if name in (f"{{{_XML}}}space", f"{{{_XML}}}lang") else None
    if name.lower().startswith("on"):
        return None
    if name == "style":
        return _declarations(tinycss2.parse_blocks_contents(value), references=True)
    # Without a bracket there is no function, so no address.
    if "(" in value and not _harmless(tinycss2.parse_component_value_list(value), references=True):
        return None
    return value


def _stylesheet(source: str) -> str:
    """The plain rules of a style sheet: nothing that begins with @, and no references."""
    return "".join(
        f"{tinycss2.serialize(rule.prelude)}{{{declarations}}}"
        for rule in tinycss2.parse_stylesheet(source, skip_comments=True, skip_whitespace=True)
        if rule.type == "qualified-rule"
        and len(tinycss2.serialize(rule.prelude)) <= _SELECTOR
        and _harmless(rule.prelude, references=False)
        and (declarations := _declarations(tinycss2.parse_blocks_contents(rule.content)))
    )


def _declarations(nodes: Iterable[Any], *, references: bool = False) -> str:
    return ";".join(
        node.serialize()
        for node in nodes
        if node.type == "declaration"
        and (references or node.lower_name not in _LAYERS)
        and _harmless(node.value, references=references)
    )


def _harmless(tokens: Iterable[Any], *, references: bool) -> bool:
    """Whether a value calls nothing but what draws, and names nothing outside of the drawing."""
    for token in tokens:
        if token.type in ("error", "at-keyword"):
            return False
        if token.type == "url" and not (references and token.value.startswith("#")):
            return False
        if token.type == "function":
            if token.lower_name not in _FUNCTIONS or not _harmless(
                token.arguments, references=references
            ):
                return False
            if token.lower_name == "url" and not (
                references
                and all(
                    part.type == "whitespace"
                    or (part.type == "string" and part.value.startswith("#"))
                    for part in token.arguments
                )
            ):
                return False
        elif token.type.endswith(" block") and not _harmless(token.content, references=references):
            return False
    return True


class _Drawing:
    """Counts what a browser would draw, which may be far more than what is written."""

    def __init__(self, root: ElementTree.Element) -> None:
        self._root = root
        self._named: dict[str, ElementTree.Element] = {}
        for element in root.iter():
            self._named.setdefault(element.get("id", ""), element)
        self._sizes: dict[ElementTree.Element, float] = {}

    def size(self) -> float:
        styles = (element.text or "" for element in self._root.iter(_STYLE))
        rules = sum(style.count("{") for style in styles)
        return self._size(self._root) * (1 + rules / _RULES)

    def _size(self, element: ElementTree.Element) -> float:
        if element not in self._sizes:
            self._sizes[element] = float("inf")  # while it is counted: a circle has no end
            targets = [self._named[name] for name in _references(element) if name in self._named]
            own = _COSTS.get(element.tag, 1) + _LAYER * bool(_LAYERS & _properties(element))
            parts = [own, *map(self._size, (*element, *targets))]
            self._sizes[element] = sum(parts)
        return self._sizes[element]


def _properties(element: ElementTree.Element) -> set[str]:
    """The properties that an element sets for itself."""
    declared = tinycss2.parse_blocks_contents(element.get("style", ""))
    return {*element.attrib, *(one.lower_name for one in declared if one.type == "declaration")}


def _references(element: ElementTree.Element) -> Iterator[str]:
    """The ids that an element names."""
    for name, value in element.attrib.items():
        if name in _HREFS:
            yield value.strip().removeprefix("#")
        elif "(" in value:
            yield from _fragments(tinycss2.parse_component_value_list(value))


def _fragments(tokens: Iterable[Any]) -> Iterator[str]:
    for token in tokens:
        if token.type in ("url", "string"):
            yield unquote(token.value.removeprefix("#"))
        elif token.type == "function":
            yield from _fragments(token.arguments)
