"""Imports of large modules inside the commands."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def large_modules() -> Iterator[None]:
    """Spares Python's garbage collector the objects of the modules that are imported inside.

    torch brings some 300,000 objects, which live to the end. Without this, the collector looks
    through them again and again, at the import and at the end of the process.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()
