"""``settle``: a notebook's cell says what it saw, and that decides the verdict on a claim."""

from __future__ import annotations

from kb.runtime.checks import Check

MIME = "application/vnd.noble-runbooks.settled+json"
DECIDED = ("confirmed", "refuted", "partly", "outdated")
VERDICTS = (*DECIDED, "unsettled")
OBSERVED = ("executed", "inspected")


def settle(
    claim: str,
    *,
    confirmed: Check | None = None,
    refuted: Check | None = None,
    partly: Check | None = None,
    outdated: Check | None = None,
    evidence: str = "executed",
) -> str:
    """Settle ``claim`` by what was observed, show the verdict, and return it.

    Each keyword takes the :class:`~kb.runtime.checks.Check` that must hold for that verdict.
    Exactly one holding gives it; none, or several at once, leave the claim ``unsettled``, and then
    there is no evidence of anything.
    """
    cases = dict(zip(DECIDED, (confirmed, refuted, partly, outdated), strict=True))
    given = {verdict: case for verdict, case in cases.items() if case is not None}
    if not given:
        raise TypeError(f"settle({claim!r}) needs a check: confirmed=..., refuted=..., ...")
    for verdict, case in given.items():
        if not isinstance(case, Check):
            raise TypeError(
                f"settle({claim!r}, {verdict}=...) needs a comparator's result, not a"
                f" {type(case).__name__}: a verdict comes from what was seen"
            )
    if evidence not in OBSERVED:
        raise TypeError(f"settle({claim!r}): evidence must be one of {', '.join(OBSERVED)}")
    holding = [verdict for verdict, case in given.items() if case.holds]
    settled = holding[0] if len(holding) == 1 else "unsettled"
    by = evidence if settled != "unsettled" else None
    saw = [f"{verdict} if {case.says}" for verdict, case in given.items()]
    from IPython.display import display  # noqa: PLC0415 - claims are read where no kernel is

    shown = "\n".join([f"{claim}: {settled}", *(f"  {line}" for line in saw)])
    display(
        {
            MIME: {"claim": claim, "verdict": settled, "evidence": by, "saw": saw},
            "text/plain": shown,
        },
        raw=True,
    )
    return settled
