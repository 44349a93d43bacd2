"""Outputs appear whole at their path, or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from cwsam_geo.errors import CwsamGeoError, OutputError, UsageError, is_out_of_memory

_OF_TIFF = (".ovr", ".aux.xml", ".msk", ".msk.ovr", ".vat.dbf", ".vat.cpg")
_SIDECARS = {
    ".tif": _OF_TIFF,
    ".tiff": _OF_TIFF,
    ".gpkg": ("-wal", "-shm", "-journal", ".aux.xml"),
}
"""What other programs put beside a file and take for a part of it, by the file's suffix."""

LEAST_ROOM = 1 << 20
"""Bytes: with fewer free, a disk is full."""


def check_output(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Makes sure, before hours of work, that an output can be put at ``path``.

    Raises:
        UsageError: The file, or a sidecar of an earlier one, exists and ``overwrite`` is False; or
            the path is a folder or a device.
        OutputError: The folder does not exist or cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; give the output a file name")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target}: is a device or a pipe; give the output a file name")
    _check_free(target, overwrite)
    stale = [] if overwrite else _sidecars(target)
    if stale:
        raise UsageError(
            f"{stale[0]}: is left of an earlier {target.name} and would be taken for a part of "
            "the new one; remove it, or pass --overwrite"
        )
    folder = real_file(target).parent
    if not folder.is_dir():
        raise OutputError(f"{target}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{target}: no permission to write to the folder {folder}")
    return target


def _check_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists already; pass --overwrite to replace it")


def _sidecars(target: Path) -> list[Path]:
    """What lies beside a file, and beside what it leads to, and is read as a part of it."""
    beside = [
        path.with_name(f"{path.name}{ending}")
        for path in dict.fromkeys((target, real_file(target)))
        for ending in _SIDECARS.get(path.suffix.lower(), ())
    ]
    return [path for path in beside if os.path.lexists(path)]


def _remove_sidecars(target: Path) -> None:
    """An old file's overviews would show the old map, its journal would undo the new one."""
    for path in _sidecars(target):
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(
                f"{path}: is left of the earlier {target.name} and cannot be removed "
                f"({error.strerror}); remove it, or it will be taken for a part of the new one"
            ) from None


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


def check_room(target: Path, size: int = LEAST_ROOM) -> None:
    """Makes sure that there is room for an output, or that its disk is not why writing failed.

    Args:
        target: The output.
        size: Bytes that are needed.

    Raises:
        OutputError: There are fewer.
    """
    free = shutil.disk_usage(real_file(target).parent).free
    if free < size:
        raise OutputError(
            f"{target}: the disk is full: {free / 1e6:.1f} MB are free and about "
            f"{math.ceil(size / 1e5) / 10:.1f} MB are needed; free some space or write elsewhere"
        )


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; renames it into place when the block succeeds.

    A link stays, and the file that it leads to is replaced or comes to be. The sidecars of a file
    that is replaced go with it.

    The temporary name keeps the suffix, which GDAL's drivers go by. Whatever the block leaves
    under that name (a sidecar, a journal) is removed, also on failure and on Ctrl-C; only a
    killed process leaves its hidden ``.*.tmp*`` file behind.

    Args:
        path: Where the output shall be.
        overwrite: Replace a file that is there.

    Raises:
        UsageError: See ``check_output``.
        OutputError: See ``check_output``; or the block ended without writing the file, or failed
            on a full disk.
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
        _check_free(target, overwrite)
        temporary.chmod(_mode(real))
        os.replace(temporary, real)
        if overwrite:
            _remove_sidecars(target)
    except Exception as error:
        _blame_disk(target, error)
        raise
    finally:
        for leftover in real.parent.glob(f"{glob.escape(prefix)}*"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _blame_disk(target: Path, error: Exception) -> None:
    """Every library has words of its own for a full disk; the free space tells."""
    if isinstance(error, CwsamGeoError) or is_out_of_memory(error):
        return
    with contextlib.suppress(OSError):  # the folder itself may be gone
        check_room(target)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise OutputError(f"{target}: the disk is full; free some space or write elsewhere")


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or what the umask leaves of a new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
