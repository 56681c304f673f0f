"""Rules for a service level objective, and what Prometheus says of them.

usage: slo.py rules            prints the file with the rules
       slo.py tests DIR FILE   writes promtool's tests of the rules in FILE into DIR
       slo.py named FILE       prints prometheus.yml, FILE, with the rules' directory in it
       slo.py impossible       says which alert could never fire, if any
       slo.py missing          says what Prometheus lacks that the rules are about, if anything
       slo.py shares           prints the share of bad requests in each window; fails if one lacks
       slo.py firing           fails unless the fastest alert on failed requests fires
       slo.py alerts           prints the alerts of this service that Prometheus has

The parameters of the runbook come from the environment.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RULES = "rules.d/*.yml"
TIMEOUT = 10  # seconds for an answer of Prometheus
# Hours of the long and of the short window, the share of the budget that is gone when the long one
# is full of it, and whom to tell: the SRE Workbook's, for a period of 30 days.
ROWS = ((1, 1 / 12, 0.02, "page"), (6, 0.5, 0.05, "page"), (72, 6, 0.10, "ticket"))
WINDOWS = sorted({window for row in ROWS for window in row[:2]})
SLOS = {"errors": "failed", "slow": "took longer than {threshold} s"}
SAMPLES = 10  # from one evaluation in a test to the next; more than the short window has
PER_STEP = 10**9  # requests from one sample of a test to the next
SUCCESS = "200"  # what ``failed`` must not match
BAD = "job:slo_bad_requests:ratio_rate"


def parameter(name: str) -> str:
    return os.environ[name]


def equals(name: str, value: str) -> str:
    return f'{name}="{value}"'


def selector(*matchers: str) -> str:
    return "{" + ",".join([equals("job", parameter("service")), *matchers]) + "}"


def duration(hours: float) -> str:
    """As Prometheus writes it, the largest unit that gives a whole number."""
    milliseconds = round(hours * int(parameter("hour")) * 1000)
    units = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
    unit, size = next(pair for pair in units if milliseconds % pair[1] == 0)
    return f"{milliseconds // size}{unit}"


def budget() -> float:
    """The share of requests that may be bad."""
    return (100 - float(parameter("objective"))) / 100


@dataclass(frozen=True)
class Alert:
    """One alert: both windows are above the same multiple of the budget."""

    slo: str
    long: float
    short: float
    share: float
    severity: str

    @property
    def factor(self) -> float:
        """How many times faster than allowed the budget burns."""
        return self.share * int(parameter("period_days")) * 24 / self.long

    @property
    def threshold(self) -> float:
        """The share of bad requests from which on it fires."""
        return self.factor * budget()

    def labels(self) -> dict[str, str]:
        return {"slo": self.slo, "severity": self.severity, "window": duration(self.long)}


def alerts() -> list[Alert]:
    return [Alert(slo, *row) for slo in SLOS for row in ROWS]


def bound() -> str:
    return f"{float(parameter('threshold')):g}"


def le() -> str:
    """The matcher of the threshold's bucket, which Prometheus 3 writes as 1.0 and others as 1."""
    return f'le=~"{bound()}([.]0)?"' if bound().isdigit() else equals("le", bound())


def bad(slo: str, window: str) -> str:
    """The share of bad requests within a window."""

    def rate(name: str, *matchers: str) -> str:
        return f"sum by (job) (rate({name}{selector(*matchers)}[{window}]))"

    if slo == "errors":
        # No series before the first failure: without the zero there would be no ratio either.
        every = rate(parameter("requests"))
        return f"({rate(parameter('requests'), parameter('failed'))} or 0 * {every}) / {every}"
    latency = parameter("latency")
    return f"1 - {rate(f'{latency}_bucket', le())} / {rate(f'{latency}_count')}"


