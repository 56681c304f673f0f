"""Reads the recorded claims, and compares them with what the cells of a run observed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kb.proof.catalog import Notebook
from kb.runtime.settle import MIME, OBSERVED, VERDICTS

EVIDENCE = (*OBSERVED, "documented")
REQUIRED = ("id", "source", "says", "verdict", "truth", "instead")
OPTIONAL = ("evidence", "on", "references", "would_settle", "until", "no_flip", "formerly")

LISTS = {"references": "addresses", "formerly": "ids"}


class ClaimsError(Exception):
    """Claims that cannot be used. One sentence with file and line."""


@dataclass(frozen=True)
class Claim:
    """One checkable sentence of a source, with what is recorded about it."""

    id: str
    source: str
    says: str
    verdict: str
    truth: str
    instead: str
    path: Path
    line: int
    evidence: str | None = None  # of an unsettled claim there is none
    on: str | None = None
    references: list[str] = field(default_factory=list)
    would_settle: str | None = None
    until: str | None = None
    no_flip: str | None = None  # why no changed world shows that an executed verdict can change
    formerly: list[str] = field(default_factory=list)  # ids of claims that are part of it now

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Observation:
    """What a cell of a run said about a claim."""

    claim: str
    verdict: str
    evidence: str | None
    saw: list[str]
    cell: str


def load(root: Path) -> list[Claim]:
    """Every claim below ``docs/claims``. Raises :class:`ClaimsError`."""
    claims: list[Claim] = []
    for path in sorted((root / "docs/claims").glob("*.yml")):
        claims.extend(_read(root, path.relative_to(root)))
    seen: dict[str, Claim] = {}
    for claim in claims:
        for name in (claim.id, *claim.formerly):
            if name in seen:
                raise ClaimsError(f"{claim.place}: the id `{name}` is taken by {seen[name].place}")
            seen[name] = claim
    return claims


def check_cited(claims: Iterable[Claim], notebooks: Iterable[Notebook]) -> None:
    """Raise :class:`ClaimsError` for a claim that no notebook settles, or a settled id of none."""
    known = {claim.id: claim for claim in claims}
    settled = set()
    for notebook in notebooks:
        for name, cell in notebook.settles.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"; did you mean `{near[0]}`?" if near else ""
                raise ClaimsError(
                    f"{notebook.path}: cell `{cell}` settles `{name}`,"
                    f" which is not in docs/claims{meant}"
                )
            settled.add(name)
    for claim in known.values():
        if claim.id not in settled:
            raise ClaimsError(
                f'{claim.place}: no notebook settles `{claim.id}`: add settle("{claim.id}", ...)'
                " to a cell"
            )


def unflipped(claims: Iterable[Claim], notebooks: Iterable[Notebook]) -> Iterator[str]:
    """One sentence for each executed claim with neither a changed world nor a reason for none."""
    flipped = {case["claim"] for notebook in notebooks for case in notebook.flips}
    for claim in claims:
        place = f"{claim.place}: `{claim.id}`"
        if claim.no_flip and claim.id in flipped:
            yield f"{place} has a changed world that shows another verdict: take `no_flip` away"
        elif claim.no_flip and claim.evidence != "executed":
            yield f"{place} is not executed, so nobody expects a changed world: take `no_flip` away"
        elif claim.evidence == "executed" and not claim.no_flip and claim.id not in flipped:
            yield (
                f"{place} is executed, and nothing shows that its verdict can change: add it to a"
                " [[flips]] of its notebook's cases.toml, or say in `no_flip` why it is in none"
            )


def settled_in(content: dict[str, Any]) -> Iterator[Observation]:
    """What the cells of an executed notebook settled, in order."""
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {}).get(MIME)
            if isinstance(data, dict):
                verdict, evidence = str(data.get("verdict")), data.get("evidence")
                yield Observation(
                    str(data.get("claim")),
                    verdict,
                    str(evidence) if evidence and verdict != "unsettled" else None,
                    [str(line) for line in data.get("saw", [])],
                    cell["id"],
                )


def disagreements(
    claims: Iterable[Claim], notebook: Notebook, content: dict[str, Any], host: str
) -> list[str]:
    """One line for each claim of ``notebook`` whose run on ``host`` contradicts its record."""
    known = {claim.id: claim for claim in claims}
    observed = {settled.claim: settled for settled in settled_in(content)}
    found = []
    for claim_id, cell in notebook.settles.items():
        claim = known[claim_id]
        saw = observed.get(claim_id)
        if saw is None:
            found.append(
                f"{claim.place}: `{claim_id}`: cell `{cell}` of {notebook.path} ran on {host}"
                " without settling it"
            )
        elif saw.verdict not in expected(claim, host):
            recorded = expected(claim, host)[0]
            found.append(
                f"{claim.place}: `{claim_id}` is recorded as {recorded} on {host}, but"
                f" cell `{saw.cell}` of {notebook.path} says {saw.verdict}:"
                f" it saw {'; '.join(saw.saw)}"
            )
        elif saw.evidence and claim.evidence not in (saw.evidence, "documented"):
            found.append(
                f"{claim.place}: `{claim_id}` is recorded with evidence {claim.evidence}, but"
                f" cell `{saw.cell}` of {notebook.path} says {saw.evidence}: change the one that"
                " is wrong"
            )
    return found


def expected(claim: Claim, host: str) -> tuple[str, ...]:
    """The verdicts that a run on ``host`` may come to, the recorded one first.

    A claim about another host stays unsettled here. One that is documented may: its cell asks what
    not every host reaches. Where it does reach it, it says executed or inspected, as ever: both
    beat a reference, so neither contradicts the record.
    """
    if claim.on and host != claim.on and not host.startswith(f"{claim.on}-"):
        return ("unsettled",)
    return (claim.verdict, "unsettled") if claim.evidence == "documented" else (claim.verdict,)


def _read(root: Path, path: Path) -> Iterator[Claim]:
    try:
        text = (root / path).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        rows = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ClaimsError(f"{path}:{line}: not YAML: {error.problem}") from None
    except UnicodeDecodeError:
        raise ClaimsError(f"{path}: not YAML: the file is not UTF-8 text") from None
    if rows is None:
        return
    if not isinstance(rows, list) or not isinstance(node, yaml.SequenceNode):
        raise ClaimsError(f"{path}:1: claims are a list: begin each with `- id: ...`")
    for row, entry in zip(rows, node.value, strict=True):
        yield _claim(path, entry.start_mark.line + 1, row)


def _claim(path: Path, line: int, row: Any) -> Claim:
    if not isinstance(row, dict) or "id" not in row:
        raise ClaimsError(f"{path}:{line}: a claim begins with `- id: some-name`")
    place = f"{path}:{line}: `{row['id']}`"
    # An unquoted `on:` is the truth value of YAML 1.1.
    row = {("on" if key is True else key): value for key, value in row.items()}
    for key in row:
        if key not in REQUIRED + OPTIONAL:
            near = difflib.get_close_matches(str(key), REQUIRED + OPTIONAL, n=1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise ClaimsError(f"{place}: unknown key `{key}`{meant}")
    for key in REQUIRED:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise ClaimsError(f"{place}: `{key}` is missing or not text")
    for key, of in LISTS.items():
        if not isinstance(row.get(key, []), list):
            raise ClaimsError(f"{place}: `{key}` must be a list of {of}")
    if row["verdict"] == "unsettled" and "evidence" in row:
        raise ClaimsError(f"{place}: nothing shows what is unsettled: take `evidence` away")
    for key, allowed in (("verdict", VERDICTS), ("evidence", EVIDENCE)):
        if key in row and row[key] not in allowed:
            raise ClaimsError(f"{place}: {key} `{row[key]}` is not one of {', '.join(allowed)}")
    evidence = row.get("evidence")
    needed = {
        "evidence": row["verdict"] != "unsettled",
        "references": evidence == "documented",
        "would_settle": row["verdict"] == "unsettled",
        "until": row["verdict"] == "outdated",
    }
    for key, needs in needed.items():
        if needs and not row.get(key):
            why = f"verdict {row['verdict']}" + (f", evidence {evidence}" if evidence else "")
            raise ClaimsError(f"{place}: `{key}` is missing ({why})")
    fields = {key: str(value).strip() for key, value in row.items() if key not in LISTS}
    references, formerly = (list(row.get(key, [])) for key in LISTS)
    return Claim(**fields, references=references, formerly=formerly, path=path, line=line)
