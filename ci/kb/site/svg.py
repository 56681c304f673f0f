"""SVG from outputs, cut down to drawing: no scripts, no event handlers, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Set
from xml.etree import ElementTree

LARGEST = 2_000_000  # characters

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_SHAPES = (
    "svg g defs symbol use title desc path rect circle ellipse line polyline polygon text tspan"
    " textPath linearGradient radialGradient stop pattern clipPath mask marker filter feBlend"
    " feColorMatrix feComponentTransfer feComposite feFlood feFuncA feFuncB feFuncG feFuncR"
    " feGaussianBlur feMerge feMergeNode feMorphology feOffset image style switch"
)
_DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]*>", re.IGNORECASE)
# A reference inside the drawing, or a picture that the drawing carries along.
_OWN = re.compile(r"\s*(#[\w.:-]+|data:image/(?:png|jpeg);base64,[\w+/=\s]+)\s*")
_ELSEWHERE = re.compile(r"@import|url\((?!\s*['\"]?\s*#)|expression|javascript:|\\", re.IGNORECASE)


def clean(source: str) -> bytes | None:
    """Returns the drawing as an SVG file, or None where it is no SVG, too large, or hostile XML."""
    if len(source) > LARGEST:
        return None
    source = _DOCTYPE.sub("", source, count=1)
    if "<!" in source.replace("<!--", "").replace("<![CDATA[", ""):
        return None  # entity definitions: what a bomb is made of
    try:
        root = ElementTree.fromstring(source.strip())  # noqa: S314 - no definitions are left
    except (ElementTree.ParseError, ValueError):
        return None
    if root.tag != f"{{{_SVG}}}svg":
        return None
    try:
        _strip(root, set(_SHAPES.split()))
        ElementTree.register_namespace("", _SVG)
        ElementTree.register_namespace("xlink", _XLINK)
        return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    except RecursionError:
        return None


def _strip(element: ElementTree.Element, shapes: Set[str]) -> None:
    for name, value in list(element.attrib.items()):
        plain = name.rpartition("}")[2]
        foreign = plain == "href" and not _OWN.fullmatch(value)
        if plain.lower().startswith("on") or foreign or _ELSEWHERE.search(value):
            del element.attrib[name]
    if element.tag.rpartition("}")[2] == "style" and _ELSEWHERE.search(element.text or ""):
        element.text = ""
    for child in list(element):
        # Comments and instructions have a function for a tag.
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] in shapes:
            _strip(child, shapes)
        else:
            element.remove(child)
