"""What the search can find, and where a hit leads."""

from __future__ import annotations

import json
from pathlib import Path

from corpus import NOTEBOOK, RUNBOOK, Project
from kb.site import search


def entries(site: Path, url: str) -> dict[str, dict[str, str]]:
    """The entries of one page, by anchor."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = [entry for entry in index["docs"] if entry["location"].partition("#")[0] == url]
    assert len({entry["location"] for entry in found}) == len(found)
    return {entry["location"].partition("#")[2]: entry for entry in found}


def page_of(path: str) -> str:
    return path.removesuffix(".ipynb") + "/"


def test_a_section_holds_its_prose_commands_and_outputs(site: Path) -> None:
    found = entries(site, page_of(RUNBOOK))
    assert set(found) == {"", "before-you-start", "parameters", "preflight", "steps", "roll-back"}
    assert found[""]["title"] == "Install Go"
    assert "official release" in found[""]["text"]
    assert "curl -O $url" in found["steps"]["text"]
    assert "gopherarchive" in found["steps"]["text"]
    assert "how many" in found["parameters"]["text"]
    assert "/usr is full: make room" in found["preflight"]["text"]


def test_every_line_of_a_page_is_there_once(site: Path) -> None:
    found = entries(site, page_of(RUNBOOK))
    lines = [line for entry in found.values() for line in entry["text"].split("\n")]
    assert len(set(lines)) == len(lines)
    assert not any("%load_ext" in line or "%%" in line for line in lines)


def test_long_outputs_do_not_fill_the_index(site: Path) -> None:
    found = entries(site, "notebooks/serving/untrusted/")
    assert sum(len(entry["text"]) for entry in found.values()) < 20_000
    assert "cellvalue" in "".join(entry["text"] for entry in found.values())


def test_text_of_the_index_is_escaped(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "<script" not in index


def test_claims_are_found_on_their_own_page(site: Path) -> None:
    found = entries(site, "claims/b2-ring/")
    assert "epoll_pwait" in found[""]["text"]


def test_every_chinese_character_is_a_word() -> None:
    assert search.segmented("用Go写的 服务") == "用\u200bGo\u200b写\u200b的 服\u200b务"
    assert search.segmented("plain text") == "plain text"


def test_chinese_sections_have_anchors_of_their_own(site: Path) -> None:
    assert "推理服务的内存" in entries(site, page_of(NOTEBOOK))


def test_text_before_the_first_heading_belongs_to_the_page() -> None:
    found = search.entries("a/", "Title", "<p>before</p><h1 id='t'>Title</h1><p>after</p>", {})
    assert [(entry["location"], entry["text"]) for entry in found] == [("a/", "before\nafter")]


def test_a_page_written_by_hand_is_indexed_too(site: Path, project: Project) -> None:
    assert (project.root / "docs" / "run.md").is_file()
    assert "what-the-marks-on-a-page-mean" in entries(site, "run/")
