"""What the runbook serving/load-and-slo writes into Prometheus's settings, and what it draws."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from kb.site import svg

HERE = Path(__file__).parents[2] / "runbooks/serving/load-and-slo"


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"load_and_slo_{name}", HERE / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ENTRY = "- rules.d/*.yml\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("global: {}\n", f"global: {{}}\n\nrule_files:\n  {ENTRY}"),
        (
            "rule_files:\n  # - a.yml\nscrape_configs:\n- job_name: a\n",
            f"rule_files:\n  {ENTRY}  # - a.yml\nscrape_configs:\n- job_name: a\n",
        ),
        ("rule_files:\n- a.yml\nglobal: {}\n", f"rule_files:\n{ENTRY}- a.yml\nglobal: {{}}\n"),
        ("rule_files:\n    - a.yml\n", f"rule_files:\n    {ENTRY}    - a.yml\n"),
    ],
)
def test_the_rules_directory_is_named_once(before: str, after: str) -> None:
    named = program("slo").named
    assert named(before) == after
    assert named(after) == after


@pytest.mark.parametrize("count", [1, 9])
def test_the_curve_is_drawn_for_any_number_of_rates(tmp_path: Path, count: int) -> None:
    point = {"requests": 9, "rate": 9.0, "longest": 1.0, "good": 1.0}
    points = [
        {**point, "offered": 10.0 * n, "p50": 0.004, "p90": 0.005 * n, "p99": 0.01 * 2**n}
        for n in range(1, count + 1)
    ]
    curve = {"limit": 0.1, "setting": "1:0ms", "points": points}
    (tmp_path / "curve.json").write_text(json.dumps(curve), encoding="utf-8")
    drawing = svg.clean(program("draw").bundle(str(tmp_path))["image/svg+xml"])
    assert drawing is not None
    assert drawing.count(b"<circle") == 3 * count
