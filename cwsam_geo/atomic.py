"""Outputs appear whole at their path, or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cwsam_geo.errors import CwsamGeoError, OutputError, UsageError, is_out_of_memory

_OF_TIFF = (".ovr", ".aux.xml", ".msk", ".msk.ovr", ".vat.dbf", ".vat.cpg")
_SIDECARS = {
    ".tif": _OF_TIFF,
    ".tiff": _OF_TIFF,
    ".gpkg": ("-wal", "-shm", "-journal", ".aux.xml"),
}
"""Endings of sidecar files, by the suffix of the main file.

GDAL and SQLite read a sidecar as a part of the file beside it, so a new file must not find the
sidecars of an older one.
"""


def sidecar_endings(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """What is appended to the name of a file in the names of its sidecars."""
    return _SIDECARS.get(Path(path).suffix.lower(), ())


LEAST_ROOM = 1 << 20
"""Bytes of free space below which a disk counts as full (1 MiB).

A write that fails on a full disk seldom uses up the last bytes, so the limit is not 0.
"""


def check_output(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Checks, before hours of work, that an output can be written to ``path``.

    Raises:
        UsageError: The path is a URL, a folder or a device; or the file, or a sidecar of an
            earlier file of that name, exists and ``overwrite`` is False.
        OutputError: The folder does not exist or is not writable.
    """
    target = Path(path)
    _check_on_disk(os.fspath(path))
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; give the output a file name")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target}: is a device or a pipe; give the output a file name")
    _check_free(target, overwrite)
    sidecars = [] if overwrite else _sidecars(target)
    if sidecars:
        raise UsageError(
            f"{sidecars[0]}: is left over from an earlier {target.name} and would be read as a "
            "part of the new one; remove it, or pass --overwrite"
        )
    folder = real_file(target).parent
    if not folder.is_dir():
        raise OutputError(f"{target}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{target}: no permission to write to the folder {folder}")
    return target


_NO_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+]+://?|/vsi\w+/")
"""A URL, also one that ``Path`` has shortened (``s3:/bucket``), or a name that only GDAL knows."""


def _check_on_disk(path: str) -> None:
    """Refuses what is no path, so that nobody is told to create a folder ``s3:``."""
    if _NO_PATH.match(path) and not os.path.isdir(os.path.dirname(path)):
        raise UsageError(
            f"{path}: this output is written to a disk; give a path, and copy the file afterwards "
            "(outputs of predict and batch may be URLs, such as s3://bucket/map.tif)"
        )


def check_apart(
    outputs: Iterable[str | os.PathLike[str]], inputs: Mapping[str | os.PathLike[str], str]
) -> None:
    """Refuses an output that is an input or another output, by whatever path or link.

    Args:
        outputs: Paths of the outputs.
        inputs: What each input is, for the message, such as ``the scene``, by its path or URL.

    Raises:
        UsageError: An output is an input, or two outputs are the same file.
    """
    role_by_file = {_identity(path): role for path, role in inputs.items()}
    for path in outputs:
        file = _identity(path)
        if file in role_by_file:
            raise UsageError(f"{path}: is {role_by_file[file]} too; choose another output")
        role_by_file[file] = "another output"


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | str:
    """The same value for all names of a file, also of other case where case does not count."""
    real = os.path.realpath(path)
    try:
        state = os.stat(real)
    except (OSError, ValueError):
        return os.path.normcase(real)
    return state.st_dev, state.st_ino


def _check_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists already; pass --overwrite to replace it")


def _sidecars(target: Path) -> list[Path]:
    """Existing sidecars of a file; for a symbolic link, also those of the file it points to."""
    candidates = [
        _with_ending(path, ending)
        for path in dict.fromkeys((target, real_file(target)))
        for ending in sidecar_endings(path)
    ]
    return [path for path in candidates if os.path.lexists(path)]


def _remove_sidecars(target: Path) -> None:
    # The old overviews would show the old map, and the old journal would undo the new file.
    for path in _sidecars(target):
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(
                f"{path}: is left over from the earlier {target.name} and cannot be removed "
                f"({error.strerror}); remove it, or it will be read as a part of the new one"
            ) from None


