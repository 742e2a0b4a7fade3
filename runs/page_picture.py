"""Draw the pictures of the inspection page: python runs/page_picture.py ADDRESS FOLDER

ADDRESS is where `tinydefects serve` listens, FOLDER holds photographs of which one at least is called a defect. Written
for light and dark pages to docs/pictures/. Needs Chromium.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
SIZE: ViewportSize = {"width": 1280, "height": 800}
N_COLOURS = 256
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def draw(address: str, photographs: list[Path]) -> None:
    """The page with a defect in view, one region chosen and a second defect drawn by hand."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(address)
            page.locator("#pick-files:enabled").wait_for()
            page.locator("#files").set_input_files(photographs)
            page.get_by_text(f"{len(photographs)} photographs.", exact=True).wait_for(timeout=600_000)
            page.locator("#list button", has=page.get_by_label("defect")).first.click()
            page.locator("#regions li").first.wait_for()
            page.keyboard.press("n")
            page.keyboard.press("r")
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture = picture.quantize(N_COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
            picture.save(PICTURES / f"page_{scheme}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    draw(sys.argv[1], sorted(Path(sys.argv[2]).iterdir()))
