"""usage: buckets.py PROMTOOL SECONDS BOUND...

What Prometheus takes for the 99th percentile of requests that all took so many seconds, from a
histogram with these bounds.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path


def main(promtool: str, seconds: str, *bounds: str) -> None:
    lines = ["evaluation_interval: 1m", "tests:", "- interval: 1m", "  input_series:"]
    for bound in (*bounds, "+Inf"):
        values = "0+100x10" if float(bound) >= float(seconds) else "0x10"
        lines.append(f"  - {{series: 'took_bucket{{le=\"{bound}\"}}', values: '{values}'}}")
    expression = "histogram_quantile(0.99, rate(took_bucket[5m]))"
    # No answer is expected: promtool says then which one there is.
    lines += [
        "  promql_expr_test:",
        f"  - {{expr: '{expression}', eval_time: 10m, exp_samples: []}}",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "test.yml")
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        done = subprocess.run(
            [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False
        )
    found = re.search(r"got: \{\} (\S+)", done.stdout + done.stderr)
    if found is None:
        sys.exit(f"promtool says something else: {done.stdout}{done.stderr}")
    print(f"all took {seconds} s: p99 is {float(found[1]):g} s")


main(*sys.argv[1:])
