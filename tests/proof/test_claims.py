"""A claim that cannot be used is refused with its line; a verdict is compared with its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kb.proof import catalog, claims
from kb.proof.claims import ClaimsError
from kb.runtime.settle import MIME
from project import Project, code, notebook

GOOD = """\
- id: a1-one
  source: A §1
  says: It is so.
  verdict: confirmed
  evidence: executed
  truth: It is.
  instead: Nothing.
"""
UNSETTLED = (
    GOOD.replace("a1-one", "a1-two")
    .replace("confirmed", "unsettled")
    .replace("  evidence: executed\n", "")
)


def refused(project: Project, text: str) -> str:
    project.claims(text)
    with pytest.raises(ClaimsError) as caught:
        claims.load(project.root)
    says = str(caught.value)
    assert says.startswith("docs/claims/a1.yml:")
    assert "\n" not in says
    return says.removeprefix("docs/claims/a1.yml:")


def test_a_good_claim_knows_its_place(project: Project) -> None:
    project.claims(f"# a comment\n{GOOD}  on: ubuntu-24.04\n  references: [https://example.org]\n")
    [claim] = claims.load(project.root)
    assert (claim.place, claim.on) == ("docs/claims/a1.yml:2", "ubuntu-24.04")
    assert claim.references == ["https://example.org"]
    project.claims("")
    assert claims.load(project.root) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- id: [\n", "2: not YAML: "),
        ("- id: a\n\tx: y\n", "2: not YAML: found character '\\t' that cannot start any token"),
        ("id: a1-one\n", "1: claims are a list: begin each with `- id: ...`"),
        ("- just text\n", "1: a claim begins with `- id: some-name`"),
        (f"{GOOD}- source: A\n", "8: a claim begins with `- id: some-name`"),
        (GOOD + GOOD, "8: the id `a1-one` is taken by docs/claims/a1.yml:1"),
        (
            GOOD.replace("confirmed", "confirmd"),
            "1: `a1-one`: verdict `confirmd` is none of confirmed, refuted, partly, outdated,",
        ),
        (GOOD.replace("executed", "felt"), "1: `a1-one`: evidence `felt` is none of executed,"),
        (
            GOOD.replace("truth", "thruth"),
            "1: `a1-one`: unknown key `thruth`; did you mean `truth`",
        ),
        (GOOD.replace("  instead: Nothing.\n", ""), "1: `a1-one`: `instead` is missing or no text"),
        (GOOD.replace("It is.", "''"), "1: `a1-one`: `truth` is missing or no text"),
        (GOOD.replace("It is so.", "[]"), "1: `a1-one`: `says` is missing or no text"),
        (GOOD + UNSETTLED, "8: `a1-two`: `would_settle` is missing (verdict unsettled)"),
        (
            f"{UNSETTLED}  evidence: executed\n  would_settle: A host.\n",
            "1: `a1-two`: nothing shows what is unsettled: take `evidence` away",
        ),
        (
            GOOD.replace("  evidence: executed\n", ""),
            "1: `a1-one`: `evidence` is missing (verdict confirmed)",
        ),
        (GOOD.replace("confirmed", "outdated"), "1: `a1-one`: `until` is missing (verdict out"),
        (GOOD.replace("executed", "documented"), "1: `a1-one`: `references` is missing ("),
        (f"{GOOD}  references: https://example.org\n", "1: `a1-one`: `references` must be a list"),
    ],
)
def test_a_bad_claim(project: Project, text: str, says: str) -> None:
    assert refused(project, text).startswith(says)


def test_an_id_taken_in_another_file(project: Project) -> None:
    project.claims(GOOD)
    (project.root / "docs/claims/b1.yml").write_text(GOOD)
    with pytest.raises(ClaimsError, match=r"^docs/claims/b1.yml:1: .* taken by docs/claims/a1.yml"):
        claims.load(project.root)


def test_a_file_that_is_no_text(project: Project) -> None:
    project.claims("")
    (project.root / "docs/claims/a1.yml").write_bytes(b"- id: \xff\n")
    with pytest.raises(ClaimsError, match=r"^docs/claims/a1\.yml: .*UTF-8"):
        claims.load(project.root)


def settling(project: Project, *sources: str) -> list[catalog.Notebook]:
    cells = [code(f"cell-{number}", source) for number, source in enumerate(sources, 1)]
    project.add("notebooks/area/name.ipynb", notebook(*cells))
    return catalog.find(project.root)


def test_every_claim_is_cited(project: Project) -> None:
    project.claims(GOOD)
    found = claims.load(project.root)
    claims.check_cited(found, settling(project, 'settle("a1-one", confirmed=x)'))
    with pytest.raises(ClaimsError) as caught:
        claims.check_cited(found, settling(project, "print('a1-one')"))
    assert str(caught.value) == (
        'docs/claims/a1.yml:1: no notebook settles `a1-one`: add settle("a1-one", ...) to a cell'
    )


def test_what_is_settled_is_a_claim(project: Project) -> None:
    project.claims(GOOD)
    found = claims.load(project.root)
    cited = settling(project, "settle('a1-one', confirmed=x)", "settle(\n 'a1-on', confirmed=x)")
    with pytest.raises(ClaimsError) as caught:
        claims.check_cited(found, cited)
    assert str(caught.value) == (
        "notebooks/area/name.ipynb: cell `cell-2` settles `a1-on`, which is not in docs/claims;"
        " did you mean `a1-one`?"
    )


def settled(verdict: str, claim: str = "a1-one", evidence: str | None = "executed") -> Any:
    saw = ["confirmed if `1` is `2`: no"]
    data = {"claim": claim, "verdict": verdict, "evidence": evidence, "saw": saw}
    return {"cells": [{"id": "cell-1", "outputs": [{"data": {MIME: data}}]}]}


def test_an_observed_verdict_is_compared_with_its_record(project: Project) -> None:
    project.claims(GOOD)
    found = claims.load(project.root)
    [nb] = settling(project, 'settle("a1-one", confirmed=x)')
    assert claims.disagreements(found, nb, settled("confirmed"), "debian-13") == []
    assert claims.disagreements(found, nb, settled("refuted"), "debian-13") == [
        "docs/claims/a1.yml:1: `a1-one` is recorded as confirmed on debian-13, but cell `cell-1` of"
        " notebooks/area/name.ipynb says refuted: it saw confirmed if `1` is `2`: no"
    ]
    assert claims.disagreements(found, nb, {"cells": []}, "debian-13") == [
        "docs/claims/a1.yml:1: `a1-one`: cell `cell-1` of notebooks/area/name.ipynb ran on"
        " debian-13 without settling it"
    ]


def test_an_observed_evidence_is_compared_with_its_record(project: Project) -> None:
    project.claims(GOOD)
    found = claims.load(project.root)
    [nb] = settling(project, 'settle("a1-one", confirmed=x)')
    read = settled("confirmed", evidence="inspected")
    assert claims.disagreements(found, nb, read, "debian-13") == [
        "docs/claims/a1.yml:1: `a1-one` is recorded with evidence executed, but cell `cell-1` of"
        " notebooks/area/name.ipynb says inspected: change the one that is wrong"
    ]


@pytest.mark.parametrize("evidence", ["executed", "inspected"])
def test_the_cell_of_a_documented_claim_says_what_it_did(project: Project, evidence: str) -> None:
    project.claims(GOOD.replace("executed", "documented") + "  references: [https://example.org]\n")
    found = claims.load(project.root)
    [nb] = settling(project, 'settle("a1-one", confirmed=x)')
    looked = settled("confirmed", evidence=evidence)
    assert claims.disagreements(found, nb, looked, "debian-13") == []


@pytest.mark.parametrize("evidence", ["executed", None])
def test_nothing_shows_what_is_unsettled(project: Project, evidence: str | None) -> None:
    project.claims(f"{UNSETTLED}  would_settle: A host that nobody has.\n")
    [claim] = claims.load(project.root)
    assert claim.evidence is None
    [nb] = settling(project, 'settle("a1-two", confirmed=x)')
    looked = settled("unsettled", "a1-two", evidence)
    assert [found.evidence for found in claims.settled_in(looked)] == [None]
    assert claims.disagreements([claim], nb, looked, "debian-13") == []


def test_a_claim_of_one_host_stays_unsettled_on_another(project: Project) -> None:
    project.claims(f"{GOOD}  on: ubuntu-24.04\n")
    [claim] = claims.load(project.root)
    [nb] = settling(project, 'settle("a1-one", confirmed=x)')
    assert claims.disagreements([claim], nb, settled("unsettled"), "debian-13") == []
    assert claims.disagreements([claim], nb, settled("confirmed"), "debian-13")
    assert claims.disagreements([claim], nb, settled("confirmed"), "ubuntu-24.04") == []
    assert claims.disagreements([claim], nb, settled("unsettled"), "ubuntu-24.04")


def test_the_place_of_a_claim_is_relative(project: Project) -> None:
    project.claims(GOOD)
    assert claims.load(project.root)[0].path == Path("docs/claims/a1.yml")
