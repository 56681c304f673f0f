"""The version: the last calendar tag, and how far this checkout is from it. The rest is elsewhere.

The weekly workflow tags a commit when everything is green on it, and a record carries the version.
What is not a checkout (an archive, the context of an image) is 0.
"""

import subprocess
from pathlib import Path

from setuptools import setup


def version() -> str:
    """2026.48, or 2026.48.post3+g1a2b3c4 three commits later."""
    git = ["git", "--git-dir", ".git", "describe", "--tags", "--long", "--match", "v2[0-9]*"]
    try:
        done = subprocess.run(
            git, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "0"
    tag, distance, commit = done.stdout.strip().removeprefix("v").rsplit("-", 2)
    return tag if distance == "0" else f"{tag}.post{distance}+{commit}"


if __name__ == "__main__":
    setup(version=version())
