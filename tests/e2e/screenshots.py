"""Screenshots for the documentation."""

import os
from typing import Any

from tests.checkout import ROOT

IMAGES = ROOT / "docs/images"


def take_screenshot(page: Any, name: str) -> None:
    """Write a screenshot of the page to docs/images/ if `make images` runs the tests.

    Other runs leave the checkout as it is: a statement says whether the code had been changed.
    """
    if "IMAGES" in os.environ:
        page.mouse.move(0, 0)
        page.wait_for_timeout(1500)  # until lists and charts have stopped moving
        page.screenshot(path=IMAGES / f"{name}.png")
