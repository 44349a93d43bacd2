"""Outputs appear whole at their path, or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from cwsam_geo.errors import OutputError, UsageError


def check_output(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Makes sure, before hours of work, that an output can be put at ``path``.

    Raises:
        UsageError: The file exists and ``overwrite`` is False, or the path is a folder.
        OutputError: The folder does not exist or cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; give the output a file name")
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists already; pass --overwrite to replace it")
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"{target}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{target}: no permission to write to the folder {folder}")
    return target


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; renames it into place when the block succeeds.

    The temporary name keeps the suffix, which GDAL's drivers go by. Whatever the block leaves
    under that name (a sidecar, a journal) is removed, also on failure and on Ctrl-C; only a
    killed process leaves its hidden ``.*.tmp*`` file behind.

    Args:
        path: Where the output shall be.
        overwrite: Replace a file that is there.

    Raises:
        UsageError: See ``check_output``.
        OutputError: See ``check_output``; or the block ended without writing the file.
    """
    target = check_output(path, overwrite)
    suffix = "".join(target.suffixes[-2:]) if target.suffix == ".gz" else target.suffix
    stem = target.name[: len(target.name) - len(suffix)]
    prefix = f".{stem}.{secrets.token_hex(4)}."
    temporary = target.with_name(f"{prefix}tmp{suffix}")
    try:
        yield temporary
        if not temporary.is_file():
            raise OutputError(f"{target}: nothing was written")
        check_output(target, overwrite)
        temporary.chmod(_mode(target))
        os.replace(temporary, target)
    finally:
        for leftover in target.parent.glob(f"{glob.escape(prefix)}*"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or what the umask leaves of a new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
