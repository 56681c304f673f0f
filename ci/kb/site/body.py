"""The body of a notebook's page: prose as Markdown, and a block of HTML for every code cell."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from pymdownx.slugs import slugify

from kb.proof import stages
from kb.proof.claims import expected
from kb.runtime import terminal
from kb.runtime.settle import VERDICTS
from kb.site import helpers, highlight, outputs
from kb.site.cells import Cell
from kb.site.model import ClaimView, HostResult, NotebookView, StageRun
from kb.site.render import Templates

BUDGET = 60_000  # characters of prose, code and outputs on one page; from there on, only the
# ends of outputs are shown
ANSWER = "answer"  # id of the cell that says what to do, or what a notebook has found
CODE = 20_000  # characters of code on one page, above which it is coloured sparsely
MUCH = 28_000  # characters of code on one page, above which helpers are links to their files
_OTHER = 4_000  # characters of an output that is a click away
_SHORT = 1_000  # characters of an output once the budget is spent

# Which runs have something to say about a cell, the one to show first.
_RUNS_SHOWN_FOR = {
    kind: stages.telling(kind)
    for kind in ("preflight", "apply", "verify", "rollback", "observe", "python")
}
# What only proves is a click away on a page that somebody comes to for its steps.
_PROOFS = ("preflight", "verify", "observe")
_HIDDEN = ("setup", "parameters", "injected", "raw", "markdown")
_ATTACHMENT = re.compile(r"attachment:([\w.%() -]+?)(?=[)\s\"'])")
# Jupyter names the anchor of a heading by its words, MkDocs by its words in lower case.
_FRAGMENT = re.compile(r"(\]\((?:[^()#\s]+\.ipynb)?)#([^()\s]+)\)")
# Pages written by hand lie in docs/, and at the root of the site.
_BY_HAND = re.compile(r"(\]\((?:\.\./)+)docs/(?=[^()\s]+\.md[)#])")
_CLAIM = re.compile(r"\[((?:`[^`]*`|[^`\[\]])+)\]\(#([a-z0-9-]+)\)")
_SOURCE = re.compile(r"(?<![\w`\[-])[Ss]ource [A-Z]\b")  # a post that claims are taken from
SOURCES = "verdicts/#the-sources"  # where a reader learns what they are
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif"}


@dataclass
class Block:
    """What stands in the place of one code cell, and the words to find it by."""

    html: str
    text: str


@dataclass
class Body:
    """Markdown with a placeholder for each block."""

    markdown: str
    blocks: dict[str, Block] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """One run's outputs of one cell."""

    host: HostResult
    stage: StageRun
    status: str
    code: str  # the executed code, where it differs from the present one
    output: outputs.Rendered

    @property
    def label(self) -> str:
        return f"{self.stage.label} on {self.host.name}"


