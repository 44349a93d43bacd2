"""A headless Chromium that tells what it fetched and what it complained of."""

import contextlib
import json
import shutil
import tempfile
import time

MISSING = "Chromium and ChromeDriver are not installed (Debian: chromium, chromium-driver)"

_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    "--disable-dev-shm-usage",
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--window-size=1280,1000", "--force-device-scale-factor=1"),
)


def programs():
    """Paths of the browser and its driver; None where one is not installed."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    return browser, shutil.which("chromedriver")


@contextlib.contextmanager
def headless_chromium():
    """Starts a browser with a new profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = programs()
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        running = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield running
        finally:
            running.quit()


def open_page(browser, path):
    """Opens a file; what was logged before is forgotten."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.resolve().as_uri())


def complaints(browser):
    """What the console holds."""
    return [entry["message"] for entry in browser.get_log("browser")]


def fetched(browser):
    """Addresses that the page asked for, without data inside the page."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    # The new tab that a browser begins with loads parts of the browser itself.
    return [url for url in urls if not url.startswith(("data:", "chrome:"))]


def eventually(check, seconds=20):
    """Waits until a function returns something true, and returns it."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.05)