def rules() -> Iterator[str]:
    """The file, line by line."""
    service, period = parameter("service"), parameter("period_days")
    yield "# Written by the runbook serving/load-and-slo."
    yield f"# {parameter('objective')} % of requests do not fail, and as many take at most"
    yield f"# {parameter('threshold')} s, over {period} days."
    if parameter("hour") != "3600":
        yield f"# For a trial: an hour is {parameter('hour')} seconds."
    yield "groups:"
    yield f"- name: {service}-slo"
    yield f"  interval: {max(1, int(parameter('hour')) // 120)}s"
    yield "  rules:"
    for slo in SLOS:
        for window in map(duration, WINDOWS):
            yield f"  - record: {BAD}{window}"
            yield f"    labels: {{slo: {slo}}}"
            yield f"    expr: {bad(slo, window)}"
    for alert in alerts():
        of = selector(equals("slo", alert.slo))
        series = [f"{BAD}{duration(window)}{of}" for window in (alert.long, alert.short)]
        over = f"> {alert.factor:g} * {budget():.6g}"
        what = SLOS[alert.slo].format(threshold=parameter("threshold"))
        yield "  - alert: ErrorBudgetBurn"
        yield f"    expr: {series[0]} {over} and {series[1]} {over}"
        yield f"    labels: {{{', '.join(f'{k}: {v}' for k, v in alert.labels().items())}}}"
        yield "    annotations:"
        yield (
            f"      summary: '{service}: {{{{ $value | humanizePercentage }}}} of the requests of"
            f" {duration(alert.long)} {what}; from {100 * alert.threshold:.3g} % on the budget of"
            f" {period} days is spent in {int(period) / alert.factor:.3g} days'"
        )
    # Without samples there is no ratio, and no alert above would ever fire.
    yield "  - alert: ErrorBudgetUnknown"
    yield f"    expr: up{selector()} == 0 or absent(up{selector()})"
    yield f"    for: {duration(1 / 12)}"
    yield "    labels: {severity: page}"
    yield "    annotations:"
    yield f"      summary: '{service}: Prometheus has no metrics of it, so nobody knows its errors'"


