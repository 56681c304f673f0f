"""The kinds of page that no Markdown file stands for."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from mkdocs.structure.toc import AnchorLink, TableOfContents
from mkdocs.utils import get_relative_url

from kb.proof import carry
from kb.site import search
from kb.site.cache import Cache, digest
from kb.site.model import ClaimView, NotebookView
from kb.site.published import compose
from kb.site.render import Templates

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

    from kb.site.body import Body

OUTPUTS = "assets/outputs/"
# The index is ours; the theme's plugin is there for the place of its box.
NOT_BY_THE_THEME = {"search": {"exclude": True}}
_PLACEHOLDER = re.compile(r'<div data-kb="([^"]+)"></div>')


class NotebookFile(File):
    """A notebook, which MkDocs takes for a page, so that links to the `.ipynb` lead to it."""

    def is_documentation_page(self) -> bool:
        return True


class OutputFile(File):
    """A picture or a long text from an output, or what is there to download, kept in the cache."""

    def __init__(self, config: MkDocsConfig, uri: str, file: Path) -> None:
        super().__init__(
            uri, None, config.site_dir, config.use_directory_urls, inclusion=InclusionLevel.INCLUDED
        )
        self.abs_src_path = str(file)

    def copy_file(self, dirty: bool = False) -> None:
        """Links the file into the site, which is quicker than a copy where there are hundreds."""
        place = Path(self.abs_dest_path)
        # Written into, one that is there would be changed in the cache as well.
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(str(self.abs_src_path), place)
        except OSError:  # another file system, or one without links
            super().copy_file(dirty)


class HtmlPage(Page):
    """A page whose HTML is made from data."""

    def __init__(
        self,
        title: str,
        file: File,
        config: MkDocsConfig,
        *,
        html: str,
        text: str,
        anchors: set[str] | None = None,
        toc: list[AnchorLink] | None = None,
    ) -> None:
        super().__init__(title, file, config)
        self.text = text
        self._html = html
        self._anchors = anchors or set()
        self._toc = toc or []

    def read_source(self, config: MkDocsConfig) -> None:
        self.markdown = ""
        self.meta = {"title": self.title, **NOT_BY_THE_THEME}

    def render(self, config: MkDocsConfig, files: Files) -> None:
        self.content = self._html
        self.toc = TableOfContents(self._toc)
        self.present_anchor_ids = self._anchors


class CachedPage(Page):
    """A page of Markdown, taken from the cache where nothing that goes into it has changed."""

    def __init__(
        self,
        title: str | None,
        file: File,
        config: MkDocsConfig,
        *,
        cache: Cache,
        build_digest: str,
    ) -> None:
        super().__init__(title, file, config)
        self.cache = cache
        self.build_digest = build_digest
        self.sections: list[dict[str, str]] = []

    def read_source(self, config: MkDocsConfig) -> None:
        super().read_source(config)
        self.meta = {**self.meta, **NOT_BY_THE_THEME}

    def render(self, config: MkDocsConfig, files: Files) -> None:
        key = digest(self.build_digest, self.url, self.markdown or "")
        cached = self.cache.load(key)
        if cached is None:
            cached = self.rendered(config, files)
            if cached.pop("clean"):
                self.cache.save(key, cached)
        self.restore(cached, files)

    def rendered(self, config: MkDocsConfig, files: Files) -> dict[str, Any]:
        """Renders the page as MkDocs does, and returns what came of it."""
        with _Warnings() as warnings:
            super().render(config, files)
        return {
            "clean": not warnings.seen,
            "files": {},
            "title": self.title,
            "content": self.content,
            "sections": search.sections(str(self.title), self.content or "", {}),
            "toc": [_toc_as_json(item) for item in self.toc],
            "anchors": sorted(self.present_anchor_ids or ()),
            "links": {file.src_uri: links for file, links in (self.links_to_anchors or {}).items()},
        }

    def restore(self, cached: Mapping[str, Any], files: Files) -> None:
        self.title = cached["title"]
        self.content = cached["content"]
        self.sections = cached["sections"]
        self.toc = TableOfContents([_toc_from_json(item) for item in cached["toc"]])
        self.present_anchor_ids = set(cached["anchors"])
        targets = {files.get_file_from_path(uri): links for uri, links in cached["links"].items()}
        self.links_to_anchors = {file: links for file, links in targets.items() if file}


class NotebookPage(CachedPage):
    """A notebook's page."""

    def __init__(
        self,
        view: NotebookView,
        file: File,
        config: MkDocsConfig,
        *,
        claims: Mapping[str, ClaimView],
        templates: Templates,
        cache: Cache,
        build_digest: str,
    ) -> None:
        super().__init__(view.short_title, file, config, cache=cache, build_digest=build_digest)
        self.view = view
        self.shown = ""
        self.key = ""
        self._claims = claims
        self._templates = templates

    def read_source(self, config: MkDocsConfig) -> None:
        self.markdown = ""  # made in render, where it can come from the cache
        self.meta = {
            "title": self.view.title,
            "description": self.view.summary,
            **NOT_BY_THE_THEME,
        }

    def render(self, config: MkDocsConfig, files: Files) -> None:
        self.key = digest(self.build_digest, self.view.digest, self.url)
        cached = self.cache.load(self.key)
        if cached is None:
            cached = self.rendered(config, files)
            if cached.pop("clean"):
                self.cache.save(self.key, cached)
        self.restore(cached, files)
        for name in cached["files"].keys() - cached["downloads"].values():
            self._publish(name, files, config)
        for offered, name in cached["downloads"].items():
            uri = f"{self.view.url}{offered}"
            files.append(OutputFile(config, uri, self.cache.files / name))
        # The theme's search would go through what it finds here; the plugin puts it in after that.
        self.content, self.shown = "", cached["content"]

    def rendered(self, config: MkDocsConfig, files: Files) -> dict[str, Any]:
        """Renders the prose, then puts the blocks in their places."""
        from kb.site.body import BodyBuilder  # noqa: PLC0415 - as is said of minify_html

        assets: dict[str, int] = {}

        def store(content: bytes, suffix: str) -> str:
            name = self.cache.keep(content, suffix)
            assets[name] = len(content)
            self._publish(name, files, config)
            return OUTPUTS + name

        builder = BodyBuilder(self.view, self._claims, self._templates, store, self.link)
        body = builder.build()
        downloads = {
            offered: (content, self.cache.keep(content, suffix))
            for offered, suffix, content in self._downloads(builder.shown)
        }
        self.markdown = body.markdown
        cached = super().rendered(config, files)
        prose = cached["content"]
        self._check(body, prose)
        texts = {name: block.text for name, block in body.blocks.items()}
        own_anchors = [name for name in body.blocks if name.startswith("cell-")] + ["command"]
        return {
            **cached,
            "content": _PLACEHOLDER.sub(
                lambda found: body.blocks[found[1]].html if found[1] in body.blocks else found[0],
                prose,
            ),
            "sections": search.sections(self.view.title, prose, texts),
            "files": {**assets, **{name: len(content) for content, name in downloads.values()}},
            "downloads": {offered: name for offered, (_, name) in downloads.items()},
            "anchors": cached["anchors"] + own_anchors,
        }

    def _downloads(
        self, shown: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[str, str, bytes]]:
        """Name, ending and content of what the page offers to take away."""
        content = json.loads(Path(str(self.file.abs_src_path)).read_bytes())
        yield f"{self.view.name}.ipynb", ".ipynb", compose(content, self.view, shown)
        if self.view.beside:
            paths = map(Path, (self.view.path, *self.view.beside))
            root = Path(str(self.file.src_dir))
            yield f"{self.view.name}.tar.gz", ".tar.gz", carry.archive(root, paths)

    def _publish(self, name: str, files: Files, config: MkDocsConfig) -> None:
        if files.get_file_from_path(OUTPUTS + name) is None:
            files.append(OutputFile(config, OUTPUTS + name, self.cache.files / name))

    def link(self, url: str) -> str:
        """Turns a URL from the site's root into one from this page."""
        return get_relative_url(url, self.url)

    def _check(self, body: Body, prose: str) -> None:
        found = _PLACEHOLDER.findall(prose)
        lost = next((name for name in body.blocks if found.count(name) != 1), None)
        if lost:
            raise PluginError(
                f"{self.view.path}: {lost} does not come out as a block of its own; close the"
                " fence, list or HTML element that the Markdown cell before it leaves open."
            )


class _Warnings(logging.Handler):
    """Notes whether MkDocs warned; a page with a warning must warn again in the next build."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seen = False

    def emit(self, record: logging.LogRecord) -> None:
        self.seen = True

    def __enter__(self) -> _Warnings:
        logging.getLogger(Page.__module__).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(Page.__module__).removeHandler(self)


def _toc_as_json(item: AnchorLink) -> dict[str, Any]:
    return {
        "title": item.title,
        "id": item.id,
        "level": item.level,
        "children": [_toc_as_json(child) for child in item.children],
    }


def _toc_from_json(cached: Mapping[str, Any]) -> AnchorLink:
    item = AnchorLink(cached["title"], cached["id"], cached["level"])
    item.children = [_toc_from_json(child) for child in cached["children"]]
    return item
