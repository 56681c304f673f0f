"""What a cell calls without showing it, found in the files beside its notebook."""

from __future__ import annotations

from kb.site import helpers

BASH = """\
# shellcheck shell=bash
put() { # FILE: in its place
    mv "$1" "$(place)"
}

# where things are
place() { echo /srv; }

unused() {
    echo never
}
"""
PYTHON = """\
import os


def run(command):
    return node(command)


def node(name):
    return name


def unused():
    return run("x")
"""


def names(code: str, language: str, path: str, text: str, whole: str = "") -> list[str]:
    return [helper.name for helper in helpers.called(code, language, {path: text}, whole)]


def test_of_a_sourced_file_what_is_called_is_shown_and_what_that_calls() -> None:
    code = '. "$KB_HERE/limits/lib.sh"\n[ -e x ] || put x'
    put, place = helpers.called(code, "bash", {"limits/lib.sh": BASH}, "")
    assert put.code.startswith("put() {") and put.code.endswith("}")
    assert place.code == "# where things are\nplace() { echo /srv; }"


def test_a_word_is_no_call() -> None:
    sourced = '. "$KB_HERE/limits/lib.sh"\n'
    for code in ('echo "put it in place"', "output=$(put-all)", "put=1", "./put x", "# put x"):
        assert not names(sourced + code, "bash", "limits/lib.sh", BASH), code
    assert not names("put x", "bash", "limits/lib.sh", BASH)


def test_of_a_module_what_is_called_is_shown_and_what_that_calls() -> None:
    for whole, code in (("from units import run", "run(1)"), ("import units", "units.run(1)")):
        assert names(code, "python", "limits/units.py", PYTHON, whole) == ["run", "node"]
    assert not names("subprocess.run(1)", "python", "limits/units.py", PYTHON, "import units")
    assert not names("run(1)", "python", "limits/units.py", PYTHON)


def test_a_script_is_shown_where_it_is_run_by_path_or_by_name() -> None:
    script = "#!/bin/bash\necho step\n"
    by_name = "PATH=$PATH:$KB_HERE/limits\nstep 1"
    for code in ('bash "$KB_HERE/limits/step" 1', by_name):
        assert names(code, "bash", "limits/step", script) == ["step"]
    assert not names("echo step", "bash", "limits/step", script)
    printed = 'cat "$KB_HERE/limits/step"; "$KB_HERE/limits/step"'
    assert not names(printed, "bash", "limits/step", script)
    long = script + "#" * helpers.LARGEST
    assert not names(by_name, "bash", "limits/step", long)
