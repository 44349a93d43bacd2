"""Errors a user can cause: each message says what is wrong, with which file, and what to do."""

import errno


class CwsamGeoError(Exception):
    """Root of the package's errors; the command line prints it as one line and exits with 1."""

    exit_code = 1


class UsageError(CwsamGeoError):
    """An option or argument that is invalid or does not fit the others; exit code 2."""

    exit_code = 2


class OutsideError(UsageError):
    """The part to map (``--bounds``, ``--aoi``) does not touch the scene."""


class SceneError(CwsamGeoError):
    """A scene that cannot be read, or whose bands, units or grid are unsuitable."""


class LegendError(CwsamGeoError):
    """A legend, palette or label raster that is malformed or does not match."""


class ModelError(CwsamGeoError):
    """A model bundle or checkpoint that cannot be loaded."""


class NoModelError(ModelError):
    """A model that no process can load, so that no scene at all can be mapped."""


class OutputError(CwsamGeoError):
    """An output that cannot be written."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out.

    torch raises unrelated types for it, among them plain ``RuntimeError``, recognised by its text.
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def explained(error: BaseException) -> tuple[str, int]:
    """What went wrong, on one line, and the exit code for it.

    Errors of Python and of libraries that users often meet are put into words.
    """
    kind = type(error).__name__
    if isinstance(error, CwsamGeoError):
        return one_line(str(error)) or kind, error.exit_code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}the disk is full; free some space or write elsewhere", 1
    if is_out_of_memory(error):
        return "out of memory; use a smaller --batch-size or another machine", 1
    if isinstance(error, PermissionError) and error.filename:
        return f"{error.filename}: no permission to use this path as this user", 1
    if isinstance(error, OSError):
        return one_line(str(error)) or kind, 1
    return (
        f"unexpected {kind}: {one_line(str(error)) or kind} "
        "(this is a bug in cwsam-geo: run again with --debug and report the traceback)",
        1,
    )


def one_line(text: str) -> str:
    """The text with a space for every line break."""
    return " ".join(text.split())
