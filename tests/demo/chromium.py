"""A real Chromium without a window, for tests of pages; skipped where there is none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


@contextmanager
def open_chromium(profile: Path, width: int = 1280, height: int = 900) -> Iterator[Any]:
    """Selenium's driver of a browser with a new, empty `profile` and a page of `width` x `height` pixels."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, which drives the browser")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs Chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    # Selenium reaches the driver over HTTP, on this machine
    unproxied = os.environ | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", unproxied)
        page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            yield page
        finally:
            page.quit()


def requested_urls(page: Any) -> list[str]:
    """What the browser has asked the network for since it was last asked this, in the order of time."""
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if url.startswith(("http:", "https:", "ws:", "wss:"))]
