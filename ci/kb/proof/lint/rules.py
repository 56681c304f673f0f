"""The style rules of notebooks and of areas. Each yields what breaks the rule, in sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kb
from kb.proof import areas
from kb.proof.catalog import MAGIC, Notebook, files_below
from kb.proof.format import NAME, RANDOM
from kb.proof.lint import shell, silence
from kb.proof.tables import TableError
from kb.runtime.record import source

RUNBOOK_SECTIONS = (
    "What to do",
    "Before you start",
    "Parameters",
    "Preflight",
    "Steps",
    "Verify",
    "Roll back",
)
# Which magics a section of a runbook may hold; looking is allowed everywhere.
SECTION_OF = {
    "preflight": "Preflight",
    "apply": "Steps",
    "verify": "Verify",
    "rollback": "Roll back",
}
MODE = 'mode: str = "plan"  # plan, apply or rollback'
LONGEST_CELL = 45  # lines; what fits on a screen beside its prose
# A shell that bypasses the magics, and with them errexit, pipefail and the closed stdin.
RAW_SHELL = re.compile(r"(?m)^\s*(!|%sx\b|%system\b|%%(bash|sh|script|sx|!)|.*\bos\.system\()")

# What people type to find a page: fewer entries say one thing in one way.
FOUND_BY = 5
HAN = re.compile("[\u4e00-\u9fff]")
SHORT_TITLE = 40  # characters; what fits beside the page on one line or two

TEMPLATES = Path(kb.__file__).parents[1] / "templates"  # what `make new` begins with
SHORT_PROSE = 60  # characters


LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)")  # in Markdown, to a file
CLAIM_LINK = re.compile(r"\]\(#([^()\s]+)\)")  # in Markdown, to a claim of this notebook

Cell = dict[str, Any]
Rule = Callable[[Notebook], Iterator[str]]
AreaRule = Callable[[Path, Path, list[Notebook]], Iterator[str]]  # root, area, its notebooks


def tags(cell: Cell) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def code_cells(notebook: Notebook) -> list[Cell]:
    return [cell for cell in notebook.cells if cell["cell_type"] == "code"]


def sections(notebook: Notebook) -> Iterator[tuple[str, Cell]]:
    """Every cell with the second-level heading that it stands under."""
    section = ""
    for cell in notebook.cells:
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"(?m)^## (.+)$", source(cell))
            section = headings[-1] if headings else section
        yield section, cell


def title_and_summary(notebook: Notebook) -> Iterator[str]:
    text = source(notebook.cells[0])
    blocks = text.split("\n\n")
    if not re.match(r"# \S", text):
        yield "the first cell must begin with `# Title`"
    if len(blocks) != 2 or not blocks[1].strip() or blocks[1].lstrip().startswith("#"):
        yield "the first cell must be the title and one paragraph, which becomes the summary"
    for cell in notebook.cells[1:]:
        if cell["cell_type"] == "markdown" and re.search(r"(?m)^# ", source(cell)):
            yield f"cell `{cell['id']}` has a second title: use ## or ### for headings"


def identity(notebook: Notebook) -> Iterator[str]:
    """On a host it may lie anywhere: what it is must be in it, for its originals are kept by it."""
    if notebook.metadata.get("identity") != str(notebook.path.with_suffix("")):
        yield f'the metadata must say `"identity": "{notebook.path.with_suffix("")}"`'


def found_by_what_people_type(notebook: Notebook) -> Iterator[str]:
    """A search finds words; these are the readers', not the author's."""
    entries = [*notebook.tasks, *notebook.symptoms]
    if not notebook.tasks or not notebook.symptoms or len(entries) < FOUND_BY:
        yield (
            f"the metadata must say what people type to find it, at least {FOUND_BY} entries:"
            ' "found_by": {"tasks": ["what they want"], "symptoms": {"words on the screen":'
            ' "id of the cell that cures it"}}'
        )
    elif not any(map(HAN.search, entries)):
        yield "`found_by` has no Chinese words: add a task and a symptom in Chinese"


def short_title(notebook: Notebook) -> Iterator[str]:
    if len(notebook.short_title) > SHORT_TITLE:
        yield (
            f"its title, {notebook.short_title!r}, is a sentence: say a shorter one in the"
            f' metadata for lists, "title": "..." of at most {SHORT_TITLE} characters'
        )


def sections_in_order(notebook: Notebook) -> Iterator[str]:
    headings = [
        heading
        for cell in notebook.cells
        if cell["cell_type"] == "markdown"
        for heading in re.findall(r"(?m)^## (.+)$", source(cell))
    ]
    if notebook.kind == "runbooks" and tuple(headings) != RUNBOOK_SECTIONS:
        yield (
            f"the sections must be {', '.join(RUNBOOK_SECTIONS)}, in this order;"
            f" they are {', '.join(headings)}"
        )
    if notebook.kind == "notebooks" and headings[:2] != ["In short", "Before you start"]:
        yield "the first sections must be `## In short` and `## Before you start`"


def answer_comes_first(notebook: Notebook) -> Iterator[str]:
    """What somebody came for, before anything else: the page shows it on its first screen."""
    cell = notebook.cells[1]
    if cell["id"] != "answer":
        yield "the second cell must have the id `answer` and say what to do, or what was found"
        return
    text = source(cell)
    if notebook.kind == "runbooks":
        for part in ("**You see**", "**Do**", "```bash\n", "**It worked if**", "**To go back**"):
            if part not in text:
                yield (
                    f"`## What to do` lacks {part.strip()}: say symptom, cure to copy, proof, and"
                    " the way back"
                )
        return
    points = re.findall(r"(?m)^- ", text)
    if not 1 <= len(points) <= 3:
        yield f"`## In short` has {len(points)} points: say the answer in one to three"
    named = CLAIM_LINK.findall(text)
    for claim in named:
        if claim not in notebook.settles:
            yield f"`## In short` links to #{claim}, which no cell here settles"
    if notebook.settles and not named:
        yield "`## In short` names no claim: link to one by #ID, and the page shows its verdict"


def setup_cell(notebook: Notebook) -> Iterator[str]:
    first = code_cells(notebook)[:1]
    if not first or tags(first[0]) != ["setup"] or source(first[0]) != "%load_ext kb":
        yield "the first code cell must be tagged `setup` and read exactly `%load_ext kb`"


def parameters_cell(notebook: Notebook) -> Iterator[str]:
    tagged = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    second = code_cells(notebook)[1:2]
    if not second or tagged != second:
        yield (
            "the second code cell, and no other, must be tagged `parameters`: what is passed is"
            " checked against it before anything else runs"
        )
    if notebook.kind == "runbooks" and (not tagged or source(tagged[0]).splitlines()[0] != MODE):
        yield f"the parameters cell must begin with `{MODE}`: plan changes nothing by default"
    for cell in tagged:
        before = notebook.cells[notebook.cells.index(cell) - 1]
        if before["cell_type"] != "markdown" or "## Parameters" not in source(before):
            yield "the parameters cell must follow a cell with the heading `## Parameters`"


def no_raw_shell(notebook: Notebook) -> Iterator[str]:
    for cell in code_cells(notebook):
        text = source(cell)
        # In a bash cell a leading `!` is bash's own negation.
        if MAGIC.match(text) is None and RAW_SHELL.search(text):
            yield (
                f"cell `{cell['id']}` runs a raw shell, where a failing command goes unnoticed:"
                " use %%observe, or bash(...) from kb"
            )


def known_magics(notebook: Notebook) -> Iterator[str]:
    for cell in code_cells(notebook):
        first = source(cell).split("\n", 1)[0]
        match = MAGIC.fullmatch(first)
        if first.startswith("%%") and match is None:
            name = first.split()[0]
            yield f"cell `{cell['id']}` begins with `{name}`, which is not a magic of kb"
        if match and not match[2].strip():
            yield f"cell `{cell['id']}`: %%{match[1]} needs a title, such as `%%{match[1]} Unpack`"
        if match and match[2].startswith("-"):
            yield f"cell `{cell['id']}`: `{match[2].split()[0]}` is not an option of %%{match[1]}"
        if match and notebook.kind == "notebooks" and match[1] not in ("observe", "preflight"):
            yield f"cell `{cell['id']}`: a notebook only looks; %%{match[1]} is for runbooks"


def magics_in_their_sections(notebook: Notebook) -> Iterator[str]:
    if notebook.kind != "runbooks":
        return
    seen = set()
    for section, cell in sections(notebook):
        match = MAGIC.match(source(cell)) if cell["cell_type"] == "code" else None
        if match is None or match[1] == "observe":
            continue
        seen.add(match[1])
        if section != SECTION_OF[match[1]]:
            yield (
                f"cell `{cell['id']}`: %%{match[1]} belongs under `## {SECTION_OF[match[1]]}`,"
                f" not under `## {section}`"
            )
    for magic in SECTION_OF:
        if magic not in seen:
            yield f"it has no %%{magic} cell: a runbook needs each of the four kinds"


def preflights_can_fail(notebook: Notebook) -> Iterator[str]:
    broken = {case["cell"] for case in notebook.broken}
    for cell in code_cells(notebook):
        match = MAGIC.match(source(cell))
        if match and match[1] == "preflight" and cell["id"] not in broken:
            yield (
                f"cell `{cell['id']}`: no case makes this preflight fail;"
                f" add one, [[broken]], to {notebook.folder}/ci/cases.toml"
            )


def changes_are_declared(notebook: Notebook) -> Iterator[str]:
    for cell in code_cells(notebook):
        lines = source(cell).splitlines()
        match = MAGIC.match(lines[0]) if lines else None
        if match is None or match[1] != "apply":
            continue
        if not re.match(r"# changes: [/$\"]\S*", lines[1] if len(lines) > 1 else ""):
            yield (
                f"cell `{cell['id']}`: an %%apply cell begins with what it changes,"
                " such as `# changes: /etc/x.conf  the settings`"
            )


def short_cells(notebook: Notebook) -> Iterator[str]:
    for cell in code_cells(notebook):
        length = len(source(cell).splitlines())
        if length > LONGEST_CELL:
            yield (
                f"cell `{cell['id']}` has {length} lines (at most {LONGEST_CELL}):"
                f" divide it, or move the program to a file in {notebook.folder}"
            )


def ids_mean_something(notebook: Notebook) -> Iterator[str]:
    for cell in notebook.cells:
        if not NAME.fullmatch(cell["id"]) or RANDOM.fullmatch(cell["id"]):
            yield f"cell `{cell['id']}` needs an id of lower-case words (make fmt gives it one)"


def verdicts_can_flip(notebook: Notebook) -> Iterator[str]:
    if notebook.settles and not notebook.flips:
        yield (
            "it settles claims, and no case shows that a verdict can change:"
            f" add one, [[flips]], to {notebook.folder}/ci/cases.toml"
        )


def links_lead_somewhere(notebook: Notebook) -> Iterator[str]:
    """Links to files, which MkDocs looks at only where both are pages of one build."""
    beside = (notebook.root / notebook.path).parent
    for cell in notebook.cells:
        for target in LINK.findall(source(cell)) if cell["cell_type"] == "markdown" else ():
            if not (beside / target).exists():
                yield f"cell `{cell['id']}` links to {target}, which is not there"


def uses_are_named(notebook: Notebook) -> Iterator[str]:
    """A shared file that is used without being named would change, and leave records fresh."""
    text = "\n".join([
        *(source(cell) for cell in code_cells(notebook)),
        *(
            (notebook.root / path).read_text(encoding="utf-8", errors="replace")
            for path in notebook.files
        ),
    ])  # fmt: skip
    for path in shared(notebook):
        name = str(path.relative_to(notebook.path.parent))
        named, used = path in notebook.uses, _mentions(text, name)
        if used and not named:
            yield f'it uses {path} without saying so: add "{name}" to `uses` in the metadata'
        if named and not used:
            yield f"`uses` names {name}, and no cell and no file of it does: leave it out"


def failures_are_heard(notebook: Notebook) -> Iterator[str]:
    """Of runbooks: in a notebook a search that finds nothing is the finding, by its line."""
    if notebook.kind != "runbooks":
        return
    for cell in code_cells(notebook):
        if MAGIC.match(source(cell)):
            for line, problem in silence.silent_ends(source(cell)):
                yield f"cell `{cell['id']}`, line {line}: {problem}"
    for path in notebook.files:
        if shell.is_shell(notebook.root / path):
            script = (notebook.root / path).read_text(encoding="utf-8")
            for line, problem in silence.silent_ends(script):
                yield f"{path}, line {line}: {problem}"


def prose_is_its_own(notebook: Notebook) -> Iterator[str]:
    """Of one whose code is not the template's any more: then its words are wrong here."""
    template = json.loads((TEMPLATES / f"{notebook.kind}.ipynb").read_text(encoding="utf-8"))
    if [source(cell) for cell in code_cells(notebook)] == [
        source(cell) for cell in template["cells"] if cell["cell_type"] == "code"
    ]:
        return
    left = {text for cell in template["cells"] for text in _paragraphs(cell)}
    for cell in notebook.cells:
        for text in _paragraphs(cell):
            if text in left:
                yield (
                    f"cell `{cell['id']}` still has the template's words, `{text[:40]}...`: say"
                    " what is so here, or take them out"
                )
    found = template["metadata"]["kb"]["found_by"]
    still = {*notebook.tasks, *notebook.symptoms} & {*found["tasks"], *found["symptoms"]}
    if still:
        words = f"`found_by` still has the template's `{min(still)}`"
        yield f"{words}: say what people type who look for this"


