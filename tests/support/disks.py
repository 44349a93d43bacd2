"""Disks that are full soon, or cannot be written."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """An empty disk of so many kB at ``folder``, which is made; skips where none can be mounted."""
    with _disk(folder, f"size={kilobytes}k"):
        yield folder


@contextlib.contextmanager
def read_only_disk(folder):
    """A disk at ``folder``, which is made, that nobody can write to, not even root."""
    with _disk(folder, "ro"):
        yield folder


@contextlib.contextmanager
def _disk(folder, options):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        yield
    finally:
        # Lazily: a test that fails may hold a file open.
        subprocess.run(["umount", "-l", str(folder)], check=True)
