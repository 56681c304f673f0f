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
from kb.proof import catalog, lint
from kb.proof.catalog import Notebook
from kb.proof.format import canonical
from kb.proof.lint.rules import (
    AREA_RULES,
    RULES,
    answer_comes_first,
    found_by_what_people_type,
    identity,
    short_title,
)
from kb.proof.lint.shell import check_cells, check_setups

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


def edit_title(cells: list[dict]) -> None:
    cells[0]["source"] = ["## No title"]


def edit_summary(cells: list[dict]) -> None:
    cells[0]["source"] = ["# Title\n", "\n", "One.\n", "\n", "Two."]


def edit_section(cells: list[dict]) -> None:
    named(cells, "verify")["source"] = ["## Checks"]


def edit_setup(cells: list[dict]) -> None:
    named(cells, "setup")["source"] = ["%load_ext kb\n", "import os"]


def edit_mode(cells: list[dict]) -> None:
    named(cells, "parameters")["source"][0] = 'mode: str = "apply"  # plan, apply or rollback\n'


def edit_no_parameters(cells: list[dict]) -> None:
    cells.remove(named(cells, "parameters"))


def edit_bang(cells: list[dict]) -> None:
    named(cells, "rollback")["source"] = ["!rm -rf /etc/noble-example"]


def edit_bash_magic(cells: list[dict]) -> None:
    named(cells, "verify-message")["source"][0] = "%%bash\n"


def edit_magic_without_title(cells: list[dict]) -> None:
    named(cells, "write")["source"][0] = "%%apply\n"


def edit_magic_option(cells: list[dict]) -> None:
    named(cells, "write")["source"][0] = "%%apply --rollback Write the message\n"


def edit_magic_misplaced(cells: list[dict]) -> None:
    named(cells, "write")["source"][0] = "%%verify Write the message\n"


def edit_preflight(cells: list[dict]) -> None:
    named(cells, "write")["source"][0] = "%%preflight Write the message\n"


def edit_changes(cells: list[dict]) -> None:
    del named(cells, "write")["source"][1:3]


def edit_length(cells: list[dict]) -> None:
    named(cells, "write")["source"] += ["\ntrue"] * 50


def edit_id(cells: list[dict]) -> None:
    named(cells, "title")["id"] = "0f3ac91b"


def edit_settle(cells: list[dict]) -> None:
    named(cells, "rollback")["source"] = ['settle("x", confirmed=same(1, 1))']


def edit_link(cells: list[dict]) -> None:
    named(cells, "title")["source"] += ["See [the other](../no-such.ipynb#steps)."]


def edit_uses(cells: list[dict]) -> None:
    named(cells, "verify-message")["source"] += ['. "$KB_HERE/shared.sh"']


def edit_no_use(cells: list[dict]) -> None:
    named(cells, "verify-message")["source"] += ['. "$KB_HERE/a-used.sh"']


def edit_answer(cells: list[dict]) -> None:
    cells.remove(named(cells, "answer"))


def edit_cure(cells: list[dict]) -> None:
    text = "".join(named(cells, "answer")["source"]).replace("```bash", "```text")
    named(cells, "answer")["source"] = text


def named(cells: list[dict], identity: str) -> dict:
    return next(cell for cell in cells if cell["id"] == identity)


@pytest.mark.parametrize(
    ("rule", "edit", "says"),
    [
        ("title_and_summary", edit_title, "must begin with `# Title`"),
        ("title_and_summary", edit_summary, "title and one paragraph"),
        ("sections_in_order", edit_section, "Checks"),
        ("answer_comes_first", edit_answer, "the second cell must have the id `answer`"),
        ("answer_comes_first", edit_cure, "`## What to do` lacks ```bash"),
        ("setup_cell", edit_setup, "exactly `%load_ext kb`"),
        ("parameters_cell", edit_mode, "plan changes nothing by default"),
        ("parameters_cell", edit_no_parameters, "must be tagged `parameters`"),
        ("no_raw_shell", edit_bang, "`rollback` runs a raw shell"),
        ("no_raw_shell", edit_bash_magic, "`verify-message` runs a raw shell"),
        ("known_magics", edit_bash_magic, "`%%bash`, which is no magic of kb"),
        ("known_magics", edit_magic_without_title, "%%apply needs a title"),
        ("known_magics", edit_magic_option, "`--rollback` is no option of %%apply"),
        ("magics_in_their_sections", edit_magic_misplaced, "belongs under `## Verify`"),
        ("magics_in_their_sections", edit_bang, "no %%rollback cell"),
        ("preflights_can_fail", edit_preflight, "`write`: no case makes this preflight fail"),
        ("uses_are_named", edit_uses, 'add "shared.sh" to `uses` in the metadata'),
        ("uses_are_named", edit_no_use, "`uses` names used.sh, and no cell and no file"),
        ("changes_are_declared", edit_changes, "`write`: an %%apply cell begins with"),
        ("short_cells", edit_length, "lines (at most 45)"),
        ("ids_mean_something", edit_id, "`0f3ac91b` needs an id"),
        ("verdicts_can_flip", edit_settle, "no case shows that a verdict can change"),
        (
            "links_lead_somewhere",
            edit_link,
            "`title` links to ../no-such.ipynb, which is not there",
        ),
    ],
)
def test_each_rule_can_fail(rule: str, edit: Callable, says: str, tmp_path: Path) -> None:
    content = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    content["metadata"]["kb"]["uses"] = ["used.sh"]
    edit(content["cells"])
    for name in ("used.sh", "shared.sh"):
        (tmp_path / "runbooks/area").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runbooks/area" / name).touch()
    notebook = Notebook(tmp_path, Path("runbooks/area/name.ipynb"), content)
    problems = [problem for check in RULES if check.__name__ == rule for problem in check(notebook)]
    assert any(says in problem for problem in problems), problems


