"""Which lines of a step ran, by bash's own trace, and which rows of them no run went through."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from kb.proof import branches
from kb.runtime import shell

# Scripts; NOT stands in the first line of each row that does not run.
SCRIPTS = {
    "if": """
if [ 1 = 1 ]; then
    echo yes
elif NOT=1; then
    echo no
else
    echo no
fi
""",
    "case": """
case a in
    a) echo yes ;;
    b)
        NOT=1
        ;;
esac
""",
    "functions": """
used() {
    echo yes
}
unused() {
    NOT=1
}
used
""",
    "statements of several lines": """
[ 1 = 1 ] ||
    exit 1
python3 -c '
print(1)
'
cat <<END >/dev/null
no command
END
for name in a b; do
    continue
    NOT=1
done
while read -r line; do
    echo "$line"
done < <(echo a)
""",
    "blocks": """
true || {
    NOT=1
    exit 1
}
(
    cd /
)
{ echo a; } >/dev/null
""",
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_what_no_run_went_through(what: str, tmp_path: Path) -> None:
    script = SCRIPTS[what]
    trace = tmp_path / "trace"
    done = shell.run(script, env={"KB_TRACE": str(trace)})
    assert done.status == 0, done.output
    told = branches.TOLD.replace(branches.TRACE, str(trace))
    said = subprocess.run(["bash", "-c", told], capture_output=True, text=True, check=True).stdout
    found = branches.ran(said, [{"id": "step", "source": f"%%apply A step\n{script}"}])
    never = [text for _, text in branches.never(script, set(found["step"]))]
    assert never == [line.strip() for line in script.splitlines() if "NOT" in line]
    assert not trace.exists()


def test_where_nobody_asks_nothing_is_traced(tmp_path: Path) -> None:
    script = 'case $- in *x*) echo traced ;; esac; echo "${BASH_XTRACEFD:-none}"'
    assert shell.run(script).output == "none\n"
    traced = shell.run(script, env={"KB_TRACE": str(tmp_path / "trace")})
    assert traced.output.startswith("traced\n")
    assert "case" not in traced.output  # it stands in the trace, and not in what is said
