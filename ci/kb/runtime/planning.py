"""Mode plan: rehearses each step on one copy of the host, and shows what it would do."""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kb.runtime import preview
from kb.runtime.layers import Difference
from kb.runtime.paths import shown
from kb.runtime.preview import Preview
from kb.runtime.rehearsal import Rehearsal, Seen, UnavailableError

DPKG = "/var/lib/dpkg/status"
CHANGED = re.compile(r"^changed: .*\n?", re.MULTILINE)
SAVED = re.compile(r"^saved: (.*?);.*", re.MULTILINE)  # by a rollback, of what a person edited
LAST_WORDS = 5  # lines of what a step printed before it came to no end


class Planner:
    """The plan of one run."""

    def __init__(self, state: Path) -> None:
        """``state`` is where originals are kept: what is written there is nobody's change."""
        atexit.register(self.close)
        self.state = state
        self.previews: list[Preview] = []
        self._rehearsal: Rehearsal | None = None
        self._why_not = ""  # why nothing can be rehearsed here
        # The steps that came to no end, by title, and the paths that they declare.
        self._open: dict[str, list[Path]] = {}

    def step(
        self,
        title: str,
        body: str,
        env: Mapping[str, str],
        declared: Sequence[tuple[Path, str]],
        is_edited: Callable[[Path], bool],
    ) -> Preview:
        """Show what an ``%%apply`` cell would do, on top of the steps before it."""
        plan = Preview(title, "apply")
        self.previews.append(plan)
        seen = self._run(plan, body, env)
        if seen is None:
            self._add_declared(plan, declared, [])
            return plan
        paths = [path for path, _ in declared]
        differences = self._differences()
        if seen.unknown:  # what is hidden and new would have been renamed, or removed
            differences = [one for one in differences if not _is_for_a_moment(Path(one.path))]
        names = {str(path): what for path, what in declared}
        plan.add_changes(differences, names, self._new_packages(differences), seen)
        for path in paths:
            if any(str(path) == one.path for one in differences) and is_edited(path):
                plan.add("note", f"{shown(path)} was edited since; a copy would be kept")
        if seen.unseen:
            plan.unknown = True
            plan.add("note", "it looks at a process of the host, which a rehearsal cannot see:")
            plan.add("note", "  what hangs on that may come out differently in an apply")
        needed = [title for title, theirs in self._open.items() if _overlap(paths, theirs)]
        if seen.unknown or needed:
            plan.unknown = True
            self._add_unknown(plan, seen, needed or list(self._open))
            self._add_declared(plan, declared, differences)
        else:
            self._add_nothing(plan, seen)
        if seen.failed or needed:
            self._open[f'"{title}"'] = paths
        return plan

    def rollback(self, title: str, body: str, env: Mapping[str, str]) -> Preview:
        """Show what a ``%%rollback`` cell would do now, on the host as it is."""
        self.close()
        self._open.clear()
        plan = Preview(title, "rollback")
        seen = self._run(plan, body, env)
        if seen is not None:
            differences = self._differences()
            plan.add_changes(differences, {}, self._new_packages(differences), seen)
            for found in SAVED.finditer(seen.said):
                plan.add("note", f"{found[1]}: a copy would be kept")
            if seen.unknown:
                plan.unknown = True
                self._add_unknown(plan, seen, [])
            else:
                self._add_nothing(plan, seen)
        return plan

    def totals(self) -> str:
        """The plan of all steps in one line."""
        return preview.totals([vars(plan) for plan in self.previews])

    def close(self) -> None:
        """Throw the copy away."""
        if self._rehearsal:
            self._rehearsal.close()
        self._rehearsal = None

    def _run(self, plan: Preview, body: str, env: Mapping[str, str]) -> Seen | None:
        """Rehearse a cell; None, and said in the plan, if that cannot be done here."""
        if self._rehearsal is None and not self._why_not:
            try:
                self._rehearsal = Rehearsal()
            except (UnavailableError, OSError) as error:
                self._why_not = str(error)
        if self._rehearsal is None:
            plan.add("note", f"not rehearsed, since this host does not allow it: {self._why_not}")
            plan.unknown = True
            return None
        return self._rehearsal.run(body, env)

    def _differences(self) -> list[Difference]:
        assert self._rehearsal is not None
        own = (str(self.state), str(self._rehearsal.home))
        return [
            one
            for one in self._rehearsal.layers.differences()
            if not any(_is_at(one.path, place) or _is_at(place, one.path) for place in own)
            # What only an earlier step has made, and this takes away.
            and not (one.after.kind == "nothing" and not os.path.lexists(one.path))
        ]

    def _new_packages(self, differences: Sequence[Difference]) -> list[tuple[str, str, str]]:
        assert self._rehearsal is not None
        if not any(one.path == DPKG for one in differences):
            return []
        return preview.packages(Path(DPKG), self._rehearsal.layers.copy(DPKG) or Path(DPKG))

    def _add_unknown(self, plan: Preview, seen: Seen, needed: Sequence[str]) -> None:
        """Why a step is not known to its end; ``needed`` are the earlier ones that it may need."""
        if needed and (seen.failed or not seen.unknown):
            plan.add("note", f"not known, since this is not: {', '.join(needed)}")
        else:
            plan.add("note", f"not known from here on: {seen.unknown}")
            if seen.failed:
                for line in seen.said.splitlines()[-LAST_WORDS:]:
                    plan.add("note", f"  {line}")

    def _add_nothing(self, plan: Preview, seen: Seen) -> None:
        """Of a step that changes nothing, that it does not, and what it said."""
        if plan.counts.get("files") or seen.acts or seen.settings:
            return
        plan.add("", "as it is already")
        for line in CHANGED.sub("", seen.said).splitlines():
            if not SAVED.match(line):
                plan.add("note", f"  {line}")

    def _add_declared(
        self,
        plan: Preview,
        declared: Sequence[tuple[Path, str]],
        differences: Sequence[Difference],
    ) -> None:
        """What a step that is not known to its end may still write."""
        for path, what in declared:
            told = any(one.path == str(path) for one in differences)
            if told or _is_for_a_moment(path):
                continue
            verb = "change" if os.path.lexists(path) else "create"
            plan.add("", f"may {verb} {shown(path)}" + (f"  ({what})" if what else ""))


def _is_for_a_moment(path: Path) -> bool:
    """A hidden name that is not there yet: what a step writes to before it renames it."""
    return path.name.startswith(".") and not os.path.lexists(path)


def _is_at(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def _overlap(ones: Sequence[Path], others: Sequence[Path]) -> bool:
    return any(
        _is_at(str(one), str(other)) or _is_at(str(other), str(one))
        for one in ones
        for other in others
    )
