"""Fixtures shared by the tests."""

import os

# As the command line has it; before anything imports torch.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Loaded machines are slow now and then; that is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


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