def tests(directory: Path, file: str) -> None:
    """Files for promtool: no alert fires just below its limit, each just above, and each ends."""
    for number, row in enumerate(ROWS):
        step = row[1] / 5  # hours from one sample to the next
        groups = [_test(Alert(slo, *row), step) for slo in SLOS]
        lines = [*_head(file, SAMPLES * step), *(line for group in groups for line in group)]
        (directory / f"tests-{number}.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    step = 1 / 60
    lines = [
        *_head(file, step),
        f"- interval: {duration(step)}",
        "  input_series:",
        f"  - {{series: 'up{selector()}', values: '1x10 0x10'}}",
        "  promql_expr_test:",
        *_count({"alertname": "ErrorBudgetUnknown"}, 10 * step, 0),
        *_count({"alertname": "ErrorBudgetUnknown"}, 18 * step, 1),
    ]
    (directory / "tests-unknown.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _head(file: str, step: float) -> Iterator[str]:
    yield f"rule_files: [{file}]"
    yield f"evaluation_interval: {duration(step)}"
    yield "tests:"


def _test(alert: Alert, step: float) -> Iterator[str]:
    full = round(alert.long / step)  # samples
    # The last but one leaves the long window full: only the short one ends the alert so soon.
    shares = [min(factor * alert.threshold, 1) for factor in (0, 0.95, 1.05, 2, 0)]
    phases = tuple(zip(shares, (full, full, full, full, SAMPLES), strict=True))
    yield f"- interval: {duration(step)}"
    yield "  input_series:"
    for series, values in _series(alert.slo, phases):
        yield f"  - {{series: '{series}', values: '{values}'}}"
    yield "  promql_expr_test:"
    for samples, count in ((2 * full, 0), (3 * full, 1), (4 * full + SAMPLES, 0)):
        yield from _count(alert.labels(), samples * step, count)


def _count(labels: dict[str, str], hours: float, count: int) -> Iterator[str]:
    """That so many alerts with these labels fire then."""
    matchers = [equals(*pair) for pair in {**labels, "alertstate": "firing"}.items()]
    answer = f"{{labels: '{{}}', value: {count}}}" if count else ""
    yield f"  - expr: 'count(ALERTS{selector(*matchers)})'"
    yield f"    eval_time: {duration(hours)}"
    yield f"    exp_samples: [{answer}]"


def _series(slo: str, phases: tuple[tuple[float, int], ...]) -> Iterator[tuple[str, str]]:
    """The counters that such shares of bad requests make, whole: a fraction may seem to fall."""

    def counter(per_step: list[int]) -> str:
        total, parts = 0, []
        for (_, samples), each in zip(phases, per_step, strict=True):
            parts.append(f"{total + each}+{each}x{samples - 1}")
            total += each * samples
        return f"0 {' '.join(parts)}"

    every, wrong = [PER_STEP] * len(phases), [round(PER_STEP * share) for share, _ in phases]
    right = [PER_STEP - each for each in wrong]
    latency, requests = parameter("latency"), parameter("requests")
    if slo == "slow":
        yield f"{latency}_bucket{selector(equals('le', bound()))}", counter(right)
        yield f"{latency}_count{selector()}", counter(every)
    else:
        yield f"{requests}{selector(_failing())}", counter(wrong)
        yield f"{requests}{selector(equals(_matcher()[0], SUCCESS))}", counter(right)


def _failing() -> str:
    """A label that the parameter ``failed`` matches, such as code="500"."""
    name, operator, pattern = _matcher()
    values = [*map(str, range(599, -1, -1)), *pattern.split("|")] if operator == "=~" else [pattern]
    return equals(name, next((one for one in values if re.fullmatch(pattern, one)), values[-1]))


def _matcher() -> tuple[str, str, str]:
    found = re.fullmatch(r'([a-z_]+)(=~?)"([^"\\]+)"', parameter("failed"))
    assert found is not None  # a preflight sees to that
    return found[1], found[2], found[3]


def named(text: str) -> str:
    """The settings, with the rules' directory among the ``rule_files``."""
    lines = text.splitlines()
    entry = re.compile(rf"^\s*-\s*[\"']?{re.escape(RULES)}[\"']?\s*(#.*)?$")
    if any(map(entry.match, lines)):
        return text
    at = next((n for n, line in enumerate(lines) if line.startswith("rule_files:")), None)
    if at is None:
        return text.rstrip("\n") + f"\n\nrule_files:\n  - {RULES}\n"
    if re.match(r"rule_files:\s*[^\s#]", lines[at]):
        sys.exit("has rule_files on one line: write it as a list, one entry a line")
    rest = [line for line in lines[at + 1 :] if line.strip() and not line.lstrip().startswith("#")]
    item = re.match(r"(\s*)- ", rest[0]) if rest else None  # else the list is empty
    indent = item[1] if item else "  "
    return "\n".join([*lines[: at + 1], f"{indent}- {RULES}", *lines[at + 1 :]]) + "\n"


def impossible() -> str:
    """Which alert could never fire, and what to do; "" if each could."""
    for alert in alerts():
        if alert.threshold >= 1:
            least = 100 * (1 - 1 / max(one.factor for one in alerts()))
            return (
                f"objective is {float(parameter('objective')):g}: the alert over"
                f" {duration(alert.long)} would wait for {100 * alert.threshold:.0f} % of all"
                f" requests to be bad, and never fire: give more than {least:.2f}"
            )
    return ""


def ask(path: str, **values: str) -> Any:
    """What Prometheus answers; the end of the program with a sentence where it does not."""
    url = f"{parameter('prometheus_url')}/api/v1/{path}?{urllib.parse.urlencode(values)}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - a parameter
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        sys.exit(json.load(error).get("error", str(error)))
    except (urllib.error.URLError, OSError, ValueError) as error:
        sys.exit(f"Prometheus does not answer at {parameter('prometheus_url')} ({error})")


def query(expression: str) -> list[Any]:
    return list(ask("query", query=expression)["result"])


def missing() -> str:
    """The first thing that is missing for the rules to say anything; "" if nothing is."""
    return next(itertools.chain(_of_targets(), _of_series()), "")


def _of_targets() -> Iterator[str]:
    service, shortest = parameter("service"), duration(1 / 12)
    targets = ask("targets")["activeTargets"]
    own = [target for target in targets if target["labels"]["job"] == service]
    if not own:
        jobs = ", ".join(sorted({target["labels"]["job"] for target in targets}))
        yield f"Prometheus has no job {service}, only {jobs}: correct service, or add the job"
    for target in own:
        url, every = target["scrapeUrl"], target["scrapeInterval"]
        if target["health"] != "up":
            why = target["lastError"] or "it has not been asked yet"
            yield f"Prometheus does not reach {service} at {url} ({why}): start it, or mend the job"
        if _seconds(every) * 4 > int(parameter("hour")) / 12:
            yield (
                f"Prometheus asks {service} every {every}, and the shortest window is {shortest}:"
                " a rate wants four samples; shorten scrape_interval"
            )


def _of_series() -> Iterator[str]:
    service, threshold = parameter("service"), parameter("threshold")
    latency, requests = parameter("latency"), parameter("requests")
    if not query(f"{requests}{selector()}"):
        yield (
            f"{service} shows no {requests}: rules on it would never say anything; correct"
            " requests, or send one"
        )
    label = _matcher()[0]
    with_label = selector(f'{label}!=""')
    if not query(f"{requests}{with_label}"):
        yield f"{requests} has no label {label}, so nothing would count as failed: correct failed"
    buckets = query(f"{latency}_bucket{selector()}")
    if not buckets:
        yield f"{service} shows no histogram {latency}: correct latency, without _bucket at its end"
    bounds = {float(one["metric"]["le"]) for one in buckets}
    if float(threshold) not in bounds:
        by_factor = sorted(bounds, key=lambda bound: abs(math.log(bound / float(threshold))))
        near = sorted(by_factor[:3])
        yield (
            f"threshold is {threshold}, and {latency} has no bucket that ends there, so it cannot"
            f" be told: give one of its bounds, such as {', '.join(f'{one:g}' for one in near)}"
        )


def shares() -> None:
    rows, missing = [], False
    for window in map(duration, WINDOWS):
        found = {
            one["metric"]["slo"]: one["value"][1] for one in query(f"{BAD}{window}{selector()}")
        }
        cells = [float(found.get(slo, "nan")) for slo in SLOS]
        missing |= any(map(math.isnan, cells))
        texts = [f"{100 * share:8.3f} % {share / budget():8.1f} x" for share in cells]
        rows.append(f"{window:<8}" + "".join(f"{text:>25}" for text in texts))
    print(f"{'window':<8}" + "".join(f"{slo:>13}   the budget" for slo in SLOS))
    print("\n".join(rows))
    sys.exit(missing)


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"(\d+)(ms|[smhd])", text))


def main(command: str, *arguments: str) -> None:
    if command == "rules":
        print("\n".join(rules()))
    elif command == "tests":
        tests(Path(arguments[0]), arguments[1])
    elif command == "named":
        print(named(Path(*arguments).read_text(encoding="utf-8")), end="")
    elif command == "impossible":
        print(impossible())
    elif command == "missing":
        print(missing())
    elif command == "shares":
        shares()
    elif command == "firing":
        wanted = {**alerts()[0].labels(), "alertstate": "firing"}
        matchers = [equals(*pair) for pair in wanted.items()]
        sys.exit(not query(f"ALERTS{selector(*matchers)}"))
    elif command == "alerts":
        for alert in ask("alerts")["alerts"]:
            if alert["labels"].get("job") == parameter("service"):
                labels = [alert["labels"].get(name, "") for name in ("severity", "slo", "window")]
                print(alert["state"], *labels, "|", alert["annotations"]["summary"])


if __name__ == "__main__":
    main(*sys.argv[1:])
