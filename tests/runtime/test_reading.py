"""What a run announces and sums up on the terminal, and what `kb-show` prints of its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden import Told
from kb.runtime import modes, preview, reading
from project import Project, code, runbook

CELLS = [
    code("ready", "%%preflight It is there\necho fine"),
    code("write", '%%apply Write it\n# changes: $place/conf\necho new >"$place/conf"'),
    code("see", '%%verify It took\ngrep new "$place/conf"'),
    code("back", "%%rollback Put it back\nkb-restore"),
]


@pytest.fixture
def place(project: Project, tmp_path: Path) -> Path:
    cells = [*CELLS]
    cells[1] = code(
        "write",
        CELLS[1].source.replace("\necho", '\ngrep -qs new "$place/conf" || echo')
        + '\necho "changed: wrote it"',
    )
    project.add("runbooks/area/name.ipynb", runbook(*cells, parameters='place: str = ""  # where'))
    root = tmp_path / "world"
    root.mkdir()
    (root / "conf").write_text("old\n")
    return root


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("%%preflight A", {"plan": "preflight A", "apply": "preflight A", "rollback": ""}),
        ("%%preflight --rollback A", dict.fromkeys(("plan", "apply", "rollback"), "preflight A")),
        ("%%apply A\nx", {"plan": "plan A", "apply": "apply A", "rollback": ""}),
        ("%%verify A", {"plan": "", "apply": "verify A", "rollback": ""}),
        ("%%rollback A", {"plan": "", "apply": "", "rollback": "rollback A"}),
        ("%%observe A", {None: "observe A", "rollback": ""}),
        ("%%time x", {None: "", "apply": ""}),
        ("x = 1", {None: ""}),
    ],
)
def test_only_what_really_runs_is_announced(source: str, says: dict[str | None, str]) -> None:
    assert {mode: modes.announced(source, mode) for mode in says} == says


def test_a_run_ends_with_what_changed_what_was_saved_and_where_it_is_told(
    project: Project, place: Path
) -> None:
    def lines(mode: str, *options: str) -> list[str]:
        arguments = ("-p", "place", str(place), "-p", "mode", mode, *options)
        done = project.run("papermill", "runbooks/area/name.ipynb", f"{mode}.ipynb", *arguments)
        assert done.returncode == 0, done.stderr
        return [line.partition("s] ")[2] or line for line in done.stderr.splitlines()]

    record = f"record: {project.root}/{{}}.ipynb  (kb-show prints it)"
    plan = lines("plan")
    assert plan[-5:-3] == ["preflight It is there", "plan Write it"]
    assert plan[-3].startswith(("plan: 1 file would change", "plan: nothing is known to change"))
    assert plan[-1] == record.format("plan")
    assert lines("apply")[-6:] == [
        "preflight It is there",
        "apply Write it",
        "verify It took",
        "changed: wrote it",
        "saved of a person's edits: nothing",
        record.format("apply"),
    ]
    (place / "conf").write_text("new, and a person's\n")
    back = lines("rollback", "--log-output")
    assert not any("not run in mode" in line for line in back)
    assert "rollback Put it back" in back
    saved = next(line for line in back if line.startswith("saved of a person's edits: "))
    where = saved.partition("the edited one is ")[2]
    assert Path(where).read_text() == "new, and a person's\n"


def test_the_record_of_an_apply_is_not_overwritten(
    project: Project, place: Path, told: Told
) -> None:
    def run(mode: str, **env: str) -> str:
        arguments = ("-p", "place", str(place), "-p", "mode", mode)
        done = project.run("papermill", "runbooks/area/name.ipynb", "out.ipynb", *arguments, **env)
        return done.stderr.splitlines()[-1] if done.returncode else ""

    assert run("plan") == run("apply") == ""
    record = (project.root / "out.ipynb").read_bytes()
    said = {run(mode) for mode in ("plan", "apply", "rollback")}
    assert len(said) == 1
    told(said.pop())
    assert (project.root / "out.ipynb").read_bytes() == record
    assert run("rollback", NOBLE_RUNBOOKS_OVERWRITE="1") == ""
    assert run("plan") == ""


def recorded(mode: str, *shown: tuple[str, str, list[dict]], error: dict | None = None) -> dict:
    cells = [cell.copy() for cell in CELLS]
    rows = []
    for cell in cells:
        status, outputs = next(((s, o) for i, s, o in shown if i == cell.id), ("not run", []))
        cell["outputs"] = outputs
        rows.append({"id": cell.id, "status": status, "duration": 1.25})
    run = {
        "notebook": "runbooks/area/name.ipynb",
        "mode": mode,
        "result": "failed" if error else "passed",
        "error": error,
        "started": "2026-11-28T10:00:00Z",
        "duration": 3.0,
        "parameters": {"mode": mode, "place": "/srv"},
        "host": {"name": "local"},
        "cells": rows,
    }
    return {"cells": cells, "metadata": {"kb_run": run}}


def stream(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": text}


def test_a_record_is_told_in_lines() -> None:
    passed = recorded(
        "apply",
        ("ready", "passed", [stream("fine\n")]),
        ("write", "passed", [stream("saved: /srv/conf was edited since; x\nnoise\nchanged: it\n")]),
        ("see", "failed", [stream("".join(f"{n}\n" for n in range(20)))]),
        error={"cell": "see", "message": 'verify "It took" failed: no'},
    )
    assert "\n".join(reading.show(passed, None)).endswith(
        """\
