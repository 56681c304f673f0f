"""Tell what a program, library, wheel, image, process or Python environment asks of CUDA, what this
host has of it, and what will break first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from typing import Any

from cuda_needs import elf, host, rules, subjects
from cuda_needs.elf import UnreadableError
from cuda_needs.host import Host
from cuda_needs.judge import Finding, Judge
from cuda_needs.rules import dotted
from cuda_needs.subjects import Subject

FITS, BREAKS, UNREAD = 0, 1, 2
SHOWN = 12  # names in a line


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        here = host.look(options.root)
        if options.driver:
            pretend(here, options.driver)
        reports = [report(name, options, here) for name in options.subject]
    except UnreadableError as error:
        if options.json:
            show(json.dumps({"schema": 1, "error": str(error)}))
        print(f"cuda-needs: {error}", file=sys.stderr)
        return UNREAD
    if options.json:
        shown = [as_json(*each) for each in reports]
        show(json.dumps({"schema": 1, "host": host_json(here), "subjects": shown}, indent=1))
    else:
        show("\n\n".join([host_text(here), *(text(*each) for each in reports)]))
    found = [finding for _, findings in reports for finding in findings]
    return BREAKS if any(finding.level == "breaks" for finding in found) else FITS


def show(lines: str) -> None:
    """Print; whoever reads may have seen enough, and a file's name may be no text."""
    printable = lines.encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode(
        sys.stdout.encoding or "utf-8"
    )
    try:
        print(printable, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit says so, too


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(
        prog="cuda-needs",
        description=__doc__,
        epilog="Ends with 0 if nothing breaks, 1 if something does, 2 if something cannot be read.",
    )
    told.add_argument(
        "subject",
        nargs="*",
        help="a file, a wheel, an image (directory, tar or name), a process id or a Python"
        " environment; none: only the host",
    )
    told.add_argument("--as", dest="kind", choices=subjects.KINDS, default="", help="what it is")
    told.add_argument("--json", action="store_true", help="for programs")
    told.add_argument("--card", type=card, default=0, metavar="sm_NN", help="for this card")
    told.add_argument("--driver", type=release, metavar="VERSION", help="with this driver")
    told.add_argument(
        "--root", type=directory, default="/", help="the root of another system, read as the host"
    )
    return told


def card(text: str) -> int:
    found = re.fullmatch(r"(?:sm_)?(\d{2,3})", text.replace(".", ""))
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no card's architecture, such as sm_90")
    return int(found[1])


def directory(text: str) -> str:
    if not os.path.isdir(text):  # noqa: PTH112 - what is given stays as it is
        raise argparse.ArgumentTypeError(f"'{text}' is no directory")
    return text.rstrip("/") or "/"


def release(text: str) -> str:
    number = rules.version(text)
    if not number or number[0] not in rules.CUDA_OF_BRANCH:
        known = ", ".join(map(str, rules.CUDA_OF_BRANCH))
        raise argparse.ArgumentTypeError(f"'{text}' is of no known branch of drivers: {known}")
    return text


def pretend(here: Host, driver: str) -> None:
    """Another driver than this host's, loaded and with its nodes."""
    here.module = here.library_version = driver
    here.library, here.asked, here.library_is_stub = "libcuda.so.1", False, False
    here.library_trouble = ""
    here.library_cuda = rules.CUDA_OF_BRANCH[rules.version(driver)[0]]
    here.nodes = ["/dev/nvidiactl"]


def report(name: str, options: argparse.Namespace, here: Host) -> tuple[Subject, list[Finding]]:
    subject = subjects.open_subject(name, options.kind, here)
    return subject, Judge(subject, here, options.card).findings()


# --- for people ---


def host_text(here: Host) -> str:
    how = "asked" if here.asked else "by its branch"
    library = here.library and " ".join(
        filter(
            None,
            [
                here.library,
                here.library_version,
                f"(CUDA {dotted(here.library_cuda)}, {how})" if here.library_cuda else "",
                "STUB" if here.library_is_stub else "",
                "DOES NOT LOAD" if here.library_trouble else "",
            ],
        )
    )
    toolkits = ", ".join(f"{number} in {place}" for place, number in here.toolkits.items())
    cards = ", ".join(f"{name} (sm_{number})" for name, number in here.cards.items())
    rows = {
        "driver": f"{here.module} in the kernel" if here.module else "not loaded",
        "libcuda": library or "none",
        "NVML": here.nvml or "none",
        "PTX JIT": here.compiler or "none",
        "cards": cards or "none seen",
        "toolkits": toolkits or "none",
        "glibc": dotted(here.glibc) or "none",
        "libstdc++": f"GLIBCXX_{dotted(here.glibcxx)}" if here.glibcxx else "none",
    }
    if here.root != "/":
        rows |= {"driver": "not asked", "cards": "not asked"}
    return "\n".join([f"host {here.root}", *(f"  {key:10} {value}" for key, value in rows.items())])


def text(subject: Subject, found: list[Finding]) -> str:
    lines = [f"{subject.name} ({subject.kind})"]
    lines += [f"  {key:10} {value}" for key, value in needs(subject).items()]
    breaking = next((finding for finding in found if finding.level == "breaks"), None)
    for finding in found:
        level = "BREAKS" if finding is breaking else finding.level
        lines.append(f"  {level:10} {finding.says}")
        if finding.do:
            lines.append(f"  {'':10} -> {finding.do}")
    if breaking is None:
        lines.append(f"  {'fits':10} nothing was found that breaks")
    return "\n".join(lines)


def needs(subject: Subject) -> dict[str, str]:
    """What it asks for, a line each; lines about nothing are left out."""
    files = subject.files.values()
    linked = {name for file in files for name in file.needed if elf.NAMES.match(name.encode())}
    loads = {name for file in files for name in file.loads} - linked
    cards = {code.arch for file in files for code in file.codes if code.kind == "elf"}
    ptx = {
        f"{dotted(code.isa)} for {code.arch.replace('sm_', 'compute_')}"
        for file in files
        for code in file.codes
        if code.kind == "ptx"
    }
    runtimes = [f"{name} ({dotted(number)})" for name, number in subject.runtimes.items()]
    gxx = dotted(max((file.floor("GLIBCXX") for file in files), default=()))
    shown = {
        "files": str(len(files)) if len(files) > 1 else "",
        "is": "a program of Go" if any(file.go for file in files) else "",
        **subject.facts,
        "linked to": some(linked),
        "may load": some(loads),
        "runtime": some(runtimes),
        "code for": some(cards),
        "PTX": some(ptx),
        "glibc": dotted(max((file.floor("GLIBC") for file in files), default=())),
        "libstdc++": gxx and f"GLIBCXX_{gxx}",
    }
    return {key: value for key, value in shown.items() if value}


def some(names: set[str] | list[str]) -> str:
    listed = sorted(names, key=lambda name: (rules.version(name), name))
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


# --- for programs ---


def host_json(here: Host) -> dict[str, Any]:
    said = dataclasses.asdict(here)
    del said["cache"]
    return {
        key: dotted(value) if isinstance(value, tuple) else value for key, value in said.items()
    }


def as_json(subject: Subject, found: list[Finding]) -> dict[str, Any]:
    files = [
        {
            "path": file.path,
            "machine": file.machine,
            "soname": file.soname,
            "needed": file.needed,
            "loads": file.loads,
            "glibc": dotted(file.floor("GLIBC")),
            "glibcxx": dotted(file.floor("GLIBCXX")),
            "wants": file.wants,
            "codes": [
                {"kind": code.kind, "arch": code.arch, "isa": dotted(code.isa)}
                for code in file.codes
            ],
        }
        for file in subject.files.values()
    ]
    first = next((finding for finding in found if finding.level == "breaks"), None)
    return {
        "name": subject.name,
        "kind": subject.kind,
        "facts": subject.facts,
        "runtimes": {name: dotted(number) for name, number in subject.runtimes.items()},
        "first": dataclasses.asdict(first) if first else None,
        "findings": [dataclasses.asdict(finding) for finding in found],
        "files": files,
    }


if __name__ == "__main__":
    sys.exit(main())
