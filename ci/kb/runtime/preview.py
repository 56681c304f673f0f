"""What a step would do, for people: diffs, settings, packages and commands, now and then."""

from __future__ import annotations

import difflib
import grp
import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kb.runtime import redact
from kb.runtime.layers import Difference, Portrait
from kb.runtime.paths import shown
from kb.runtime.rehearsal import Seen

MIME = "application/vnd.noble-runbooks.plan+json"
DIFF = 200  # lines of one diff that are shown
LINES = 20_000  # of one file; comparing more takes too long
NAMED = 6  # files that no step declares are named
COUNTED = {
    "files": ("file", "files"),
    "settings": ("setting of the kernel", "settings of the kernel"),
    "packages": ("package", "packages"),
    "commands": ("command", "commands"),
}
Line = tuple[str, str]  # what it is, for the site: head, add, del, at, note or ""; and its text


@dataclass
class Preview:
    """What one step would do.

    ``lines`` say it; ``counts`` are how many of each kind would be changed; ``unknown``: it could
    not be seen to its end.
    """

    title: str
    kind: str
    lines: list[Line] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    unknown: bool = False

    def __str__(self) -> str:
        return "\n".join(text for _, text in self.lines)

    def show(self) -> None:
        """Show it as the output of a cell."""
        from IPython.display import display  # noqa: PLC0415 - the site reads MIME without a kernel

        display({MIME: asdict(self), "text/plain": str(self)}, raw=True)

    def add(self, kind: str, text: str) -> None:
        self.lines.append((kind, text))

    def count(self, kind: str, number: int = 1) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + number

    def add_changes(
        self,
        differences: Sequence[Difference],
        declared: Mapping[str, str],
        packages: Iterable[tuple[str, str, str]],
        seen: Seen,
    ) -> None:
        """What a rehearsed step did to its copy; ``declared`` are paths and what they are.

        A rollback declares nothing, so all of its files are shown.
        """
        ours: list[Difference] = []
        others: list[Difference] = []
        for difference in differences:
            known = self.kind == "rollback" or _declared_for(difference.path, declared)
            (ours if known else others).append(difference)
        for difference in ours:
            self._add_difference(difference, declared.get(difference.path, ""))
        if others:
            names = [shown(difference.path) for difference in others[:NAMED]]
            more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
            self.add("head", f"would change, undeclared: {', '.join(names)}{more}")
        self.count("files", sum(max(one.files, 1) for one in differences))
        for name, (now, then) in seen.settings.items():
            self.add("head", f"would set {name}: {now} -> {then}")
            self.count("settings")
        for name, now, then in packages:
            self.add("head", f"package {name}: {now or 'not here'} -> {then or 'not here'}")
            self.count("packages")
        for act in seen.acts:
            self.add("head", f"would run: {act}")
            self.count("commands")

    def _add_difference(self, difference: Difference, what: str) -> None:
        before, after, path = difference.before, difference.after, shown(difference.path)
        about = [what] if what else []
        if difference.files:
            about.append(f"{difference.files} files, {_size(difference.size)}")
        about += _attributes(before, after)
        verb = "change"
        if "nothing" in (before.kind, after.kind):
            verb = "create" if before.kind == "nothing" else "remove"
        self.add("head", f"would {verb} {path}" + (f"  ({'; '.join(about)})" if about else ""))
        self.lines += _diff(path, before, after)


def totals(previews: Iterable[Mapping[str, Any]]) -> str:
    """The plan of a whole run in one line."""
    counts: dict[str, int] = {}
    unknown: list[str] = []
    for preview in previews:
        for kind, number in preview["counts"].items():
            counts[kind] = counts.get(kind, 0) + number
        if preview["unknown"]:
            unknown.append(f'"{preview["title"]}"')
    said = [
        f"{counts[kind]} {names[counts[kind] != 1]}"
        for kind, names in COUNTED.items()
        if counts.get(kind)
    ]
    nothing = "nothing is known to change" if unknown else "nothing would change"
    line = ", ".join(said) + " would change" if said else nothing
    if unknown:
        more = f" and {len(unknown) - 2} more" if len(unknown) > 3 else ""
        line += f"; not known to the end: {', '.join(unknown[: 2 if more else 3])}{more}"
    return line