def _paragraphs(cell: Cell) -> list[str]:
    """Of prose; what is short, such as a heading, may be true of more than one."""
    if cell["cell_type"] != "markdown":
        return []
    texts = (" ".join(text.split()) for text in re.split(r"\n\n|\n(?=- )", source(cell)))
    return [text for text in texts if len(text) >= SHORT_PROSE and not text.startswith("```")]


def shared(notebook: Notebook) -> list[Path]:
    """The files of its area that are not its own."""
    area = notebook.path.parent
    return [path for path in files_of(notebook.root, area) if notebook.folder not in path.parents]


def files_of(root: Path, area: Path) -> list[Path]:
    """The files below an area's folder but for notebooks and what is said of the area."""
    found = (path.relative_to(root) for path in files_below(root / area))
    return [
        path
        for path in found
        if path.suffix != ".ipynb" and path != area / areas.FILE and path.parts[2][0] != "."
    ]


def _mentions(text: str, name: str) -> bool:
    """Whether a program has the name of a file, or imports the module that it is."""
    return bool(
        re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
        or (
            name.endswith(".py")
            and re.search(rf"(?m)^(import|from) {re.escape(name.removesuffix('.py'))}\b", text)
        )
    )


def area_is_described(root: Path, area: Path, notebooks: list[Notebook]) -> Iterator[str]:
    try:
        areas.read(root, area.name)
    except TableError as error:
        yield str(error)


