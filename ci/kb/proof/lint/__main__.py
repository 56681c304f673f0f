"""``python -m kb.proof.lint [FILE...]``, in the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path

from kb.proof import catalog, lint
from kb.proof.tables import TableError


def main() -> int:
    """Print what is amiss in the notebooks that are named, or in all, their areas and claims."""
    root = Path.cwd()
    named = [Path(argument) for argument in sys.argv[1:]]
    for path in named:
        if path not in catalog.paths(root):
            print(
                f"error: {path} is not a notebook of this repository: name it as"
                " runbooks/AREA/NAME.ipynb or notebooks/AREA/NAME.ipynb, in the repository's root",
                file=sys.stderr,
            )
            return 2
    try:
        problems = list(lint.check(root, named or catalog.paths(root)))
        if not named:
            problems += [*lint.check_areas(root), *lint.check_claims(root)]
    except TableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in dict.fromkeys(problems):  # an area has a folder of each kind
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
