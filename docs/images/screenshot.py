"""Write a picture of the README: the first screen of a page in Chromium.

`make images` calls it on the page of the demo, `make image-real` on that of `make real`.

Usage: python docs/images/screenshot.py PAGE [PICTURE] [WIDTH] [light|dark]
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HEIGHT = 900


def main(page: Path, picture: Path, width: int, scheme: str) -> None:
    """Open a page from disk and keep what its first screen shows."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
        tab.goto(page.resolve().as_uri())
        tab.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    page, picture, width, scheme = (
        *sys.argv[1:],
        *("report.html", Path(__file__).with_name("report.png"), "1400", "light")[
            len(sys.argv) - 1 :
        ],
    )
    main(Path(page), Path(picture), int(width), str(scheme))
