"""The MkDocs plugin: adds a page for everything there is to publish. It executes nothing."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import ChoiceLoader, DictLoader, FileSystemLoader
from mkdocs.config import config_options as options
from mkdocs.config.base import Config
from mkdocs.exceptions import PluginError
from mkdocs.plugins import BasePlugin, event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from mkdocs.structure.toc import AnchorLink
from mkdocs.theme import Theme

from kb.proof import rollouts, stages
from kb.proof.catalog import KINDS
from kb.site import ledger, load, search
from kb.site.cache import Cache, digest
from kb.site.model import ClaimView, NotebookView
from kb.site.pages import CachedPage, HtmlPage, NotebookFile, NotebookPage
from kb.site.render import HERE, Templates

if TYPE_CHECKING:
    from jinja2 import Environment
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.livereload import LiveReloadServer
    from mkdocs.structure import StructureItem
    from mkdocs.structure.nav import Navigation
    from mkdocs.utils.templates import TemplateContext

FINISHED = "kb-finished.html"  # name of the template that a finished page goes through
RECENT = 5  # runs on the home page
SEEN = 3  # symptoms of a runbook on the home page
SEARCH = ("box.js", "engine.js", "minisearch-7.2.0/index.js", "minisearch-7.2.0/LICENSE.txt")
_MARKER = re.compile(r"<!-- kb:([\w-]+) -->")
_SOURCES = (".py", ".html")
# Of MkDocs, what plugins are not promised: without it pages would be lost or links not checked.
_USED = (
    (File, "dest_uri"),
    (File, "is_documentation_page"),
    (File, "copy_file"),
    (Page, "links_to_anchors"),
    (Page, "present_anchor_ids"),
    (Theme, "get_env"),
)
_RENDERERS = (
    "markdown",
    "minify-html",
    "mkdocs",
    "mkdocs-material",
    "nh3",
    "pygments",
    "pymdown-extensions",
    "tinycss2",
)


class SiteConfig(Config):
    """Options of the plugin in `mkdocs.yml`."""

    root = options.Type(str, default=".")
    """The project, relative to `mkdocs.yml`: where runbooks, notebooks and docs/claims are."""
    cache = options.Type(str, default="build/cache/site")
    """What is kept between builds, relative to the project."""


class VisibleFiles(FileSystemLoader):
    """Lists a theme's files without looking into hidden directories, which MkDocs leaves out.

    Material has 14 000 icons in one; listing them takes a sixth of a build that changes one page.
    """

    def list_templates(self) -> list[str]:
        found = set()
        for place in self.searchpath:
            for directory, names, files in os.walk(place):
                names[:] = [name for name in names if not name.startswith(".")]
                below = Path(directory).relative_to(place)
                found |= {(below / file).as_posix() for file in files}
        return sorted(found)


class SitePlugin(BasePlugin[SiteConfig]):
    """Publishes runbooks, notebooks, their runs, and the claims they settle."""

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        if command != "serve":
            # A build ends soon and makes few cycles: looking for them takes a tenth of it.
            gc.disable()

    @event_priority(100)  # before the theme's search plugin asks for a template
    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        for owner, name in _USED:
            if not hasattr(owner, name):
                raise PluginError(
                    f"MkDocs {version('mkdocs')} has no {owner.__name__}.{name}, which this site is"
                    " built with: install the version that requirements.txt names."
                )
        base = Path(config.config_file_path).parent if config.config_file_path else Path.cwd()
        self.root = (base / self.config.root).resolve()
        self.cache = Cache(self.root / self.config.cache)
        self.site = load.load(self.root)
        for path, why in self.site.rejected.items():
            # Not a warning of MkDocs, which would end the build: one bad record costs one page.
            print(f"{path} is left out: {why}", file=sys.stderr)
        titles = {name: area.title for name, area in self.site.areas.items()}
        pages = {view.path: (view.url, view.short_title) for view in self.site.notebooks}
        self.templates = Templates(self.cache.templates, titles, config.repo_url, pages)
        # Behind a project's own changes of the theme.
        config.theme.dirs.insert(int(bool(config.theme.custom_dir)), str(HERE / "theme"))
        self.pages: list[NotebookPage | HtmlPage] = []
        self.written: list[CachedPage] = []
        theme_env = config.theme.get_env

        def get_env() -> Environment:
            env = theme_env()
            env.loader = VisibleFiles(config.theme.dirs)
            # Compiling the theme's templates takes longer than rendering sixty pages with them.
            env.bytecode_cache = self.templates.bytecode
            return env

        config.theme.get_env = get_env  # type: ignore[method-assign]
        return config

    def on_files(self, files: Files, *, config: MkDocsConfig) -> Files:
        self._add_assets(files, config)
        notebooks = [self._add_notebook(view, files, config) for view in self.site.notebooks]
        self._add_areas(files, config)
        self._add_symptoms(files, config)
        self._add_claims(files, config)
        self.build_digest = self._digest_of_build(files, config)
        claims = {view.claim.id: view for view in self.site.claims}
        for view, file in zip(self.site.notebooks, notebooks, strict=True):
            page = NotebookPage(
                view,
                file,
                config,
                claims=claims,
                templates=self.templates,
                cache=self.cache,
                build_digest=self.build_digest,
            )
            self.pages.append(page)
        if config.nav is None:
            for file in files.documentation_pages():
                if file.page is None:
                    guide = CachedPage(
                        None, file, config, cache=self.cache, build_digest=self.build_digest
                    )
                    self.written.append(guide)
            config.nav = self._nav(files)
        return files

    def on_nav(self, nav: Navigation, *, config: MkDocsConfig, files: Files) -> Navigation:
        self.nav = nav
        return nav

    def on_env(self, env: Environment, *, config: MkDocsConfig, files: Files) -> Environment:
        pages = [page for page in self.pages if isinstance(page, NotebookPage)]
        self._reuse(pages, env, config)
        return env

    def _reuse(self, pages: list[NotebookPage], env: Environment, config: MkDocsConfig) -> None:
        """Takes the finished HTML of each page from the cache, if nothing that makes it changed."""
        loaders = [DictLoader({FINISHED: "{{ page.content }}"}), env.loader]
        env.loader = ChoiceLoader([loader for loader in loaders if loader])
        overrides = Path(config.theme.custom_dir).rglob("*") if config.theme.custom_dir else ()
        theme_digest = digest(
            self.build_digest,
            *config.extra_css,
            *map(str, config.extra_javascript),
            *_outline(self.nav.items),
            *(path.read_bytes() for path in sorted(overrides) if path.is_file()),
        )
        for page in pages:
            page.key = digest(page.key, theme_digest)
            whole = self.cache.load_text(page.key)
            if whole is not None:
                page.shown = whole
                page.meta["template"] = FINISHED

    def on_page_content(
        self, html: str, *, page: Page, config: MkDocsConfig, files: Files
    ) -> str | None:
        """Fills the markers that pages written by hand leave for generated parts."""
        if isinstance(page, NotebookPage | HtmlPage):
            return None

        def fill(found: re.Match[str]) -> str:
            parts = {
                "ask": self._ask,
                "symptoms": self._symptoms,
                "areas": self._areas_list,
                "failed": self._failed,
                "recent": self._recent,
                "verdicts": self._verdicts,
                "hosts": self._hosts,
                "fleet": self._fleet,
                "stages": self._stages,
            }
            if found[1] not in parts:
                known = ", ".join(parts)
                raise PluginError(
                    f"docs/{page.file.src_uri}: nothing fills <!-- kb:{found[1]} -->; known are"
                    f" {known}."
                )
            return parts[found[1]](page.url)

        return _MARKER.sub(fill, html)

    @event_priority(-100)  # after the theme's search plugin has looked at the content
    def on_page_context(
        self, context: TemplateContext, *, page: Page, config: MkDocsConfig, nav: Navigation
    ) -> TemplateContext:
        if isinstance(page, NotebookPage):
            page.content = page.shown
        return context

    @event_priority(-100)  # after whatever else has a hand in the page
    def on_post_page(self, output: str, *, page: Page, config: MkDocsConfig) -> str:
        if isinstance(page, NotebookPage) and page.meta.get("template") != FINISHED:
            # The theme's indentation is a tenth of a page.
            import minify_html  # noqa: PLC0415 - a build that changes nothing does not pay for it

            output = minify_html.minify(output)
            self.cache.save_text(page.key, output)
        return output

    @event_priority(-100)  # after the theme's search plugin has written its index
    def on_post_build(self, *, config: MkDocsConfig) -> None:
        place = Path(config.site_dir) / "search"
        (place / "search_index.json").unlink(missing_ok=True)  # of the theme, and empty
        search.write(place / "pages", self._found(), self.cache)
        search.write(place / "claims", self._found_claims(), self.cache)
        self.cache.prune()

    def _found(self) -> Iterator[search.Found]:
        """What can be found but for claims: runbooks, notebooks, then pages of other kinds."""
        for page in self.pages:
            if isinstance(page, NotebookPage):
                view = page.view
                area = self.site.areas[view.area].title
                typed = (
                    *((task, "") for task in view.tasks),
                    *((symptom.words, symptom.anchor) for symptom in view.symptoms),
                )
                about = {"kind": view.kind[:-1], "area": area}
                yield search.Found(page.url, view.title, about, page.sections, typed)
        for guide in self.written:
            yield search.Found(
                guide.url, str(guide.title), {"kind": "guide"}, guide.sections, _typed(guide)
            )
        for page in self.pages:
            if isinstance(page, HtmlPage) and page.text:
                sections = [{"anchor": "", "heading": "", "text": page.text}]
                yield search.Found(page.url, str(page.title), {"kind": "guide"}, sections)

    def _found_claims(self) -> Iterator[search.Found]:
        """The ledger: what is true comes first, and nothing of the evidence."""
        for view in self.site.claims:
            claim = view.claim
            told = (claim.truth, claim.instead, claim.would_settle, claim.until)
            text = "\n".join(" ".join(one.split()) for one in told if one).replace("`", "")
            says = " ".join(claim.says.split()).replace("`", "")
            about = {"kind": "claim", "verdict": claim.verdict}
            sections = [{"anchor": "", "heading": "", "text": text}]
            yield search.Found(view.url, says, about, sections)

    def on_serve(
        self, server: LiveReloadServer, *, config: MkDocsConfig, builder: Any
    ) -> LiveReloadServer:
        for part in ("runbooks", "notebooks", "build/runs", "build/fleet"):
            if (self.root / part).is_dir():
                server.watch(str(self.root / part))
        return server

    def _add_assets(self, files: Files, config: MkDocsConfig) -> None:
        for name in ("kb.css", "kb.js"):
            content = (HERE / "assets" / name).read_bytes()
            stem, suffix = name.split(".")
            # The name changes with the content, so that no browser keeps an old one.
            uri = f"assets/{stem}.{digest(content)[:8]}.{suffix}"
            files.append(_file(config, uri, content=content))
            (config.extra_css if suffix == "css" else config.extra_javascript).append(uri)
        contents = {name: (HERE / "assets/search" / name).read_bytes() for name in SEARCH}
        # They import each other by name, so the place changes with the content.
        place = f"assets/search-{digest(*contents.values())[:8]}"
        for name, content in contents.items():
            files.append(_file(config, f"{place}/{name}", content=content))
        box = options.ExtraScript().validate({"path": f"{place}/box.js", "type": "module"})
        config.extra_javascript.append(box)

    def _add_notebook(self, view: NotebookView, files: Files, config: MkDocsConfig) -> File:
        file = NotebookFile(
            view.path,
            src_dir=str(self.root),
            dest_dir=config.site_dir,
            use_directory_urls=config.use_directory_urls,
            inclusion=InclusionLevel.INCLUDED,
        )
        files.append(file)
        for beside in view.beside:
            if files.get_file_from_path(beside) is None:
                path = str(self.root / beside)
                files.append(_file(config, beside, abs_src_path=path))
        return file

    def _add_areas(self, files: Files, config: MkDocsConfig) -> None:
        for area, said in self.site.areas.items():
            notebooks = self.site.area(area)
            claims = [view for view in self.site.claims if area in view.areas]
            counts: dict[str, int] = {}
            for claim in claims:
                counts[claim.claim.verdict] = counts.get(claim.claim.verdict, 0) + 1
            groups = [
                ("Runbooks", "runbooks", [n for n in notebooks if n.kind == "runbooks"]),
                ("Notebooks", "notebooks", [n for n in notebooks if n.kind == "notebooks"]),
            ]
            releases = self._add_releases(files, config, area, claims)
            self._add_page(
                files,
                config,
                uri=f"areas/{area}/index.md",
                title=said.title,
                template="area.html",
                text=said.sentence,
                toc=[AnchorLink(h, anchor, 2) for h, anchor, inside in groups if inside],
                area=area,
                about=said.sentence,
                owner=said.owner,
                groups=groups,
                heading="Title",
                claims=claims,
                counts=counts,
                releases=releases,
            )

    def _add_releases(
        self, files: Files, config: MkDocsConfig, area: str, claims: list[ClaimView]
    ) -> str:
        """Add the page of what an area's notebooks saw on each release; returns its URL, or ""."""
        seen = [
            (view, view.name, tables) for view in self.site.area(area) if (tables := view.matrices)
        ]
        if not seen:
            return ""
        file = self._add_page(
            files,
            config,
            uri=f"areas/{area}/releases.md",
            title="Releases side by side",
            template="releases.html",
            text="\n".join(view.title for view, _, _ in seen),
            toc=[AnchorLink(view.title, anchor, 2) for view, anchor, _ in seen],
            area=area,
            notebooks=seen,
            outdated=[view for view in claims if view.claim.verdict == "outdated"],
        )
        return str(file.url)

    def _add_symptoms(self, files: Files, config: MkDocsConfig) -> None:
        """Add the page of the words that are on screens, each with where it is cured."""
        groups = [
            (said.title, area, seen)
            for area, said in self.site.areas.items()
            if (seen := [view for view in self.site.area(area) if view.symptoms])
        ]
        self._add_page(
            files,
            config,
            uri="symptoms/index.md",
            title="By symptom",
            template="symptoms.html",
            text="The words on your screen, and what cures them: error messages and signs.",
            anchors={area for _, area, _ in groups} | {v.name for *_, seen in groups for v in seen},
            toc=[AnchorLink(title, area, 2) for title, area, _ in groups],
            groups=groups,
        )

    def _add_claims(self, files: Files, config: MkDocsConfig) -> None:
        self._add_page(
            files,
            config,
            uri="claims/index.md",
            title="Claims",
            template="ledger.html",
            text="Every sentence that was put to the test: the ledger of verdicts.",
            chapters=ledger.chapters(self.site),
            counts=self.site.verdict_counts(),
            areas=sorted({area for view in self.site.claims for area in view.areas}),
            sources=sorted({view.claim.source.split()[0] for view in self.site.claims}),
        )
        for chapter in ledger.chapters(self.site):
            file = self._add_page(
                files,
                config,
                uri=f"{chapter.url}index.md",
                title=chapter.title,
                template="chapter.html",
                text="",  # found in an index of its own
                anchors={view.claim.id for view in chapter.claims},
                chapter=chapter,
            )
            file.inclusion = InclusionLevel.NOT_IN_NAV
        for view in self.site.claims:
            claim = view.claim
            # Whoever reads structured data does not know where the page was: absolute or none.
            page_url = config.site_url.rstrip("/") + "/" + view.url if config.site_url else None
            file = self._add_page(
                files,
                config,
                uri=f"claims/{claim.id}.md",
                title=f"{claim.verdict.capitalize()}: " + claim.says.rstrip(".").replace("`", ""),
                template="claim.html",
                text="",  # found in an index of its own
                view=view,
                review=ledger.review(view, url=page_url, author=config.site_name),
            )
            file.inclusion = InclusionLevel.NOT_IN_NAV
            for former in claim.formerly:
                content = self.templates.render("moved.html", to=f"../{claim.id}/", says=claim.says)
                files.append(_file(config, f"claims/{former}/index.html", content=content))
        content = ledger.as_json(self.site)
        files.append(_file(config, "claims/ledger.json", content=content))
        files.append(_file(config, "claims/rows.json", content=ledger.as_rows(self.site)))

    def _add_page(
        self,
        files: Files,
        config: MkDocsConfig,
        *,
        uri: str,
        title: str,
        template: str,
        text: str,
        toc: list[AnchorLink] | None = None,
        anchors: set[str] | None = None,
        **values: Any,
    ) -> File:
        file = _file(config, uri, content="")
        files.append(file)
        html = self.templates.render(template, link=self.templates.linker(file.url), **values)
        page = HtmlPage(title, file, config, html=html, text=text, anchors=anchors, toc=toc)
        self.pages.append(page)
        return file

    def _nav(self, files: Files) -> list[Any]:
        """Pages written by hand around the areas, for readers in the order they come."""

        def there(*uris: str) -> list[str]:
            return [uri for uri in uris if files.get_file_from_path(uri)]

        areas = [
            {
                said.title: [
                    f"areas/{area}/index.md",
                    *there(f"areas/{area}/releases.md"),
                    *(
                        {kind.capitalize(): inside}
                        for kind in KINDS
                        if (inside := [v.path for v in self.site.area(area) if v.kind == kind])
                    ),
                ]
            }
            for area, said in self.site.areas.items()
        ]
        last = there("verdicts.md", "hosts.md", "write.md")
        first = there("index.md", "symptoms/index.md")
        running = there("run.md", "fleet.md", "rollback.md")
        return [*first, *areas, "claims/index.md", *running, *last]

    def _digest_of_build(self, files: Files, config: MkDocsConfig) -> str:
        """Names everything but the notebook itself that decides how its page comes out."""
        return digest(
            *(path.read_bytes() for path in sources()),
            *(version(name) for name in _RENDERERS),
            Path(config.config_file_path).read_bytes() if config.config_file_path else "",
            # What the command line and other plugins can change of it; addresses of functions
            # differ in every build.
            re.sub(
                r" at 0x[0-9a-f]+",
                "",
                repr([config.use_directory_urls, config.site_url, config.markdown_extensions]),
            ),
            repr(self.site.areas),
            # Links are checked and resolved against these.
            "\n".join(sorted(file.src_uri for file in files)),
        )

    def _areas_list(self, url: str) -> str:
        areas = [
            {
                "name": area,
                "about": said.sentence,
                "runbooks": [n for n in self.site.area(area) if n.kind == "runbooks"],
                "notebooks": sum(n.kind == "notebooks" for n in self.site.area(area)),
            }
            for area, said in self.site.areas.items()
        ]
        return self._part("areas.html", url, areas=areas)

    def _ask(self, url: str) -> str:
        return self._part("ask.html", url)

    def _symptoms(self, url: str) -> str:
        """Some of each runbook's, of those that are soon read, each once."""
        runbooks = []
        shown: set[str] = set()
        for view in (view for area in self.site.areas for view in self.site.area(area)):
            new = [s for s in view.symptoms if s.is_english and s.words not in shown]
            if view.kind == "runbooks" and new:
                some = sorted(new, key=lambda symptom: len(symptom.words))[:SEEN]
                shown |= {symptom.words for symptom in some}
                runbooks.append((view, some))
        return self._part("seen.html", url, runbooks=runbooks)

    def _failed(self, url: str) -> str:
        return self._part("failed.html", url, runs=self.site.failed()[:RECENT])

    def _recent(self, url: str) -> str:
        return self._part("recent.html", url, runs=self.site.recent(RECENT))

    def _verdicts(self, url: str) -> str:
        return self._part("verdicts.html", url, counts=self.site.verdict_counts())

    def _hosts(self, url: str) -> str:
        return self._part(
            "hosts.html",
            url,
            hosts=self.site.host_summaries(),
            standing=self.site.standing(),
            rejected=self.site.rejected,
        )

    def _fleet(self, url: str) -> str:
        return self._part("fleet.html", url, fleets=self.site.fleets, results=rollouts.RESULTS)

    def _stages(self, url: str) -> str:
        return self._part("stages.html", url, stages=stages.STAGES)

    def _part(self, template: str, url: str, **values: Any) -> str:
        return self.templates.render(template, link=self.templates.linker(url), **values)


def sources() -> list[Path]:
    """The files of this package that have a part in a page: of all rooms, as all are imported."""
    return [path for path in sorted(HERE.parent.rglob("*")) if path.suffix in _SOURCES]


def _typed(page: Page) -> tuple[tuple[str, str], ...]:
    """What people type to find a page of Markdown: `found_by` in its front matter."""
    return tuple((str(words), "") for words in page.meta.get("found_by") or ())


def _outline(items: Iterable[StructureItem]) -> Iterator[str]:
    """Everything that the theme shows of the navigation."""
    for item in items:
        yield f"{item.title} {getattr(item, 'url', '')}"
        if children := getattr(item, "children", None):
            yield from ("(", *_outline(children), ")")


def _file(config: MkDocsConfig, uri: str, **source: Any) -> File:
    """A file of ours, which no `exclude_docs` in mkdocs.yml is meant for."""
    return File.generated(config, uri, inclusion=InclusionLevel.INCLUDED, **source)
