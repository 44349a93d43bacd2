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
        UsageError: The file exists and ``overwrite`` is False, or the path is a folder or a device.
        OutputError: The folder does not exist or cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; give the output a file name")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target}: is a device or a pipe; give the output a file name")
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists already; pass --overwrite to replace it")
    folder = real_file(target).parent
    if not folder.is_dir():
        raise OutputError(f"{target}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{target}: no permission to write to the folder {folder}")
    return target


def real_file(path: str | os.PathLike[str]) -> Path:
    """The file that is written for an output: where it is a link, what that leads to.

    Raises:
        OutputError: The link leads back to itself.
    """
    if not os.path.islink(path):
        return Path(path)
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OutputError(f"{path}: is a symbolic link that leads in a circle; remove it")
    return real


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; renames it into place when the block succeeds.

    A link stays, and the file that it leads to is replaced or comes to be.

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
    real = real_file(target)
    temporary = real.with_name(f"{prefix}tmp{suffix}")
    try:
        yield temporary
        if not temporary.is_file():
            raise OutputError(f"{target}: nothing was written")
        check_output(target, overwrite)
        temporary.chmod(_mode(real))
        os.replace(temporary, real)
    finally:
        for leftover in real.parent.glob(f"{glob.escape(prefix)}*"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or what the umask leaves of a new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
