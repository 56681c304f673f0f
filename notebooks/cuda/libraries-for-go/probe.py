"""Tells of Python packages whether they have CUDA, by import and cuda.is_available(), as C §3.2."""

import importlib
import sys


def supports(name: str) -> bool:
    try:
        module = importlib.import_module(name)
        return hasattr(module, "cuda") and module.cuda.is_available()
    except (ImportError, AttributeError, OSError):
        return False


def main() -> None:
    sys.path[:0] = sys.argv[1].split(":")
    for name in sys.argv[2:]:
        print(name, supports(name))


if __name__ == "__main__":
    main()
