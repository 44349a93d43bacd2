"""The page of the Python interface says what the docstrings say."""

import subprocess
import sys

from paths import ROOT


def test_the_page_of_the_interface_is_current():
    command = [sys.executable, str(ROOT / "docs" / "make_api.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