area/name, mode apply: failed
on local at 2026-11-28T10:00:00Z, for 3 s
with place=/srv

   1.2 s  preflight It is there  [ready]
   1.2 s  apply Write it  [write]
          saved: /srv/conf was edited since; x
          changed: it
  FAILED  verify It took  [see]
"""
        + "".join(f"          {n}\n" for n in range(5, 20))
        + """
changed: it
saved of a person's edits: /srv/conf was edited since; x
failed: verify "It took" failed: no
--cell NAME prints a cell with all that it said"""
    )
    assert list(reading.show(passed, "ready")) == [
        "%%preflight It is there",
        "echo fine",
        "--- passed in 1.2 s",
        "fine",
    ]
    with pytest.raises(ValueError, match="there is no cell `redy`; there are ready, write, see, b"):
        list(reading.show(passed, "redy"))


def test_a_plan_is_told_with_its_diffs() -> None:
    plan = {
        "title": "Write it",
        "kind": "apply",
        "lines": [["head", "would change /srv/conf"], ["add", "+new"]],
        "counts": {"files": 1, "commands": 2},
        "unknown": True,
    }
    output = {"output_type": "display_data", "data": {preview.MIME: plan, "text/plain": "x"}}
    told = "\n".join(reading.show(recorded("plan", ("write", "passed", [output])), None))
    assert (
        "   1.2 s  plan Write it  [write]\n          would change /srv/conf\n          +new\n"
        in told
    )
    assert 'plan: 1 file, 2 commands would change; not known to the end: "Write it"\n' in told


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no file"),
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no notebook"),
        pytest.param('{"metadata": {}, "cells": []}', id="not run"),
        pytest.param('{"metadata": {"kb_run": {}}, "cells": []}', id="cut"),
    ],
)
def test_what_is_no_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, told: Told
) -> None:
    file = tmp_path / "out.ipynb"
    if content is not None:
        file.write_text(content)
    assert reading.main([str(file)]) == 1
    told(capsys.readouterr().err.replace(str(tmp_path), "DIR"))


def test_a_cell_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: Told
) -> None:
    file = tmp_path / "out.ipynb"
    file.write_text(json.dumps(recorded("plan")))
    assert reading.main([str(file), "--cell", "nothing"]) == 1
    told(capsys.readouterr().err.replace(str(tmp_path), "DIR"))
