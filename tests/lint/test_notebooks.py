"""The format gate and the style rules, over every notebook and over broken copies of a good one."""

import copy
import difflib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from golden import Told
from kb.proof import catalog, lint
from kb.proof.catalog import Notebook
from kb.proof.format import canonical
from kb.proof.lint.rules import (
    AREA_RULES,
    RULES,
    answer_comes_first,
    found_by_what_people_type,
    identity,
    ids_mean_something,
    short_title,
)
from kb.proof.lint.shell import check_cells, check_scripts, check_setups
from kb.proof.tables import TableError

ROOT = Path(__file__).parents[2]
# What people start from must pass as it stands, so the templates are notebooks to every test.
TEMPLATES = {kind: Path("ci/templates") / f"{kind}.ipynb" for kind in catalog.KINDS}
FILES = [*catalog.paths(ROOT), *TEMPLATES.values()]


def read(path: Path, directory: Path) -> Notebook:
    """The notebook at ``path``; a template as a notebook of its kind, made in ``directory``."""
    if path not in TEMPLATES.values():
        return catalog.read(ROOT, path)
    target = Path(path.stem, "area", "name.ipynb")
    (directory / target).parent.mkdir(parents=True)
    shutil.copy(ROOT / path, directory / target)
    if (ROOT / path).with_suffix("").is_dir():
        shutil.copytree((ROOT / path).with_suffix(""), (directory / target).with_suffix(""))
    return catalog.read(directory, target)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_format(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    wanted = canonical(text)
    difference = difflib.unified_diff(
        text.splitlines(), wanted.splitlines(), "committed", "make fmt", lineterm="", n=1
    )
    assert text == wanted, f"{path}: not in the committed format; run `make fmt`:\n" + "\n".join(
        list(difference)[:20]
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", FILES, ids=str)
def test_style(path: Path, rule: Callable, tmp_path: Path) -> None:
    assert [f"{path}: {problem}" for problem in rule(read(path, tmp_path))] == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_bash(path: Path, tmp_path: Path) -> None:
    notebook = read(path, tmp_path)
    problems = [*check_cells(notebook), *check_setups(notebook)]
    assert not problems, "\n".join(problems)


def test_areas() -> None:
    problems = list(lint.check_areas(ROOT))
    assert not problems, "\n".join(problems)


def test_claims() -> None:
    problems = list(lint.check_claims(ROOT))
    assert not problems, "\n".join(problems)


def test_the_formatter_mends_what_an_editor_leaves() -> None:
    text = (ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8")
    edited = json.loads(text)
    edited["metadata"]["widgets"] = {"state": 1}
    edited["metadata"]["language_info"]["version"] = "3.12.1"
    for cell in edited["cells"]:
        cell["metadata"]["collapsed"] = True
        if cell["cell_type"] == "code":
            cell["execution_count"] = 3
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "hello"}]
    write = next(cell for cell in edited["cells"] if cell["id"] == "write")
    write["id"] = "0f3ac91b"
    mended = canonical(json.dumps(edited))
    assert mended == text.replace('"id": "write"', '"id": "write-the-message"')
    assert canonical(mended) == mended


def test_ids_stay_unique_when_they_are_made() -> None:
    notebook = json.loads((ROOT / TEMPLATES["notebooks"]).read_text(encoding="utf-8"))
    notebook["cells"] += [copy.deepcopy(notebook["cells"][-1]) for _ in range(2)]
    ids = [cell["id"] for cell in json.loads(canonical(json.dumps(notebook)))["cells"]]
    assert ids[-3:] == ["os-release", "the-system-s-own", "the-system-s-own-2"]


def test_an_option_is_no_part_of_an_id() -> None:
    notebook = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    cell = named(notebook["cells"], "preflight-directory")
    cell |= {"id": "0f3ac91b", "source": "%%preflight --rollback This user may write\ntrue"}
    assert '"id": "this-user-may-write"' in canonical(json.dumps(notebook))


def named(cells: list[dict], identity: str) -> dict:
    return next(cell for cell in cells if cell["id"] == identity)


# What breaks which rule: in a cell, the lines from one to another become these; no lines, no cell.
EDITS: dict[str, tuple[str, str, slice, list[str] | None]] = {
    "no title": ("title_and_summary", "title", slice(None), ["## No title"]),
    "two paragraphs": (
        "title_and_summary",
        "title",
        slice(None),
        ["# Title\n", "\n", "One.\n", "\n", "Two."],
    ),
    "a second title": ("title_and_summary", "verify", slice(None), ["# Verify"]),
    "another section": ("sections_in_order", "verify", slice(None), ["## Checks"]),
    "more in the setup": ("setup_cell", "setup", slice(None), ["%load_ext kb\n", "import os"]),
    "another mode": ("parameters_cell", "parameters", slice(1), ['mode: str = "apply"  # any\n']),
    "no parameters": ("parameters_cell", "parameters", slice(0), None),
    "parameters anywhere": ("parameters_cell", "parameters-heading", slice(None), ["## Values"]),
    "an exclamation mark": ("no_raw_shell", "rollback", slice(None), ["!rm -rf /etc/x"]),
    "bash of IPython's": ("no_raw_shell", "verify-message", slice(1), ["%%bash\n"]),
    "an unknown magic": ("known_magics", "verify-message", slice(1), ["%%bash\n"]),
    "no title of a step": ("known_magics", "write", slice(1), ["%%apply\n"]),
    "an unknown option": ("known_magics", "write", slice(1), ["%%apply --rollback Write it\n"]),
    "a step elsewhere": ("magics_in_their_sections", "write", slice(1), ["%%verify Write it\n"]),
    "no rollback": ("magics_in_their_sections", "rollback", slice(None), ["!rm -rf /etc/x"]),
    "no broken case": ("preflights_can_fail", "write", slice(1), ["%%preflight Write it\n"]),
    "a file that is not named": (
        "uses_are_named",
        "verify-message",
        slice(99, None),
        ['\n. "$KB_HERE/shared.sh"'],
    ),
    "a file that is not used": ("uses_are_named", "verify-message", slice(0), []),
    "a search that may find nothing": (
        "failures_are_heard",
        "verify-message",
        slice(99, None),
        ["\n", "user=$(id | grep -o no-such)"],
    ),
    "no changes": ("changes_are_declared", "write", slice(1, 3), []),
    "a long cell": ("short_cells", "write", slice(99, None), ["\ntrue"] * 50),
    "words of the template": ("prose_is_its_own", "write", slice(99, None), ["\ntrue"]),
    "no flip": ("verdicts_can_flip", "rollback", slice(None), ['settle("x", confirmed=YES)']),
    "no answer": ("answer_comes_first", "answer", slice(0), None),
    "an answer without a cure": (
        "answer_comes_first",
        "answer",
        slice(1, None),
        ["**You see** x."],
    ),
    "a dead link": (
        "links_lead_somewhere",
        "title",
        slice(99, None),
        ["See [the other](../no-such.ipynb#steps)."],
    ),
}
# The same for a notebook.
LOOKS: dict[str, tuple[str, str, slice, list[str] | None]] = {
    "another first section": ("sections_in_order", "before-you-start", slice(1), ["## First\n"]),
    "a step": ("known_magics", "os-release", slice(1), ["%%apply Look\n"]),
    "words of the template": ("prose_is_its_own", "os-release", slice(99, None), ["\ntrue"]),
}


def broken_by(kind: str, edit: tuple[str, str, slice, list[str] | None], root: Path) -> list[str]:
    """What a rule says of a template after an edit."""
    rule, cell, lines, text = edit
    content = json.loads((ROOT / TEMPLATES[kind]).read_text(encoding="utf-8"))
    content["metadata"]["kb"]["uses"] = ["used.sh"]
    for name in ("used.sh", "shared.sh"):
        (root / kind / "area").mkdir(parents=True, exist_ok=True)
        (root / kind / "area" / name).touch()
    if text is None:
        content["cells"].remove(named(content["cells"], cell))
    else:
        named(content["cells"], cell)["source"][lines] = text
    notebook = Notebook(root, Path(kind, "area/name.ipynb"), content)
    return [problem for check in RULES if check.__name__ == rule for problem in check(notebook)]


@pytest.mark.parametrize("what", EDITS)
def test_each_rule_can_fail(what: str, tmp_path: Path, told: Told) -> None:
    problems = broken_by("runbooks", EDITS[what], tmp_path)
    assert problems
    for problem in problems:
        told(problem)


@pytest.mark.parametrize("what", LOOKS)
def test_each_rule_for_notebooks_can_fail(what: str, tmp_path: Path, told: Told) -> None:
    problems = broken_by("notebooks", LOOKS[what], tmp_path)
    assert problems
    for problem in problems:
        told(problem)


def test_an_id_that_means_nothing(told: Told) -> None:
    content = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    named(content["cells"], "title")["id"] = "0f3ac91b"
    [problem] = ids_mean_something(Notebook(ROOT, Path("runbooks/area/name.ipynb"), content))
    told(problem)


def test_every_rule_is_shown_to_fail() -> None:
    shown = {edit[0] for edit in EDITS.values()}
    others = {"identity", "ids_mean_something", "found_by_what_people_type", "short_title"}
    assert shown | others == {rule.__name__ for rule in RULES}


def test_a_notebook_must_say_what_it_is(told: Told) -> None:
    content = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    copied = Notebook(ROOT, Path("runbooks/area/copy.ipynb"), content)
    [problem] = identity(copied)
    told(problem)


ANSWERS = {
    "prose": "## In short\n\nProse.",
    "a link to nothing": "## In short\n\n- [It is so](#a1-gone).",
    "no claim": "## In short\n\n- It is so.",
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_notebook_begins_with_its_answer(what: str, tmp_path: Path, told: Told) -> None:
    content = json.loads((ROOT / TEMPLATES["notebooks"]).read_text(encoding="utf-8"))
    named(content["cells"], "answer")["source"] = ANSWERS[what]
    look = named(content["cells"], "os-release")
    look["source"] = 'settle("a1-here", confirmed=same(1, 1))'
    for problem in answer_comes_first(
        Notebook(tmp_path, Path("notebooks/area/name.ipynb"), content)
    ):
        told(problem)


def described(**kb: object) -> Notebook:
    """The template, with other words about itself."""
    content = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    content["metadata"]["kb"] |= kb
    return Notebook(ROOT, Path("runbooks/area/name.ipynb"), content)


FOUND_BY: dict[str, dict] = {
    "nothing": {},
    "tasks alone": {"tasks": ["a", "b", "c", "d", "保存"]},
    "too few": {"tasks": ["a", "b", "保存"], "symptoms": {"c": "write"}},
    "nothing in Chinese": {"tasks": ["a", "b", "c"], "symptoms": {"d": "write", "e": "write"}},
}


@pytest.mark.parametrize("what", FOUND_BY)
def test_a_notebook_must_say_what_people_type(what: str, told: Told) -> None:
    (problem,) = found_by_what_people_type(described(found_by=FOUND_BY[what]))
    told(problem)


def test_a_sentence_needs_a_short_title(told: Told) -> None:
    (problem,) = short_title(described(title="Why lists of long titles are hard to read"))
    told(problem)


@pytest.fixture
def area(tmp_path: Path) -> Path:
    """The root of a project with one runbook in which nothing is amiss."""
    notebook = read(TEMPLATES["runbooks"], tmp_path)
    text = (ROOT / "ci/templates/area.toml").read_text(encoding="utf-8")
    (tmp_path / "runbooks/area/area.toml").write_text(text, encoding="utf-8")
    assert list(lint.check(tmp_path, [notebook.path])) == []
    assert list(lint.check_areas(tmp_path)) == []
    return tmp_path


def test_an_area_must_be_described(area: Path, told: Told) -> None:
    (area / "runbooks/area/area.toml").unlink()
    (problem,) = lint.check_areas(area)
    assert problem.startswith("runbooks/area/area.toml is missing: write in it")


def test_two_of_one_area_may_not_have_one_title(area: Path, told: Told) -> None:
    template = json.loads((area / "runbooks/area/name.ipynb").read_text(encoding="utf-8"))
    template["metadata"]["kb"]["identity"] = "runbooks/area/other"
    text = canonical(json.dumps(template)).replace("# TITLE", "# Title")
    (area / "runbooks/area/other.ipynb").write_text(text, encoding="utf-8")
    shutil.copytree(area / "runbooks/area/name", area / "runbooks/area/other")
    one, two = lint.check_areas(area)
    assert one == two
    told(one)
    template["metadata"]["kb"]["title"] = "Another"
    text = canonical(json.dumps(template)).replace("# TITLE", "# Title")
    (area / "runbooks/area/other.ipynb").write_text(text, encoding="utf-8")
    assert list(lint.check_areas(area)) == [one]


def test_a_file_must_be_somebodys(area: Path, told: Told) -> None:
    (area / "runbooks/area/name.prepare.sh").touch()
    (area / "runbooks/area/.name.ipynb.swp").touch()  # an editor's
    (problem,) = lint.check_areas(area)
    told(problem)
    assert len(AREA_RULES) == 3  # each of them is shown to fail above


def test_shellcheck_names_notebook_cell_and_line() -> None:
    content = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    named(content["cells"], "verify-message")["source"][1:] = ["cat $path\n", "echo $nothing"]
    notebook = Notebook(ROOT, Path("runbooks/area/name.ipynb"), content)
    problems = "\n".join(check_cells(notebook))
    assert "runbooks/area/name.ipynb: cell `verify-message`, line 2: Double quote" in problems
    assert "line 3: nothing is referenced but not assigned" in problems
    # What is missing at the end is said of a line that is not there.
    named(content["cells"], "verify-message")["source"][1:] = ["if true; then\n", "  echo x"]
    problems = "\n".join(check_cells(Notebook(ROOT, notebook.path, content)))
    assert "Couldn't find 'fi' for this 'if'. (SC1046)\n    if true; then" in problems


def test_without_shellcheck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: Told) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("shutil.which", lambda _: None)
    with told.raises(TableError):
        list(check_scripts(ROOT, [Path("ci/setup.sh")]))
    (tmp_path / "shellcheck").write_text("#!/bin/sh\necho no such option >&2; exit 3\n")
    (tmp_path / "shellcheck").chmod(0o755)
    with told.raises(TableError):
        list(check_scripts(ROOT, [Path("ci/setup.sh")]))


CASE = '[[broken]]\ncell = "preflight-directory"\nmessage = "x"\n'
GOOD = f"{CASE}setup = '''\ncat \"$KB_FIXTURES\"\n'''\n"


@pytest.mark.parametrize(
    ("setup", "line"),
    [
        ("setup = '''\ntrue\ncat $HOME\n'''\n", 12),
        ("setup = '''true\ncat $HOME\n'''\n", 11),
        ('parameters.path = "/x"\nsetup = "cat $HOME"\n', 11),
    ],
)
def test_shellcheck_sees_the_setups_of_cases(area: Path, setup: str, line: int) -> None:
    place = "runbooks/area/name/ci/cases.toml"
    (area / place).write_text(GOOD + CASE + setup, encoding="utf-8")
    (problem,) = lint.check(area, [Path("runbooks/area/name.ipynb")])
    assert problem == (
        f"{place}:{line}: Double quote to prevent globbing and word splitting. (SC2086)\n"
        "    cat $HOME"
    )


def test_shellcheck_sees_the_scripts_of_a_notebook(area: Path) -> None:
    (area / "runbooks/area/name/ci/prepare.sh").write_text("#!/bin/bash\ncat $1\n")
    (problem,) = lint.check(area, [Path("runbooks/area/name.ipynb")])
    assert problem.startswith("runbooks/area/name/ci/prepare.sh:2: Double quote to prevent")


def lint_command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kb.proof.lint", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_a_source_of_a_fixture_is_somebodys(area: Path) -> None:
    notebook = area / "runbooks/area/name.ipynb"
    (area / "runbooks/area/server").mkdir()
    (area / "runbooks/area/server/main.go").touch()
    (area / "ci/fixtures").mkdir(parents=True)
    (area / "ci/fixtures/server.src").symlink_to("../../runbooks/area/server")
    (problem,) = lint.check_areas(area)
    assert problem.startswith("runbooks/area/server/main.go belongs to no notebook")
    content = json.loads(notebook.read_text())
    content["metadata"]["kb"]["fixtures"] = ["server"]
    notebook.write_text(json.dumps(content))
    assert list(lint.check_areas(area)) == []


def test_lint_is_a_command(area: Path) -> None:
    done = lint_command(area)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (area / "runbooks/area/lost.sh").touch()
    done = lint_command(area)
    assert done.returncode == 1
    assert done.stdout.startswith("runbooks/area/lost.sh belongs to no notebook")
    assert lint_command(area, "runbooks/area/name.ipynb").returncode == 0
    (area / "runbooks/area/name.ipynb").write_text("{")
    done = lint_command(area)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1  # once, though the areas need it, too
    assert "not a notebook: broken JSON" in done.stdout


def test_lint_of_what_is_no_notebook(area: Path, told: Told) -> None:
    done = lint_command(area, "README.md")
    assert (done.returncode, done.stdout) == (2, "")
    told(done.stderr)
