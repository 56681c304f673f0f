"""The site's own templates, and the small ways of saying things that they share."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from mkdocs.utils import get_relative_url

from kb.proof import stages
from kb.runtime.parameters import is_secret
from kb.site import command

HERE = Path(__file__).parent

# As the records of claims name them.
_NAMED = re.compile(r"((?:runbooks|notebooks)/[\w-]+/[\w-]+\.ipynb)|(?<=runbook )([\w-]+/[\w-]+)")
_CODE = re.compile(r"(?<!`)(`+)(?!`) ?(.+?) ?(?<!`)\1(?!`)")
# A value in a line of evidence stands between single backticks, and may be empty or hold some.
_VALUE = re.compile(r"(?<![^\s(])`(.*?)`(?=[\s,;:.)]|$)")
STATUS = {
    "passed": "Passed",
    "failed": "Failed",
    "partial": "Partly run",
    "stale": "Stale",
    "skipped": "Skipped",
    "never": "Never run",
}


class Templates:
    """Renders the templates of this package, every value escaped.

    ``titles`` are the areas'; ``repository`` is where the project lives, if that is known;
    ``pages`` are the notebooks, path to URL and title.
    """

    def __init__(
        self,
        bytecode: Path,
        titles: Mapping[str, str],
        repository: str | None,
        pages: Mapping[str, tuple[str, str]],
    ) -> None:
        self.bytecode = FileSystemBytecodeCache(str(bytecode))
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            bytecode_cache=self.bytecode,
        )
        self._environment.filters.update(
            prose=prose,
            evidence=evidence,
            when=when,
            day=day,
            seconds=seconds,
            area=titles.__getitem__,
            label=stages.label,
            meaning=lambda name: stages.NAMED[name].failed,
            linked=lambda text, link: linked(text, pages, link),
        )
        self._environment.globals.update(STATUS=STATUS, command=command, repository=repository)
        self._environment.tests["secret"] = is_secret

    def render(self, name: str, **values: Any) -> str:
        return self._environment.get_template(name).render(**values)

    @staticmethod
    def linker(url: str) -> Callable[[str], str]:
        """Returns what turns a URL from the site's root into one from the page at `url`."""
        return lambda target: get_relative_url(target, url)


def prose(text: object) -> Markup:
    """A sentence from a claim or a record: plain text in which backticks mark code."""
    escaped = html.escape(str(text).strip())
    return Markup(_CODE.sub(r"<code>\2</code>", escaped))  # noqa: S704 - escaped one line above


def evidence(text: object) -> Markup:
    """A line that says what a cell saw: its values as code, one that is empty by that name."""

    def value(found: re.Match[str]) -> str:
        return f"<code>{found[1]}</code>" if found[1] else "<em>nothing</em>"

    escaped = html.escape(str(text).strip())
    return Markup(_VALUE.sub(value, escaped))  # noqa: S704 - escaped one line above


def linked(
    text: object, pages: Mapping[str, tuple[str, str]], link: Callable[[str], str]
) -> Markup:
    """The same, with notebooks that it names by their paths as links to their pages."""

    def to_page(found: re.Match[str]) -> str:
        path = found[1] or f"runbooks/{found[2]}.ipynb"
        if path not in pages:
            return found[0]
        url, title = pages[path]
        return f'<a href="{html.escape(link(url))}">{html.escape(title)}</a>'

    return Markup(_NAMED.sub(to_page, prose(text)))  # noqa: S704 - escaped, as above


def when(moment: datetime | None) -> Markup:
    """A point in time, in UTC, as a `time` element."""
    if moment is None:
        return Markup("at an unknown time")
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{utc.day} {utc:%b %Y, %H:%M} UTC"
    )


def day(moment: datetime | None) -> Markup:
    """The same without the hour."""
    if moment is None:
        return Markup("at an unknown time")
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{utc.day} {utc:%b %Y}"
    )


def seconds(duration: object) -> str:
    """A duration as a person says it."""
    if not isinstance(duration, int | float):
        return ""
    if duration < 10:
        return f"{duration:.1f} s"
    if duration < 120:
        return f"{duration:.0f} s"
    return f"{duration / 60:.0f} min"
