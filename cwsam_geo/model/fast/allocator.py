"""Keeps large tensors' memory in the process instead of asking the system for it every time."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys

# Names and numbers of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


@functools.cache
def tune_allocator() -> bool:
    """Tells glibc to reuse large pieces of memory instead of handing them back.

    As it comes, every tensor over 32 MB is mapped anew, its pages zeroed one by one at first touch
    and returned to the system when it is freed: a third of a large model's time on a CPU. The
    setting holds for the whole process, whose memory then stays at its peak until it ends.

    Returns:
        Whether the settings were taken; on other systems there is nothing to do.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
