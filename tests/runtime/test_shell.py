"""Bash as a runbook needs it: strict, from a file, one ordered stream, nothing left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from golden import Told
from kb import bash
from kb.runtime import shell
from project import wait_for


def gone(pid: int, within: float = 5) -> bool:
    """Whether the process ends before the deadline; one that only waits for its parent has."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("script", "line", "text", "status"),
    [
        ("true\nfalse\necho no", 2, "false", 1),
        ("true\nls /does/not/exist\necho no", 2, "ls /does/not/exist", 2),
        ("false | cat\necho no", 1, "false | cat", 1),
        ("f() {\n  true\n  (exit 7)\n  echo no\n}\nf", 3, "(exit 7)", 7),
        ("f() { false; }\n\nx=$(f)\necho no", 3, "x=$(f)", 1),
        ("(\n  true\n  false\n)\necho no", 3, "false", 1),
        ("x=$(false; echo y)\nls /does/not/exist\necho no", 2, "ls /does/not/exist", 2),
        ("# a note\n\n  no-such-command --x  # y", 3, "no-such-command --x  # y", 127),
        ("trap 'echo mine' EXIT\nfalse", 2, "false", 1),
        ("f() {\n\n  false\n}\nif f; then :; fi\nf", 3, "false", 1),
    ],
)
def test_the_first_failure_stops_it_and_is_named(
    script: str, line: int, text: str, status: int
) -> None:
    done = shell.run(script)
    assert "no" not in done.output.split()
    assert done.status == status
    assert done.failure == shell.Failure(line, text)
    assert done.why() == f"line {line}, `{text}`, exited with status {status}"


@pytest.mark.parametrize(
    ("sourced", "script", "line", "text"),
    [
        ("\n\n\nfalse", "true\n. LIB\necho no", 2, ". LIB"),
        ("\n\n\nf() {\n  false\n}", "true\n. LIB\n\nf x\necho no", 4, "f x"),
        ("\n\n\nf() {\n  g\n}", ". LIB\ng() {\n  false\n}\nf", 3, "false"),
    ],
)
def test_a_failure_in_a_sourced_file_is_told_by_the_scripts_own_line(
    sourced: str, script: str, line: int, text: str, tmp_path: Path
) -> None:
    file = tmp_path / "lib.sh"
    file.write_text(sourced)
    done = shell.run(script.replace("LIB", str(file)))
    assert done.failure == shell.Failure(line, text.replace("LIB", str(file)))


def test_an_unset_variable_stops_it() -> None:
    done = shell.run('echo before\necho "$KB_SURELY_NOT_SET"\necho after')
    assert done.status != 0
    assert "before" in done.output
    assert "after" not in done.output
    assert "KB_SURELY_NOT_SET: unbound variable" in done.why()
    assert "line 2" in done.why()


def test_a_failure_that_is_expected_does_not_stop_it() -> None:
    done = shell.run("if false; then :; fi\nfalse || true\n! true\necho end")
    assert (done.status, done.output, done.failure) == (0, "end\n", None)


def test_no_command_can_swallow_the_rest_of_the_script() -> None:
    # In a process whose standard input has something to read, as a kernel's may.
    script = r"cat\nread -r line || echo nothing to read\necho the rest"
    code = f"from kb.runtime import shell; print(shell.run('{script}').output, end='')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input="typed", capture_output=True, text=True, check=True)
    assert done.stdout == "nothing to read\nthe rest\n"


