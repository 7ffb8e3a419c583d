"""Finds the browser that renders pages, without importing playwright."""

from __future__ import annotations

import importlib.util
import shutil

from kb_pipeline.errors import BrowserMissing

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find_browser(named: str) -> str:
    """Return the browser's executable: `named` by the operator, else the first of BROWSERS; raise BrowserMissing."""
    if importlib.util.find_spec("playwright") is None:
        raise BrowserMissing("the Python package playwright is not installed: pip install 'kb-pipeline[js]'")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise BrowserMissing(f"there is no {named or 'Chromium'}; install it (Debian: chromium) or set KB_BROWSER")
    return found
