"""Fixtures shared by the tests."""

import os

# As the command line has it; before anything imports torch.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from cwsam_geo.model.device import cpu_multiplies_bf16

# Loaded machines are slow now and then; that is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


EMULATED = "this processor only emulates bf16 (-m native_bf16 runs it all the same)"


LONG = "it takes minutes (-m long runs it)"


def pytest_collection_modifyitems(config, items) -> None:
    """Leaves out what takes minutes, here or everywhere, unless it is asked for."""
    left_out = {"long": LONG}
    if not cpu_multiplies_bf16():
        left_out["native_bf16"] = EMULATED
    for marker, reason in left_out.items():
        for item in items:
            if item.get_closest_marker(marker) and marker not in config.option.markexpr:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter) -> None:
    skipped = terminalreporter.stats.get("skipped", ())
    for reason in (EMULATED, LONG):
        count = sum(reason in str(report.longrepr) for report in skipped)
        if count:
            terminalreporter.write_line(f"{count} tests left out: {reason}")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same numbers whatever ran before it."""
    torch.manual_seed(0)


def _shared() -> Path:
    named = os.environ.get("CWSAM_GEO_TEST_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scenes that are not part of the project."""
    folder = _shared()
    if not folder.is_dir():
        pytest.skip("real scenes are not here (set CWSAM_GEO_TEST_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    import browser

    pytest.importorskip("selenium", reason="selenium is not installed")
    if None in browser.programs():
        pytest.skip(browser.MISSING)
    with browser.headless_chromium() as running:
        yield running
