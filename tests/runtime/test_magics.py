"""The cell magics: what runs in which mode, and what is said where it does not."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from cells import Make
from golden import Told
from kb.runtime import magics, undo
from project import tree


@pytest.fixture
def world(tmp_path: Path) -> Path:
    root = tmp_path / "world"
    root.mkdir()
    (root / "conf").write_text("original")
    return root


def step(world: Path, body: str) -> str:
    declared = f"# changes: {world}/conf  the settings\n# changes: {world}/new/file"
    return f"%%apply Change two files\n{declared}\n{body}"


RESTORE = "%%rollback Put everything back\nkb-restore"
CHANGE = "mkdir -p new; echo mine >conf; echo new >new/file; echo changed: two files"


@pytest.mark.parametrize(
    ("magic", "runs_in"),
    [
        ("preflight", {"plan", "apply"}),
        ("preflight --rollback", {"plan", "apply", "rollback"}),
        ("observe", {"plan", "apply"}),
        ("apply", {"apply"}),
        ("verify", {"apply"}),
        ("rollback", {"rollback"}),
    ],
)
@pytest.mark.parametrize("mode", ["plan", "apply", "rollback"])
def test_a_cell_runs_in_its_modes(make: Make, magic: str, runs_in: set[str], mode: str) -> None:
    said = make(mode).run(f'%%{magic} A title\necho "it runs in $KB_MODE"')
    if mode in runs_in:
        assert said == f"it runs in {mode}\n"
    elif (magic, mode) == ("apply", "plan"):
        assert said.startswith(("as it is already\n  it runs in apply\n", "not rehearsed, since"))
    elif (magic, mode) == ("rollback", "plan"):
        assert said.startswith("All steps: nothing would change.\nA rollback would find nothing")
    else:
        assert said == f"(not run in mode {mode})\n"


def test_a_look_needs_no_mode(make: Make) -> None:
    cells = make("plan")
    cells.run("mode = ''")
    assert cells.run("%%observe Look\necho seen") == "seen\n"


@pytest.mark.parametrize("title", ["--rolback A title", "--rollback --now A title"])
def test_an_option_that_a_preflight_has_not(make: Make, title: str, told: Told) -> None:
    with told.raises(magics.StepError):
        make("rollback").run(f"%%preflight {title}\ntrue")


def test_the_option_is_no_part_of_the_title(make: Make, told: Told) -> None:
    with told.raises(magics.StepError):
        make("rollback").run("%%preflight --rollback  A title\nkb-refuse no")


def test_apply_keeps_and_rollback_restores(make: Make, world: Path, tmp_path: Path) -> None:
    before = tree(world)
    changed = step(world, f"cd {world}; {CHANGE}")
    assert make("apply").run(changed) == "changed: two files\n"
    assert (world / "new/file").exists()
    assert make("apply").run(step(world, "true")) == ""
    said = make("rollback").run("%%rollback Put it back\nkb-restore")
    assert f"changed: removed {world}/new\n" in said
    assert tree(world) == before
    assert not (tmp_path / "state").exists()
    again = make("rollback").run("%%rollback Put it back\nkb-restore")
    assert again == "nothing to put back: no step of this runbook has been applied here\n"
    assert not (tmp_path / "state").exists()


def test_the_rest_of_a_rollback_runs_as_any_cell(make: Make, world: Path, told: Told) -> None:
    make("apply").run(step(world, f"cd {world}; {CHANGE}"))
    with told.raises(magics.StepError):
        make("rollback").run('%%rollback Put it back\nkb-restore\ntest -w "$(mktemp)"\nfalse')


def test_a_restore_that_fails_is_a_failure(make: Make, world: Path, tmp_path: Path) -> None:
    make("apply").run(step(world, f"cd {world}; {CHANGE}"))
    (tmp_path / "state/area/name/originals/0000/copy").unlink()
    with pytest.raises(magics.StepError) as caught:
        make("rollback").run("%%rollback Put it back\nkb-restore\necho not reached")
    assert "line 1, `kb-restore`, exited with status 1" in str(caught.value)


def test_an_original_is_kept_before_the_step_runs(make: Make, world: Path, told: Told) -> None:
    with told.raises(magics.StepError):
        make("apply").run(step(world, f"echo half >{world}/conf\nfalse"))
    make("rollback").run("%%rollback x\nkb-restore")
    assert (world / "conf").read_text() == "original"


def test_an_edited_file_is_saved(make: Make, world: Path) -> None:
    make("apply").run(step(world, f"cd {world}; {CHANGE}"))
    (world / "conf").write_text("a person's")
    said = make("rollback").run("%%rollback x\nkb-restore")
    saved = Path(said.partition("the edited one is ")[2].split()[0])
    assert saved.read_text() == "a person's"
    assert (world / "conf").read_text() == "original"


def test_two_applies_at_once(make: Make, world: Path) -> None:
    first = make("apply")
    first.run(step(world, "true"))
    with pytest.raises(magics.StepError) as caught:
        make("apply", at_once=True).run(step(world, f"rm {world}/conf"))
    assert "another run of this runbook is under way on this host" in str(caught.value)
    assert str(caught.value).endswith("(nothing has been changed)")
    assert (world / "conf").exists()


def test_parameters_are_environment_variables(make: Make) -> None:
    declared = 'prefix: str = "/opt"  # x\ncount: int = 3  # x\nfast: bool = True  # x'
    said = make("plan", declared).run('%%observe x\necho "$prefix $count $fast $KB_MODE"')
    assert said == "/opt 3 true plan\n"


def test_changes_expands_parameters_only(make: Make, world: Path, told: Told) -> None:
    cells = make("plan", f'prefix: str = "{world}"  # x\ngo_version: str = "1.30"  # x')
    said = cells.run("%%apply x\n# changes: $prefix/go-${go_version}/../go-1  the tools\nfalse")
    assert f"may create {world}/go-1  (the tools)\n" in said
    with told.raises(magics.StepError):
        cells.run("%%apply x\n# changes: $HOME/x")
    with told.raises(magics.StepError):
        cells.run("%%apply x\n# changes: here/x")


def test_a_refusal_is_the_sentence_alone(make: Make, told: Told) -> None:
    """Also one from a subshell, one that more output follows, and one that a pipe swallows."""
    cells = make("plan")
    for body in (
        "kb-refuse 'no room: make some'",
        "(kb-refuse 'no room: make some')\necho on",
        "(kb-refuse 'no room: make some') || true\necho on",
        "echo x | while read -r _; do kb-refuse 'no room: make some'; done",
        "x=$(kb-refuse 'no room: make some'; echo y)\necho on",
    ):
        with told.raises(magics.StepError):
            cells.run(f"%%preflight Room\n{body}")


VALUES = ["plain", "", "two\nlines\n\n", "-n", "%s \\ $x `y` 'z' \"q\"", "*", "é"]


@pytest.mark.parametrize("value", VALUES)
def test_a_note_is_kept_to_the_byte(make: Make, world: Path, tmp_path: Path, value: str) -> None:
    make("apply").run(step(world, f"kb-note found {shlex.quote(value)}"))
    assert (tmp_path / "state/area/name/notes/found").read_text() == value
    said = make("rollback").run("%%rollback Ask\nkb-noted found; echo .")
    assert said == f"{value}.\n"


def test_the_first_note_stays_and_a_latest_one_is_replaced(
    make: Make, world: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "state/area/name/notes"
    for found in ("active", "inactive", "inactive"):
        make("apply").run(
            step(world, f"kb-note was {found}; kb-note --latest now {found}; kb-noted was")
        )
    assert (notes / "was").read_text() == "active"
    assert (notes / "now").read_text() == "inactive"
    assert sorted(note.name for note in notes.iterdir()) == ["now", "was"]


def test_a_note_outlives_a_rollback_that_failed_and_goes_with_one_that_passed(
    make: Make, world: Path, tmp_path: Path, told: Told
) -> None:
    make("apply").run(step(world, f"kb-note was active\ncd {world}; {CHANGE}"))
    rollback = f"%%rollback Back\nkb-restore\nwas=$(kb-noted was)\n[ -e {world}/up ]; echo $was"
    for _ in range(2):
        with told.raises(magics.StepError):
            make("rollback").run(rollback)
    (world / "up").touch()
    said = make("rollback").run(rollback)
    assert said == "nothing more to put back: an earlier rollback has done that\nactive\n"
    assert not (tmp_path / "state").exists()
    with told.raises(magics.StepError):
        make("rollback").run(rollback)


def test_a_service_whose_rollback_failed_is_named_to_another(
    make: Make, world: Path, told: Told
) -> None:
    def at(mode: str, name: str, cell: str) -> str:
        cells = make(mode, 'service: str = "x"  # the unit')
        cells.run(f"# Parameters\nmode = {mode!r}\nservice = {name!r}")
        return cells.run(cell)

    at("apply", "shop", step(world, "kb-note was active"))
    with pytest.raises(magics.StepError):
        at("rollback", "shop", "%%rollback Back\nkb-restore; false")
    with told.raises(magics.StepError):
        at("rollback", "shpo", "%%rollback Back\nkb-restore")


def test_a_check_reads_notes_and_takes_none(
    make: Make, world: Path, tmp_path: Path, told: Told
) -> None:
    look = "%%preflight x\nkb-noted was || echo nothing"
    assert make("plan").run(look) == "nothing\n"
    with told.raises(magics.StepError):
        make("apply").run("%%preflight x\nkb-note was active")
    assert not (tmp_path / "state").exists()
    make("apply").run(step(world, "kb-note was active"))
    assert make("plan").run(look) == "active"


def test_a_note_has_a_plain_name(make: Make, world: Path, told: Told) -> None:
    with told.raises(magics.StepError):
        make("apply").run(step(world, "kb-note ../x y"))


def test_a_note_that_cannot_be_written_is_none(
    make: Make, world: Path, tmp_path: Path, told: Told
) -> None:
    """A full disk: the value is cut off, the step ends, and the next apply notes it whole."""
    notes = tmp_path / "state/area/name/notes"
    full = "ulimit -f 0; trap '' XFSZ"
    with told.raises(magics.StepError):
        make("apply").run(step(world, f"{full}\nkb-note was active"))
    assert not (notes / "was").exists()
    make("apply").run(step(world, "kb-note was active"))
    assert (notes / "was").read_text() == "active"


def test_a_failed_preflight_is_one_sentence(make: Make, told: Told) -> None:
    with told.raises(magics.StepError):
        make("plan").run("%%preflight Enough room\necho 'there is no room: free 2 GB'\nexit 1")


def test_what_a_failed_step_left_is_no_edit_of_a_person(
    make: Make, world: Path, tmp_path: Path
) -> None:
    before = tree(world)
    cells = make("apply")
    cells.run(step(world, f"cd {world}; {CHANGE}"))
    with pytest.raises(magics.StepError):
        cells.run(step(world, f"echo half >{world}/conf; false"))
    said = make("rollback").run("%%rollback Put it back\nkb-restore")
    assert "saved:" not in said
    assert tree(world) == before
    assert not (tmp_path / "state").exists()


def test_a_step_that_needs_a_reboot_ends_the_run(make: Make, world: Path, told: Told) -> None:
    cells = make("apply")
    with told.raises(magics.RebootNeededError):
        cells.run(step(world, f"echo new >{world}/conf; kb-reboot 'it loads at boot'; echo late"))
    assert (world / "conf").read_text() == "new\n"


def test_a_service_is_rolled_back_alone(make: Make, world: Path, told: Told) -> None:
    (world / "a").mkdir()
    body = f"# changes: {world}/$service.conf  its own\n# changes: {world}/conf  shared\n"
    body += f"echo new >{world}/$service.conf"

    def at(mode: str, name: str) -> str:
        cells = make(mode, 'service: str = "x"  # the unit')
        cells.run(f"# Parameters\nmode = {mode!r}\nservice = {name!r}")
        if mode == "apply":
            return cells.run(f"%%apply Write\n{body}")
        return cells.run("%%rollback Put it back\nkb-restore")

    at("apply", "shop")
    at("apply", "a/b")
    with told.raises(magics.StepError):
        at("rollback", "shpo")
    assert at("rollback", "shop") == f"changed: removed {world}/shop.conf\n"
    assert (world / "a/b.conf").exists()


def test_a_rollback_that_finds_nothing_names_what_is_applied(
    make: Make, world: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    make("apply").run(step(world, f"rm {world}/conf"))
    monkeypatch.setenv("KB_NOTEBOOK", "area/other")
    with told.raises(magics.StepError):
        make("rollback").run(RESTORE)
    monkeypatch.setenv("KB_NOTEBOOK", "area/name")
    cells = make("rollback")
    cells.run(RESTORE)
    assert (world / "conf").exists()
    assert cells.run(RESTORE).startswith("nothing to put back")  # a second cell of the same run
    assert make("rollback").run(RESTORE).startswith("nothing to put back")  # nothing is applied


def test_a_home_that_takes_no_originals(
    make: Make, world: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    cells = make("apply")
    monkeypatch.setenv("NOBLE_RUNBOOKS_STATE", "/proc/self/state")
    with told.raises(magics.StepError):
        cells.run(step(world, f"rm {world}/conf"))
    assert (world / "conf").exists()


@pytest.mark.parametrize("visible", [True, False], ids=["to be seen", "hidden"])
def test_a_rollback_of_what_somebody_else_applied(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: bool, told: Told
) -> None:
    roots = tmp_path / "roots"
    (roots / "area/name").mkdir(parents=True)
    monkeypatch.setattr(undo, "ROOTS_STATE", roots)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    if not visible:

        def hidden(path: Path) -> Any:
            raise PermissionError

        monkeypatch.setattr(Path, "lstat", hidden)
    cells = make("rollback")
    monkeypatch.delenv("NOBLE_RUNBOOKS_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(magics.StepError) as refused:
        cells.run(RESTORE)
    monkeypatch.undo()
    told(refused.value)


@pytest.mark.parametrize("mode", ["apply", "rollback"])
def test_a_working_directory_of_others_is_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, told: Told
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.chdir(shared)
    with told.raises(magics.StepError):
        make(mode).run("%%preflight --rollback x\necho hello")
    assert make("plan").run("%%preflight x\necho hello") == "hello\n"
    monkeypatch.setenv("NOBLE_RUNBOOKS_TRUST", str(shared))
    assert make(mode).run("%%preflight --rollback x\necho hello") == "hello\n"


def test_without_a_mode_there_is_no_runbook(make: Make, told: Told) -> None:
    cells = make("plan")
    cells.run("mode = 'sideways'")
    for magic in ("preflight", "apply", "verify", "rollback"):
        with told.raises(magics.StepError):
            cells.run(f"%%{magic} x\ntrue")


def test_a_kernel_that_does_not_know_its_notebook_changes_nothing(
    make: Make, world: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.delenv("KB_NOTEBOOK")
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with told.raises(magics.StepError):
        make("apply").run(step(world, f"rm {world}/conf"))
    assert (world / "conf").exists()
    monkeypatch.setenv("JPY_SESSION_NAME", "/somewhere/runbooks/go/install.ipynb")
    make("apply").run(step(world, "true"))


def test_an_injected_cell_is_checked_before_it_runs(make: Make, told: Told) -> None:
    cells = make("plan", 'prefix: str = "/opt"  # where to')
    with told.raises(magics.Rejected):
        cells.run('# Parameters\nprefixx = "/srv"')
    assert "prefixx" not in cells.shell.user_ns