class BodyBuilder:
    """Builds the body of one notebook's page.

    Args:
        view: the notebook.
        claims: every claim, by id.
        templates: the site's own templates.
        store: keeps a file, returns its URL from the site's root.
        link: turns a URL from the site's root into one from the page.
    """

    def __init__(
        self,
        view: NotebookView,
        claims: Mapping[str, ClaimView],
        templates: Templates,
        store: outputs.Store,
        link: Callable[[str], str],
    ) -> None:
        self.view = view
        self.claims = claims
        self.templates = templates
        self._store = store
        self.link = link
        code = sum(len(cell.code) for cell in view.cells if cell.kind in _RUNS_SHOWN_FOR)
        prose = sum(len(cell.source) for cell in view.cells if cell.kind == "markdown")
        python = "\n".join(cell.code for cell in view.cells if cell.kind == "python")
        self.called = {
            cell.id: helpers.called(cell.code, cell.language, view.files, python)
            for cell in view.cells
            if cell.kind in _RUNS_SHOWN_FOR
        }
        told = {helper for called in self.called.values() for helper in called}
        code += sum(len(helper.code) for helper in told)
        best = view.best
        code += sum(
            len(ran.code)
            for run in (best.stages.values() if best else ())
            for cell in view.cells
            if (ran := run.cells.get(cell.id)) and ran.source != cell.source
        )
        self.spent = code + prose
        self.sparse = code > CODE
        self.much = code > MUCH
        self.shown: dict[str, dict[str, Any]] = {}
        """By cell: the outputs on the page, as a notebook may hold them, and whose they are."""
        self._introduced = 0  # whether a reader knows by now what a source is
        self._told: set[str] = set()  # anchors of the helpers that stand on the page by now

    def build(self) -> Body:
        body = Body(markdown="")
        parts: list[str] = []
        for number, cell in enumerate(self.view.cells):
            if cell.kind == "markdown":
                parts.append(self._prose(cell))
            if not body.blocks:
                self._place(body, parts, "state", self._state())
            if "head" not in body.blocks and not self._is_before_answer(number):
                self._place(body, parts, "head", self._head())
            if cell.kind == "parameters":
                self._place(body, parts, "command", self._command())
            elif cell.kind not in _HIDDEN:
                self._place(body, parts, f"cell-{cell.id}", self._cell(cell))
        for name, block in (("state", self._state), ("head", self._head)):
            if name not in body.blocks:
                self._place(body, parts, name, block())
        body.markdown = "\n\n".join(parts)
        return body

    def _place(self, body: Body, parts: list[str], name: str, block: Block) -> None:
        body.blocks[name] = block
        parts.append(placeholder(name))

    def _prose(self, cell: Cell) -> str:
        """The cell's Markdown, with the pictures attached to it as files."""
        urls = {}
        for name, bundle in cell.attachments.items():
            for mime, content in bundle.items():
                try:
                    picture = base64.b64decode("".join(content))
                except (binascii.Error, ValueError):
                    continue
                if mime in _SUFFIXES:
                    # MkDocs resolves links in prose from the source to the page.
                    kept = self._store(picture, _SUFFIXES[mime])
                    urls[name] = posixpath.relpath(kept, posixpath.dirname(self.view.path))
        source = _ATTACHMENT.sub(lambda found: urls.get(found[1], found[0]), cell.source)
        source = _BY_HAND.sub(r"\1", source)
        if not self._introduced:
            source, self._introduced = _SOURCE.subn(self._introduce, source, count=1)
        if cell.id == ANSWER:
            source = _CLAIM.sub(self._judged, source)
        return _FRAGMENT.sub(lambda found: f"{found[1]}#{_slug(found[2])})", source)

    def _introduce(self, found: re.Match[str]) -> str:
        """The first mention of a source, as a link to what it is."""
        return f'<a href="{self.link(SOURCES)}">{found[0]}</a>'

    def _judged(self, found: re.Match[str]) -> str:
        """A link to a claim of this notebook: its verdict on record, then a link to its cell."""
        claim = self.claims.get(found[2])
        settled = [one for one in claim.settled if one.notebook is self.view] if claim else []
        if not claim or not settled:
            return found[0]
        mark = self.templates.render("mark.html", verdict=claim.claim.verdict)
        return f"{mark} [{found[1]}](#cell-{settled[0].cell})"

    def _is_before_answer(self, number: int) -> bool:
        """Whether what a reader came for is still to follow, which comes before what ran where."""
        return any(cell.id == ANSWER for cell in self.view.cells[number + 1 : number + 2])

    def _state(self) -> Block:
        return Block(self.templates.render("state.html", view=self.view, link=self.link), "")

    def _head(self) -> Block:
        return Block(self.templates.render("head.html", view=self.view, link=self.link), "")

    def _command(self) -> Block:
        html = self.templates.render("command.html", view=self.view, link=self.link)
        words = [f"{parameter.name} {parameter.help}" for parameter in self.view.parameters]
        return Block(html, "\n".join(words))

    def _cell(self, cell: Cell) -> Block:
        shown = [
            self._shown(cell, host, runs[stage], first=host is self.view.best)
            for host in self.view.hosts
            for runs in (host.stages, host.older)
            for stage in _RUNS_SHOWN_FOR[cell.kind]
            if stage in runs
        ]
        first, others = None, shown
        if shown and shown[0].host is self.view.best:
            first, others = shown[0], shown[1:]
        failures = self._failures(cell)
        runbook = self.view.kind == "runbooks"
        if first:
            self.shown[cell.id] = {
                "outputs": first.output.outputs,
                "run": {
                    "stage": first.stage.name,
                    "host": first.host.name,
                    "status": first.status,
                    "fails_with": failures,
                },
            }
        html = self.templates.render(
            "cell.html",
            cell=cell,
            code=self._code(cell),
            first=first,
            others=_grouped(first, others),
            failures=failures,
            untried=self.view.untried(cell) if cell.kind in ("apply", "rollback") else [],
            anywhere=bool(self.view.best),
            # A notebook has one run, which the head names; a runbook's cells come from several.
            labelled=runbook,
            folded=cell.kind in _PROOFS if runbook else _only_prepares(cell, first),
            code_title=f"{cell.code.count(chr(10)) + 1} lines that later cells use",
            files="" if not self.much else self.link(posixpath.dirname(self.view.path) + "/"),
            helpers=[(helper, self._helper(helper)) for helper in self.called[cell.id]],
        )
        texts = [cell.caption, cell.code, first.output.text if first else "", *failures]
        return Block(html, "\n".join(filter(None, texts)))

    def _shown(self, cell: Cell, host: HostResult, stage: StageRun, *, first: bool) -> Shown:
        """Renders what one run says of a cell; only the best host's outputs get much room."""
        ran = stage.cells.get(cell.id)
        main = (
            first
            and not stage.older
            and stage.name
            == next((name for name in _RUNS_SHOWN_FOR[cell.kind] if name in host.stages), "")
        )
        room = outputs.INLINE if main else _OTHER
        rendered = outputs.render(
            ran.outputs if ran else [],
            store=lambda content, suffix: self.link(self._store(content, suffix)),
            verdict=lambda settled: self._verdict(settled, host.name),
            inline=room if self.spent < BUDGET else _SHORT,
        )
        self.spent += len(rendered.html)
        changed = ran is not None and ran.source != cell.source and (main or not self.much)
        return Shown(
            host=host,
            stage=stage,
            status=stage.status(cell.id) if ran else "not run",
            # Beside the present code, in which the colours are.
            code=highlight.block(ran.code, ran.language, sparse=True) if ran and changed else "",
            output=rendered,
        )

    def _code(self, cell: Cell) -> str:
        return highlight.block(cell.code, cell.language, sparse=self.sparse)

    def _helper(self, helper: helpers.Helper) -> str:
        """Its code, the first time that a cell calls it; from later ones a link leads there."""
        if self.much or helper.anchor in self._told:
            return ""
        self._told.add(helper.anchor)
        return highlight.block(helper.code, helper.language, sparse=True)

    def _failures(self, cell: Cell) -> list[str]:
        """What this preflight said when it was made to fail."""
        best = self.view.best
        if not best or "broken" not in best.stages:
            return []
        messages = [
            terminal.plain(terminal.clean(str(entry.get("message") or "")))[:1000]
            for entry in best["broken"].record.get("broken") or []
            if entry.get("cell") == cell.id and entry.get("passed")
        ]
        return list(dict.fromkeys(filter(None, messages)))

    def _verdict(self, settled: dict[str, Any], host: str) -> str:
        """What `settle` showed, as a badge that leads to the claim."""
        view = self.claims.get(str(settled.get("claim")))
        verdict = str(settled.get("verdict"))
        saw = settled.get("saw")
        # What did not come out says nothing, where another host has settled it.
        told = verdict != "unsettled" or not view or view.claim.verdict == "unsettled"
        return self.templates.render(
            "settled.html",
            id=str(settled.get("claim"))[:100],
            view=view,
            expected=expected(view.claim, host) if view else (),
            verdict=verdict if verdict in VERDICTS else "unsettled",
            saw=_deciding_lines([str(line)[:1000] for line in saw[:20]], verdict)
            if isinstance(saw, list) and told and self.spent < BUDGET
            else [],  # the claim's page has them
            link=self.link,
        )


