"""What protocol-conformance finds amiss in an answer, and that its table asks what it means to."""

from __future__ import annotations

import base64
import importlib.util
import json
import struct
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

PLACE = Path(__file__).parents[2] / "notebooks/serving/protocol-conformance"
TABLE = tomllib.loads((PLACE / "table.toml").read_text(encoding="utf-8"))
TWICE = {"name": "twice", "datatype": "INT32", "shape": [1, 2], "data": [6, -8]}
SQUARE = {"name": "square", "datatype": "FP32", "shape": [1, 2], "data": [[0.25, 2.25]]}
BYTES = {
    "name": "twice",
    "datatype": "INT32",
    "shape": [1, 2],
    "parameters": {"binary_data_size": 8},
}
SERVER = SimpleNamespace(extensions=["e"], versions=[])


@pytest.fixture(scope="module")
def conform() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conform", PLACE / "conform.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conform"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("want", "status", "told", "misses"),
    [
        ({"error": True}, "400", {"error": "no"}, []),
        ({"error": True}, "422", {"detail": []}, ["no error member"]),
        ({"error": True}, "500", None, ["no error member"]),
        ({"error": True}, "200", {"outputs": []}, ["accepted"]),
        ({"error": True}, "no answer", None, ["no answer"]),
        ({"error": True}, "NOT_FOUND", None, []),
        ({"error": True}, "OK", {}, ["accepted"]),
        ({"status": 200}, "500", {"error": "no"}, ["not 200"]),
        ({"status": 200}, "200", None, ["no JSON object"]),
        ({"status": 200, "fields": {"live|ready": "bool"}}, "200", {"ready": False}, []),
        ({"status": 200, "fields": {"live": "bool"}}, "200", {"live": "yes"}, ["no live"]),
        ({"status": 200, "same": {"id": "7"}}, "200", {"id": "8"}, ['id is "8"']),
        ({"status": 200, "outputs": ["twice", "square"]}, "200", {"outputs": [TWICE, SQUARE]}, []),
        (
            {"status": 200, "outputs": ["twice"]},
            "200",
            {"outputs": [TWICE, SQUARE]},
            ["outputs are square, twice"],
        ),
        (
            {"status": 200, "outputs": ["twice"]},
            "200",
            {"outputs": [TWICE | {"data": [6, 8]}]},
            ["twice.data is [6, 8]"],
        ),
        ({"status": 200, "outputs": ["twice"]}, "200", {"outputs": [BYTES]}, []),
        (
            {"status": 200, "outputs": ["twice"], "binary": []},
            "200",
            {"outputs": [BYTES]},
            ["twice in bytes"],
        ),
        (
            {"status": 200, "type": "text/plain"},
            "200",
            {"a": 1},
            ["Content-Type is application/json"],
        ),
        ({"status": "OK", "extensions": True}, "OK", {"extensions": []}, ["0 of 1"]),
    ],
)
def test_what_is_amiss_is_named(
    conform: ModuleType, want: dict[str, Any], status: str, told: Any, misses: list[str]
) -> None:
    text = "" if told is None else json.dumps(told)
    headers = {"content-type": "application/json"}
    answer = conform.Answer(status, told, text, headers, struct.pack("<2i", 6, -8))
    assert list(conform.misses(SERVER, want, answer, TABLE)) == misses


def test_values_are_read_from_wherever_they_stand(conform: ModuleType) -> None:
    raw = base64.b64encode(struct.pack("<2i", 6, -8)).decode()
    shape = {"name": "twice", "datatype": "INT32", "shape": ["1", "2"]}
    typed = {
        "outputs": [shape | {"contents": {"int_contents": [6, -8]}}],
        "raw_output_contents": [],
    }
    for told in (typed, {"outputs": [shape], "raw_output_contents": [raw]}):
        assert conform.Answer("OK", told).outputs()["twice"]["data"] == [6, -8]


def test_the_table_is_whole(conform: ModuleType) -> None:
    """Each case has a name of its own, asks one thing, and demands with a clause or not at all."""
    for protocol, asks in (("rest", {"get", "infer"}), ("grpc", {"call"})):
        cases = TABLE[protocol]
        assert len({case["case"] for case in cases}) == len(cases)
        for case in cases:
            assert len(asks & set(case)) == 1, case["case"]
            assert ("want" in case) == ("clause" in case), case["case"]
            demands = set(case.get("want", {"error": True}))
            assert demands & {"error", "status"}, case["case"]
            # What is expanded must be JSON, but where the case is about what is not.
            text = conform.expand(case.get("infer", case.get("message", "{}")), TABLE["text"])
            if case["case"] not in ("body is no JSON", "NaN, which JSON has not"):
                json.loads(text)
