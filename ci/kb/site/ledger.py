"""The ledger: a page that lists every claim, a page for each, and the same as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kb.runtime.settle import VERDICTS
from kb.site.model import ClaimView, Site

# How true, for readers of ClaimReview; an unsettled claim has no rating.
_RATING = {"confirmed": 5, "partly": 3, "outdated": 2, "refuted": 1}
_OPTIONAL = (
    "evidence", "truth", "instead", "on", "references", "would_settle", "until", "no_flip",
    "formerly",
)  # fmt: skip


def as_json(site: Site) -> str:
    """Returns the whole ledger; URLs in it are from the site's root."""
    entries = [_entry(view) for view in site.claims]
    return json.dumps({"schema": 1, "claims": entries}, indent=1, ensure_ascii=False) + "\n"


def as_rows(site: Site) -> str:
    """Returns what the filter of the ledger's page goes through."""
    rows = [
        {
            "id": view.claim.id,
            "source": view.claim.source,
            "verdict": view.claim.verdict,
            "says": view.claim.says.replace("`", ""),
            "truth": (view.claim.truth or "").replace("`", ""),
            "instead": (view.claim.instead or "").replace("`", ""),
            "areas": view.areas,
        }
        for view in site.claims
    ]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Chapter:
    """The claims of one file: those of one chapter of a source."""

    name: str
    claims: tuple[ClaimView, ...]

    @property
    def url(self) -> str:
        return f"claims/chapter/{self.name}/"

    @property
    def title(self) -> str:
        return "Source " + re.split("[,;]", self.claims[0].claim.source)[0]

    @property
    def counts(self) -> dict[str, int]:
        counts = Counter(view.claim.verdict for view in self.claims)
        return {verdict: counts[verdict] for verdict in VERDICTS}


def chapters(site: Site) -> list[Chapter]:
    """The ledger cut as its files are: a page of all claims weighs too much for a phone."""
    names = dict.fromkeys(view.claim.path.stem for view in site.claims)
    return [
        Chapter(name, tuple(view for view in site.claims if view.claim.path.stem == name))
        for name in names
    ]


def _entry(view: ClaimView) -> dict[str, Any]:
    claim = view.claim
    entry: dict[str, Any] = {
        "id": claim.id,
        "source": claim.source,
        "says": claim.says,
        "verdict": claim.verdict,
        "url": view.url,
        "areas": view.areas,
    }
    entry.update(
        {name: value for name in _OPTIONAL if (value := getattr(claim, name, None))},
    )
    entry["settled_by"] = [
        {"notebook": settled.notebook.path, "cell": settled.cell, "url": settled.url}
        for settled in view.settled
    ]
    entry["seen"] = [
        {
            "host": seen.host,
            "verdict": seen.verdict,
            **({"evidence": seen.evidence} if seen.evidence else {}),
            "when": _iso(seen.stage.started),
            "run": "passed" if seen.stage.passed else "failed",
            "older": seen.stage.older,
            "fresh": seen.stage.fresh,
            "saw": list(seen.saw),
        }
        for seen in view.seen
    ]
    return entry


def review(view: ClaimView, *, url: str | None, author: str) -> str:
    """Returns the claim's schema.org ClaimReview, safe to stand in a script element."""
    claim = view.claim
    rating: dict[str, Any] = {"@type": "Rating", "alternateName": claim.verdict.capitalize()}
    if claim.verdict in _RATING:
        rating |= {"ratingValue": _RATING[claim.verdict], "bestRating": 5, "worstRating": 1}
    found: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "ClaimReview",
        **({"url": url} if url else {}),
        "claimReviewed": claim.says,
        "itemReviewed": {
            "@type": "Claim",
            "name": claim.says,
            "identifier": claim.id,
            "appearance": {"@type": "CreativeWork", "name": claim.source},
        },
        "author": {"@type": "Organization", "name": author},
        "reviewRating": rating,
    }
    if claim.truth:
        found["reviewBody"] = claim.truth
    if view.when:
        found["datePublished"] = _iso(view.when)
    return json.dumps(found, ensure_ascii=False).replace("<", "\\u003c")


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