def placeholder(name: str) -> str:
    """The line of Markdown that keeps a block's place.

    Markdown removes the attribute; where it remains, prose before it left a tag open.
    """
    return f'<div data-kb="{name}" markdown></div>'


def _only_prepares(cell: Cell, first: Shown | None) -> bool:
    """Whether a cell of Python shows nothing: it defines what later ones use."""
    return (
        cell.kind == "python"
        and first is not None
        and first.status == "passed"
        and not (first.output.html or first.code)
    )


def _grouped(first: Shown | None, others: list[Shown]) -> list[tuple[str, Shown]]:
    """Other runs' outputs, those that say the same under one label, the first run's left out."""
    said = (first.output.html, first.code, first.status) if first else None
    groups: dict[tuple[str, str, str], tuple[list[str], Shown]] = {}
    for shown in others:
        key = (shown.output.html, shown.code, shown.status)
        if key == said or (not shown.output.html and shown.status == "passed"):
            continue
        groups.setdefault(key, ([], shown))[0].append(shown.label)
    return [(", ".join(labels), shown) for labels, shown in groups.values()]


def _deciding_lines(saw: list[str], verdict: str) -> list[str]:
    """The case that gave the verdict, where one did; the claim's page has them all."""
    lines = [terminal.plain(terminal.clean(line)) for line in saw]
    return [line for line in lines if line.startswith(f"{verdict} if ")] or lines


def _slug(fragment: str) -> str:
    return str(slugify(case="lower")(unquote(fragment).replace("-", " "), "-"))
