"""Runbooks that follow each other on one host, in ``NAME/ci/together.toml`` of a notebook.

They are applied to the notebook's host before it runs, and rolled back; its parameter ``results``
is the file that says how that went.

works = "curl --fail http://127.0.0.1/"        # status 0 as long as the service does its work
[runbooks."systemd/metrics"]                   # parameters of each
service = "shop"
[[orders]]
apply = ["systemd/metrics", "systemd/apparmor"]
reboot = true                                  # after these, before the rollbacks
rollback = ["systemd/apparmor", "systemd/metrics"]
[checks]                                       # where a runbook's own take minutes: some of them
"go/install" = ["verify-plain"]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.proof import tables
from kb.proof.tables import TableError


@dataclass(frozen=True)
class Order:
    """Names of runbooks, as they are applied and as they are rolled back."""

    apply: list[str]
    rollback: list[str]
    reboot: bool = False


@dataclass(frozen=True)
class Together:
    """What the file holds."""

    works: str
    runbooks: dict[str, dict[str, Any]]
    orders: list[Order]
    checks: dict[str, list[str]]

    def paths(self) -> list[Path]:
        """Where the runbooks are, relative to the repository's root."""
        return [Path(f"runbooks/{name}.ipynb") for name in self.runbooks]


def read(root: Path, path: Path) -> Together | None:
    """The file ``path``, relative to ``root``; None where there is none. Raises TableError."""
    if not (root / path).is_file():
        return None
    _, table = tables.read(root, path)
    kinds: dict[str, tables.Kinds] = {"works": str, "runbooks": dict, "orders": list}
    tables.check(str(path), table, kinds | {"checks": dict}, kinds)
    for name in table["runbooks"]:
        if not (root / f"runbooks/{name}.ipynb").is_file():
            raise TableError(f"{path}: there is no runbook runbooks/{name}.ipynb")
    orders = []
    for number, row in enumerate(table["orders"], 1):
        where = f"{path}: orders {number}"
        lists: dict[str, tables.Kinds] = {"apply": list, "rollback": list}
        tables.check(where, row, lists | {"reboot": bool}, lists)
        order = Order(**row)
        for name in (*order.apply, *order.rollback):
            if name not in table["runbooks"]:
                raise TableError(f"{where}: `{name}`{tables.near(name, table['runbooks'])}")
        if sorted(order.apply) != sorted(order.rollback):
            raise TableError(f"{where}: what is applied must be rolled back, each once")
        orders.append(order)
    for name in table.get("checks", {}):
        if name not in table["runbooks"]:
            raise TableError(f"{path}: checks: `{name}`{tables.near(name, table['runbooks'])}")
    return Together(table["works"], table["runbooks"], orders, table.get("checks", {}))