def test_both_streams_are_one_in_order() -> None:
    done = shell.run("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    assert done.output == "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"


def test_an_explicit_exit_ends_with_the_scripts_own_words() -> None:
    done = shell.run("echo 'there is no room: free 2 GB in /opt'\nexit 4")
    assert done.failure is None
    assert done.why() == "there is no room: free 2 GB in /opt (status 4)"
    assert shell.run("exit 0").status == 0


def test_a_signal_is_named() -> None:
    done = shell.run("kill -TERM $$; sleep 5")
    assert done.status == -signal.SIGTERM
    assert done.why() == "it was ended by SIGTERM"


def test_check_raises_one_line_and_the_output(told: Told) -> None:
    with told.raises(shell.ScriptError):
        bash("echo words\nfalse")


def test_a_kernel_that_is_killed_takes_the_scripts_children_along(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sh -c 'echo $$ >{pid}; sleep 60; echo no'"
    kernel = subprocess.Popen([sys.executable, "-c", f"from kb import bash; bash({script!r})"])
    wait_for(lambda: pid.exists() and pid.read_text().endswith("\n"))
    kernel.kill()
    kernel.wait()
    assert gone(int(pid.read_text()))


def test_a_timeout_kills_the_children_too(tmp_path: Path, told: Told) -> None:
    before = time.monotonic()
    with told.raises(shell.ScriptTimeoutError):
        bash(f"sleep 60 & echo $! >{tmp_path}/child\necho started\nsleep 60", timeout=0.5)
    assert time.monotonic() - before < 10
    assert gone(int((tmp_path / "child").read_text()))


def test_what_came_before_a_timeout_is_shown() -> None:
    seen: list[str] = []
    with pytest.raises(shell.ScriptTimeoutError):
        shell.run("echo first\nprintf half\nsleep 60", timeout=0.5, emit=seen.append)
    assert "".join(seen) == "first\nhalf"


def test_a_daemon_does_not_hang_it(tmp_path: Path) -> None:
    before = time.monotonic()
    done = shell.run(f"sleep 60 & echo $! >{tmp_path}/daemon\necho up", timeout=30)
    daemon = int((tmp_path / "daemon").read_text())
    try:
        assert done.output == "up\n"
        assert time.monotonic() - before < 10
        assert not gone(daemon, within=0.1)  # a step may start what must stay
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_output_can_be_closed_early() -> None:
    done = shell.run("echo said\nexec >&- 2>&-\nsleep 0.2\nexit 3", timeout=30)
    assert (done.status, done.output) == (3, "said\n")


def test_output_comes_while_it_runs(tmp_path: Path) -> None:
    seen: list[str] = []

    def emit(text: str) -> None:
        seen.append(text)
        (tmp_path / "go").touch()

    # It waits for the reader: were the output kept to the end, it would never end.
    wait = f"echo ready\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.02; done\necho done"
    shell.run(wait, emit=emit, timeout=20)
    assert "".join(seen) == "ready\ndone\n"


@pytest.mark.parametrize(
    "print_20_mb",
    [
        "echo begin; seq 100000001 102000000; echo end",
        "echo begin; head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end",  # one line
    ],
)
def test_20_mb_are_cut_in_the_middle_with_a_notice(print_20_mb: str) -> None:
    seen: list[str] = []
    done = shell.run(print_20_mb, emit=seen.append, timeout=60)
    assert len(done.output) < shell.KEPT_OUTPUT + 100
    assert done.output.startswith("begin\n")
    assert done.output.endswith("end\n")
    assert done.output.count("characters left out ...]") == 1
    left_out = int(done.output.partition("[... ")[2].split()[0])
    assert left_out == len("begin\nend\n") + 20_000_000 + ("x" in done.output) - shell.KEPT_OUTPUT
    assert "".join(seen) == done.output


def test_bytes_that_are_no_utf8_are_shown_as_escapes() -> None:
    done = shell.run(r"printf 'a\xff\xc3('; printf '\xc3'; sleep 0.1; printf '\xa4\n\xe2'")
    assert done.output == "a\\xff\\xc3(ä\n\\xe2"


def test_scripts_that_it_starts_do_not_read_its_prelude(tmp_path: Path) -> None:
    inner = tmp_path / "inner.sh"
    inner.write_text('echo "${BASH_ENV:-none}"; type kb-restore 2>&1; false; echo lax')
    done = shell.run(f"bash {inner}")
    assert "none\n" in done.output
    assert "kb-restore: not found" in done.output
    assert "lax" in done.output


def test_the_callers_bash_env_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "env.sh"
    theirs.write_text("echo from the environment")
    monkeypatch.setenv("BASH_ENV", str(theirs))
    assert shell.run("echo mine").output == "mine\n"


def test_temporary_files_are_private_and_wiped(tmp_path: Path) -> None:
    script = 'f=$(mktemp); echo "$f" | rev; stat -c %a "$TMPDIR/.."'
    file, mode = shell.run(script, scratch=tmp_path).output.split()
    assert Path(file[::-1]).is_relative_to(tmp_path)
    assert mode == "700"
    assert list(tmp_path.iterdir()) == []


def test_scratch_paths_reach_no_reader() -> None:
    said: list[str] = []
    script = 'true\nnosuchcommand || true\necho "see $TMPDIR/log"\nbash -c nosuch || true'
    done = shell.run(script, emit=said.append)
    assert done.output == "".join(said)
    assert done.output.splitlines() == [
        "line 2: nosuchcommand: command not found",
        "see $TMPDIR/log",
        "bash: line 1: nosuch: command not found",
    ]


def test_a_persons_locale_and_directory_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    (tmp_path / "json.py").write_text("print('taken from the working directory')")
    script = 'locale; echo "${EPOCHREALTIME//[0-9]/}"; python3 -c "import json"'
    *locale, point = shell.run(script, cwd=tmp_path).output.split()
    assert point == "."
    assert {"LC_ALL=C.UTF-8", "LANGUAGE="} <= set(locale)


def test_what_outlives_the_script_leaves_nothing_either(tmp_path: Path) -> None:
    done = shell.run(
        '(sleep 0.5; mkdir -p "$TMPDIR/late/cache") >/dev/null 2>&1 &\necho done', scratch=tmp_path
    )
    assert done.output == "done\n"
    time.sleep(0.7)
    assert list(tmp_path.iterdir()) == []


def test_the_environment_is_plain() -> None:
    done = shell.run('echo "$TERM $NO_COLOR $version"', env={"version": "1.30"})
    assert done.output == "dumb 1 1.30\n"


def test_a_script_ends_with_its_kernel(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # stands for a kernel, which is killed
        shell.run(f"echo $$ >{tmp_path}/partial\nmv {tmp_path}/partial {tmp_path}/pid\nsleep 60")
        os._exit(0)
    wait_for((tmp_path / "pid").exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("bash cat", ""),
        ("no-such", "no-such is not here: apt-get install no-such"),
        ("bash no-such=such", "no-such is not here: apt-get install such"),
        ("no-b=such no-a=such no-c", "no-b, no-a, no-c are not here: apt-get install no-c such"),
        ("/not/here/tool=such", "/not/here/tool is not here: apt-get install such"),
        ("/bin/bash no-such -- build it", "no-such is not here: build it"),
        ("made", "made is not here: apt-get install made"),  # a function is no tool
    ],
)
def test_tools_that_a_check_needs(arguments: str, says: str) -> None:
    done = shell.run(f"made() {{ true; }}\nkb-need {arguments}\necho on")
    assert (done.output, done.status) == (f"{says}\n", 1) if says else ("on\n", 0)
    assert done.refused == says


SIZES = r"\d+(\.\d+)? [KMGTP]?i?B are free and"


def room(arguments: str, mode: str = "plan") -> shell.Completed:
    return shell.run(f"kb-room {arguments}", env={"KB_MODE": mode})


def test_room_is_looked_for_where_the_path_would_be_made(tmp_path: Path) -> None:
    done = room(f"{tmp_path}/not/made/yet 64K")
    assert re.fullmatch(rf"{tmp_path}: {SIZES} 64 KiB are needed\n", done.output)
    assert done.status == 0


def test_too_little_room_is_refused_with_both_sizes(tmp_path: Path, told: Told) -> None:
    done = room(f"{tmp_path}/x 4096P 'or choose another prefix'")
    told(re.sub(SIZES, "5 GiB are free and", done.refused))
    assert done.status == 1


def test_the_last_byte_counts(tmp_path: Path) -> None:
    about = os.statvfs("/dev")  # where nothing is written
    free = about.f_bavail * about.f_frsize
    assert room(f"/dev {free}").status == 0
    assert room(f"/dev {free + 1}").refused.startswith("/dev has no room: ")


def test_a_rollback_is_not_refused_for_room() -> None:
    assert room("/ 4096P", mode="rollback").status == 0
    assert room("/ 4096P").status == 1