def titles_differ(root: Path, area: Path, notebooks: list[Notebook]) -> Iterator[str]:
    """Two of one name cannot be told apart in a list, nor in what a search found."""
    for read in (lambda notebook: notebook.title, lambda notebook: notebook.short_title):
        seen: dict[str, Path] = {}
        for notebook in notebooks:
            other = seen.setdefault(read(notebook).casefold(), notebook.path)
            if other != notebook.path:
                said = read(notebook)
                yield f"{notebook.path}: {other} has the same title, {said!r}: change one"


def files_are_somebodys(root: Path, area: Path, notebooks: list[Notebook]) -> Iterator[str]:
    """A file that belongs to no notebook is in no record, so its edits repeat nothing."""
    # A fixture may be built from what people build themselves: its sources are a link then.
    built = {(root / path).resolve() for n in notebooks for path in n.fixture_files}
    for path in files_of(root, area):
        own = any(notebook.folder in path.parents for notebook in notebooks)
        own |= (root / path).resolve() in built
        if not own and not any(path in notebook.uses for notebook in notebooks):
            name = path.relative_to(area)
            yield (
                f"{path} belongs to no notebook: move it into the folder NAME/ of the one that"
                f' uses it, or say so in the metadata of those that do, "uses": ["{name}"]'
            )


RULES: tuple[Rule, ...] = (
    title_and_summary,
    identity,
    found_by_what_people_type,
    short_title,
    sections_in_order,
    answer_comes_first,
    setup_cell,
    parameters_cell,
    no_raw_shell,
    known_magics,
    magics_in_their_sections,
    preflights_can_fail,
    changes_are_declared,
    short_cells,
    ids_mean_something,
    verdicts_can_flip,
    links_lead_somewhere,
    uses_are_named,
    failures_are_heard,
    prose_is_its_own,
)
AREA_RULES: tuple[AreaRule, ...] = (area_is_described, titles_differ, files_are_somebodys)
