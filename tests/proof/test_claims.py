"""A claim that cannot be used is refused with its line; a verdict is compared with its record."""

from __future__ import annotations

from typing import Any

import pytest
from golden import Told
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


def refused(project: Project, text: str) -> ClaimsError:
    project.claims(text)
    with pytest.raises(ClaimsError) as caught:
        claims.load(project.root)
    return caught.value


def test_a_good_claim_knows_its_place(project: Project) -> None:
    project.claims(f"# a comment\n{GOOD}  on: ubuntu-24.04\n  references: [https://example.org]\n")
    [claim] = claims.load(project.root)
    assert (claim.place, claim.on) == ("docs/claims/a1.yml:2", "ubuntu-24.04")
    assert claim.references == ["https://example.org"]
    project.claims("")
    assert claims.load(project.root) == []


BAD = {
    "not YAML": "- id: [\n",
    "a tab": "- id: a\n\tx: y\n",
    "not a list": "id: a1-one\n",
    "a list of text": "- just text\n",
    "no id": f"{GOOD}- source: A\n",
    "an id twice": GOOD + GOOD,
    "the id of a claim that is part of another": GOOD
    + GOOD.replace("a1-one", "a1-three")
    + "  formerly: [a1-one]\n",
    "text for former ids": f"{GOOD}  formerly: a1-old\n",
    "a mistyped verdict": GOOD.replace("confirmed", "confirmd"),
    "an unknown evidence": GOOD.replace("executed", "felt"),
    "a mistyped key": GOOD.replace("truth", "thruth"),
    "no instead": GOOD.replace("  instead: Nothing.\n", ""),
    "an empty truth": GOOD.replace("It is.", "''"),
    "a list for text": GOOD.replace("It is so.", "[]"),
    "unsettled for ever": GOOD + UNSETTLED,
    "unsettled with evidence": f"{UNSETTLED}  evidence: executed\n  would_settle: A host.\n",
    "no evidence": GOOD.replace("  evidence: executed\n", ""),
    "outdated since ever": GOOD.replace("confirmed", "outdated"),
    "documented nowhere": GOOD.replace("executed", "documented"),
    "a reference for references": f"{GOOD}  references: https://example.org\n",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_claim(project: Project, what: str, told: Told) -> None:
    told(refused(project, BAD[what]))


def test_an_id_taken_in_another_file(project: Project, told: Told) -> None:
    project.write("docs/claims/a2.yml", GOOD)
    told(refused(project, GOOD))


def test_claims_that_are_not_text(project: Project, told: Told) -> None:
    project.claims("")
    (project.root / "docs/claims/a2.yml").write_bytes(b"- id: \xff\n")
    told(refused(project, ""))


def settling(project: Project, *sources: str) -> list[catalog.Notebook]:
    cells = [code(f"cell-{number}", source) for number, source in enumerate(sources, 1)]
    project.add("notebooks/area/name.ipynb", notebook(*cells))
    return catalog.find(project.root)


def test_every_claim_is_cited(project: Project, told: Told) -> None:
    project.claims(GOOD)
    found = claims.load(project.root)
    claims.check_cited(found, settling(project, 'settle("a1-one", confirmed=x)'))
    with pytest.raises(ClaimsError) as caught:
        claims.check_cited(found, settling(project, "print('a1-one')"))
    told(caught.value)


FLIPS = '[[flips]]\nbecomes.a1-one = "refuted"\n'


@pytest.mark.parametrize(
    ("text", "cases", "says"),
    [
        (GOOD, FLIPS, None),
        (f"{GOOD}  no_flip: It is so everywhere.\n", "", None),
        (GOOD.replace("executed", "inspected"), "", None),
        (GOOD, "", "is executed, and nothing shows that its verdict can change: add it to a [[fli"),
        (f"{GOOD}  no_flip: Why.\n", FLIPS, "has a changed world that shows another verdict"),
        (
            GOOD.replace("executed", "inspected") + "  no_flip: Why.\n",
            "",
            "is not executed, so nobody expects a changed world: take `no_flip` away",
        ),
    ],
)
def test_an_executed_verdict_can_change_or_says_why_not(
    project: Project, text: str, cases: str, says: str | None
) -> None:
    project.claims(text)
    settling(project, 'settle("a1-one", confirmed=x)')
    folder = project.root / "notebooks/area/name/ci"
    folder.mkdir(parents=True)
    (folder / "cases.toml").write_text(cases)
    found = list(claims.unflipped(claims.load(project.root), catalog.find(project.root)))
    assert len(found) == (says is not None)
    assert not found or found[0].startswith(f"docs/claims/a1.yml:1: `a1-one` {says}")


def test_what_is_settled_is_a_claim(project: Project, told: Told) -> None:
    project.claims(GOOD)
    found = claims.load(project.root)
    cited = settling(project, "settle('a1-one', confirmed=x)", "settle(\n 'a1-on', confirmed=x)")
    with pytest.raises(ClaimsError) as caught:
        claims.check_cited(found, cited)
    told(caught.value)


def settled(verdict: str, claim: str = "a1-one", evidence: str | None = "executed") -> Any:
    saw = ["confirmed if `1` is `2`: no"]
    data = {"claim": claim, "verdict": verdict, "evidence": evidence, "saw": saw}
    return {"cells": [{"id": "cell-1", "outputs": [{"data": {MIME: data}}]}]}


OBSERVED = {
    "another verdict": settled("refuted"),
    "nothing": {"cells": []},
    "another evidence": settled("confirmed", evidence="inspected"),
}


@pytest.mark.parametrize("what", OBSERVED)
def test_an_observed_verdict_is_compared_with_its_record(
    project: Project, what: str, told: Told
) -> None:
    project.claims(GOOD)
    found = claims.load(project.root)
    [nb] = settling(project, 'settle("a1-one", confirmed=x)')
    assert claims.disagreements(found, nb, settled("confirmed"), "debian-13") == []
    [said] = claims.disagreements(found, nb, OBSERVED[what], "debian-13")
    told(said)


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
