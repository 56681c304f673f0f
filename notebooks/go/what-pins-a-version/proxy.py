"""Writes a module proxy of files, with releases of two small modules: proxy.py DIRECTORY [RELEASE]

example.com/lib says which release it is. example.com/other v1.0.0 asks for example.com/lib v1.1.0.
With RELEASE, that release of lib is published anew with other content, which nobody should do.
"""

import sys
import zipfile
from pathlib import Path

RELEASES = ("v1.0.0", "v1.1.0", "v1.2.0")


def publish(proxy: Path, module: str, release: str, mod: str, code: str) -> None:
    """Add one release, as the go command asks a proxy for it."""
    place = proxy / module / "@v"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{release}.info").write_text(f'{{"Version": "{release}"}}\n')
    (place / f"{release}.mod").write_text(mod)
    with zipfile.ZipFile(place / f"{release}.zip", "w") as archive:
        archive.writestr(f"{module}@{release}/go.mod", mod)
        archive.writestr(f"{module}@{release}/code.go", code)
    names = sorted(path.stem for path in place.glob("*.zip"))
    (place / "list").write_text("".join(f"{name}\n" for name in names))


def lib(proxy: Path, release: str, more: str = "") -> None:
    code = f'package lib\n\nconst Release = "{release}"\n{more}'
    publish(proxy, "example.com/lib", release, "module example.com/lib\n", code)


def main() -> None:
    proxy = Path(sys.argv[1])
    if len(sys.argv) > 2:
        lib(proxy, sys.argv[2], "\n// published again\n")
        return
    for release in RELEASES:
        lib(proxy, release)
    asks = "module example.com/other\n\nrequire example.com/lib v1.1.0\n"
    code = 'package other\n\nimport "example.com/lib"\n\nconst With = lib.Release\n'
    publish(proxy, "example.com/other", "v1.0.0", asks, code)


if __name__ == "__main__":
    main()
