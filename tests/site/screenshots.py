"""Takes pictures of a built site, to be looked at.

usage: python tests/site/screenshots.py SITE OUT [PAGE ...]

PAGE is a URL from the site's root; without any, pages of every kind are taken. Each comes as
desktop, phone and dark, and as the PDF that printing makes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from browser import launched, served
from playwright.sync_api import sync_playwright

SIZES = {"desktop": (1440, 900, "light"), "phone": (390, 844, "light"), "dark": (1440, 900, "dark")}


def pages_of(site: Path) -> list[str]:
    """The home page, the ledger, and the first page of each other kind."""
    found = ["", "claims/", "hosts/", "run/"]
    for pattern in ("areas/*", "claims/*", "runbooks/*/*", "notebooks/*/*"):
        pages = sorted(path.parent for path in site.glob(f"{pattern}/index.html"))
        found += [f"{path.relative_to(site)}/" for path in pages[:1]]
    return found


def main(site: Path, out: Path, pages: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, served(site) as url:
        browser = launched(playwright)
        for name, (width, height, scheme) in SIZES.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            for path in pages or pages_of(site):
                page.goto(url + path)
                page.wait_for_load_state("networkidle")
                stem = path.strip("/").replace("/", "-") or "home"
                page.screenshot(path=out / f"{stem}-{name}.png", full_page=True)
                if name == "desktop":
                    page.pdf(path=out / f"{stem}.pdf")
            page.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