def test_every_rule_is_shown_to_fail() -> None:
    shown = {case[0] for case in test_each_rule_can_fail.pytestmark[0].args[1]}
    shown |= {"identity", "found_by_what_people_type", "short_title"}  # below: not of the cells
    assert shown == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("## In short\n\nProse.", "has 0 points: say the answer in one to three"),
        ("## In short\n\n- [It is so](#a1-gone).", "links to #a1-gone, which no cell here settles"),
        ("## In short\n\n- It is so.", "names no claim: link to one by #ID"),
    ],
)
def test_a_notebook_begins_with_its_answer(answer: str, says: str, tmp_path: Path) -> None:
    content = json.loads((ROOT / TEMPLATES["notebooks"]).read_text(encoding="utf-8"))
    named(content["cells"], "answer")["source"] = answer
    look = named(content["cells"], "os-release")
    look["source"] = 'settle("a1-here", confirmed=same(1, 1))'
    notebook = Notebook(tmp_path, Path("notebooks/area/name.ipynb"), content)
    problems = list(answer_comes_first(notebook))
    assert any(says in problem for problem in problems), problems


def test_a_notebook_must_say_what_it_is() -> None:
    content = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    copied = Notebook(ROOT, Path("runbooks/area/copy.ipynb"), content)
    assert list(identity(copied)) == ['the metadata must say `"identity": "runbooks/area/copy"`']


def described(**kb: object) -> Notebook:
    """The template, with other words about itself."""
    content = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    content["metadata"]["kb"] |= kb
    return Notebook(ROOT, Path("runbooks/area/name.ipynb"), content)


@pytest.mark.parametrize(
    ("found_by", "says"),
    [
        ({}, "the metadata must say what people type to find it, at least 5 entries"),
        ({"tasks": ["a", "b", "c", "d", "保存"]}, "the metadata must say what people type"),
        ({"tasks": ["a", "b", "保存"], "symptoms": {"c": "write"}}, "the metadata must say what"),
        ({"tasks": ["a", "b", "c"], "symptoms": {"d": "write", "e": "write"}}, "no Chinese words"),
    ],
)
def test_a_notebook_must_say_what_people_type(found_by: dict, says: str) -> None:
    (problem,) = found_by_what_people_type(described(found_by=found_by))
    assert says in problem


def test_a_sentence_needs_a_short_title() -> None:
    (problem,) = short_title(described(title="Why lists of long titles are hard to read"))
    assert 'say a shorter one in the metadata for lists, "title": "..."' in problem


def test_two_of_one_area_may_not_have_one_title(area: Path) -> None:
    template = json.loads((area / "runbooks/area/name.ipynb").read_text(encoding="utf-8"))
    template["metadata"]["kb"]["identity"] = "runbooks/area/other"
    text = canonical(json.dumps(template)).replace("# TITLE", "# Title")
    (area / "runbooks/area/other.ipynb").write_text(text, encoding="utf-8")
    shutil.copytree(area / "runbooks/area/name", area / "runbooks/area/other")
    same = "runbooks/area/other.ipynb: runbooks/area/name.ipynb has the same title, 'Title'"
    assert list(lint.check_areas(area)) == [f"{same}: change one"] * 2
    template["metadata"]["kb"]["title"] = "Another"
    text = canonical(json.dumps(template)).replace("# TITLE", "# Title")
    (area / "runbooks/area/other.ipynb").write_text(text, encoding="utf-8")
    assert list(lint.check_areas(area)) == [f"{same}: change one"]


@pytest.fixture
def area(tmp_path: Path) -> Path:
    """The root of a project with one runbook in which nothing is amiss."""
    notebook = read(TEMPLATES["runbooks"], tmp_path)
    text = (ROOT / "ci/templates/area.toml").read_text(encoding="utf-8")
    (tmp_path / "runbooks/area/area.toml").write_text(text, encoding="utf-8")
    assert list(lint.check(tmp_path, [notebook.path])) == []
    assert list(lint.check_areas(tmp_path)) == []
    return tmp_path


def test_an_area_must_be_described(area: Path) -> None:
    (area / "runbooks/area/area.toml").unlink()
    (problem,) = lint.check_areas(area)
    assert problem.startswith("runbooks/area/area.toml is missing: write in it")


def test_a_file_must_be_somebodys(area: Path) -> None:
    (area / "runbooks/area/name.prepare.sh").touch()
    (area / "runbooks/area/.name.ipynb.swp").touch()  # an editor's
    (problem,) = lint.check_areas(area)
    assert problem == (
        "runbooks/area/name.prepare.sh belongs to no notebook: move it into the folder NAME/ of the"
        " one that uses it, or say so in the metadata of those that do,"
        ' "uses": ["name.prepare.sh"]'
    )
    assert len(AREA_RULES) == 3  # each of them is shown to fail above


def test_shellcheck_names_notebook_cell_and_line() -> None:
    content = json.loads((ROOT / TEMPLATES["runbooks"]).read_text(encoding="utf-8"))
    named(content["cells"], "verify-message")["source"][1:] = ["cat $path\n", "echo $nothing"]
    notebook = Notebook(ROOT, Path("runbooks/area/name.ipynb"), content)
    problems = "\n".join(check_cells(notebook))
    assert "runbooks/area/name.ipynb: cell `verify-message`, line 2: Double quote" in problems
    assert "line 3: nothing is referenced but not assigned" in problems


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


def test_lint_of_what_is_no_notebook(area: Path) -> None:
    done = lint_command(area, "README.md")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: README.md is not a notebook of this repository: name it as"
        " runbooks/AREA/NAME.ipynb or notebooks/AREA/NAME.ipynb, in the repository's root\n"
    )