def _declared_for(path: str, declared: Iterable[str]) -> bool:
    return any(
        path == one or path.startswith(f"{one}/") or one.startswith(f"{path}/") for one in declared
    )


def _attributes(before: Portrait, after: Portrait) -> list[str]:
    """In words, what is not in the content: links, kinds, modes, owners, sizes."""
    found = []
    if "link" in (before.kind, after.kind) and "nothing" in (before.kind, after.kind):
        found.append(_leads(before if after.kind == "nothing" else after))
    elif "link" in (before.kind, after.kind):
        found.append(f"{_leads(before)} -> {_leads(after)}")
    elif before.kind != after.kind and "nothing" not in (before.kind, after.kind):
        found.append(f"{before.kind} -> {after.kind}")
    if before.kind == after.kind != "link":
        if before.mode != after.mode:
            found.append(f"mode {before.mode:o} -> {after.mode:o}")
    elif before.kind == "nothing" and after.kind in ("file", "directory"):
        found.append(f"mode {after.mode:o}")
    if "nothing" not in (before.kind, after.kind) and before.owner != after.owner:
        found.append(f"owner {_owner(before.owner)} -> {_owner(after.owner)}")
    elif before.kind == "nothing" and after.owner != (0, 0):
        found.append(f"owner {_owner(after.owner)}")
    if before.digest != after.digest and None in (_content(before), _content(after)):
        sizes = [_size(one.size) for one in (before, after) if one.kind == "file"]
        found.append(" -> ".join(dict.fromkeys(sizes)))
        if before.is_private or after.is_private:
            found.append("not everybody may read it, so its content is not shown")
        elif len(sizes) == 2:
            found.append("other content")
    return found


def _leads(one: Portrait) -> str:
    return f"link to {shown(one.target)}" if one.kind == "link" else one.kind


def _content(one: Portrait) -> str | None:
    """The text of a file; "" of what is none; None if it cannot be shown."""
    if one.kind != "file":
        return ""
    return None if one.text is None or one.text.count("\n") > LINES else one.text


def _diff(path: str, before: Portrait, after: Portrait) -> list[Line]:
    old, new = _content(before), _content(after)
    if None in (old, new) or old == new:
        return []
    assert old is not None
    assert new is not None
    there, here = (path if one.kind == "file" else "/dev/null" for one in (before, after))
    found: list[Line] = []
    old, new = redact.mask_named(old), redact.mask_named(new)
    for text in difflib.unified_diff(_lines(old), _lines(new), there, here, lineterm=""):
        kind = {"+": "add", "-": "del", "@": "at"}.get(text[0], "")
        first, *rest = text.split("\n")
        found.append(("at" if text[:4] in ("+++ ", "--- ") and len(found) < 2 else kind, first))
        found += [("note", line) for line in rest]
    if not found:
        return [("note", "(what differs is a secret)")]
    if len(found) > DIFF:
        left = len(found) - DIFF
        found = [*found[:DIFF], ("note", f"[... {left} more lines of this diff ...]")]
    return found


def _lines(text: str) -> list[str]:
    """Lines as a diff has them: one that lacks its end says so."""
    *lines, last = text.split("\n")
    return [*lines, f"{last}\n\\ No newline at end of file"] if last else lines


def _owner(owner: tuple[int, int]) -> str:
    uid, gid = owner
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        return f"{user}:{grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"{user}:{gid}"


def _size(number: int) -> str:
    if number < 1024:
        return f"{number} bytes"
    size = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            break
    return f"{size:.1f} {unit}"


def packages(before: Path, after: Path) -> list[tuple[str, str, str]]:
    """The packages whose version differs between two states of dpkg: name, now, then."""
    old, new = _installed(before), _installed(after)
    return [
        (name, old.get(name, ""), new.get(name, ""))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _installed(status: Path) -> dict[str, str]:
    found = {}
    for block in status.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " "
        )
        if fields.get("Status", "").endswith(" installed"):
            found[fields.get("Package", "")] = fields.get("Version", "")
    return found
