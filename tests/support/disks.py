"""Disks that are full soon."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """An empty disk of so many kB at ``folder``, which is made; skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        yield folder
    finally:
        # Lazily: a test that fails may hold a file open.
        subprocess.run(["umount", "-l", str(folder)], check=True)