def _with_ending(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")


def real_file(path: str | os.PathLike[str]) -> Path:
    """The file that an output path stands for: a symbolic link is followed to its end.

    Raises:
        OutputError: The link points back to itself.
    """
    if not os.path.islink(path):
        return Path(path)
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OutputError(f"{path}: is a symbolic link that points back to itself; remove it")
    return real


def check_room(target: Path, size: int = LEAST_ROOM) -> None:
    """Checks that the disk of an output has ``size`` bytes free.

    Called before writing, and after a failure to find out whether a full disk was the reason.

    Raises:
        OutputError: Less space is free.
    """
    free = shutil.disk_usage(real_file(target).parent).free
    if free < size:
        raise OutputError(
            f"{target}: the disk is full: {free / 1e6:.1f} MB are free and about "
            f"{math.ceil(size / 1e5) / 10:.1f} MB are needed; free some space or write elsewhere"
        )


@contextlib.contextmanager
def atomic_output(
    path: str | os.PathLike[str], overwrite: bool = False, sidecars: Sequence[str] = ()
) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it into place when the block succeeds.

    If ``path`` is a symbolic link, the link stays and the file that it points to is written. The
    sidecars of a replaced file are removed.

    The temporary name keeps the suffix, because GDAL chooses drivers by it. Other files that the
    block leaves under that name (a sidecar, a journal) are removed, also on failure and on
    Ctrl-C. Only a killed process leaves its hidden ``.*.tmp*`` file behind.

    Args:
        overwrite: Whether an existing file may be replaced.
        sidecars: Endings of sidecar files that move into place with the file, if the block leaves
            them beside the temporary file.

    Raises:
        UsageError: See ``check_output``.
        OutputError: See ``check_output``; or the block did not write the file, or the disk is
            full.
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
        # Another program may have created the file during hours of work.
        _check_free(target, overwrite)
        _move(temporary, target, overwrite, sidecars)
    except Exception as error:
        _blame_disk(target, error)
        raise
    finally:
        for leftover in real.parent.glob(f"{glob.escape(prefix)}*"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _move(temporary: Path, target: Path, overwrite: bool, sidecars: Sequence[str]) -> None:
    """Renames a complete file and its new sidecars into place; removes the old sidecars."""
    real = real_file(target)
    endings = [ending for ending in sidecars if _with_ending(temporary, ending).is_file()]
    for part in (temporary, *(_with_ending(temporary, ending) for ending in endings)):
        part.chmod(_mode(real))
    if real.exists():
        # The old file keeps its sidecars until it is replaced.
        os.replace(temporary, real)
        _remove_sidecars(target)
        _move_sidecars(temporary, target, endings)
        return
    # A new file comes last: once it exists, it is whole.
    if overwrite:
        _remove_sidecars(target)
    try:
        _move_sidecars(temporary, target, endings)
        os.replace(temporary, real)
    except OSError:
        _remove_sidecars(target)
        raise


def _move_sidecars(temporary: Path, target: Path, endings: Sequence[str]) -> None:
    real = real_file(target)
    for ending in endings:
        os.replace(_with_ending(temporary, ending), _with_ending(real, ending))
        if real != target:
            # GDAL looks for sidecars beside the link, not beside the file that it points to.
            with contextlib.suppress(OSError):
                _with_ending(target, ending).symlink_to(_with_ending(real, ending).absolute())


def _blame_disk(target: Path, error: Exception) -> None:
    """Raises OutputError where an error comes from a full disk, and else returns.

    Each library reports a full disk in its own words, so the free space is measured instead.
    """
    if isinstance(error, CwsamGeoError) or is_out_of_memory(error):
        return
    with contextlib.suppress(OSError):  # the folder itself may be gone
        check_room(target)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise OutputError(f"{target}: the disk is full; free some space or write elsewhere")


def _mode(target: Path) -> int:
    """Permissions of the replaced file; for a new file, the default under the umask."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)  # The umask can only be read by setting it.
    os.umask(umask)
    return 0o666 & ~umask
