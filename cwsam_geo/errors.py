"""Errors a user can cause: each message says what is wrong, with which file, and what to do."""


class CwsamGeoError(Exception):
    """Root of the package's errors; the command line prints it as one line and exits with 1."""

    exit_code = 1


class UsageError(CwsamGeoError):
    """An option or argument that is invalid or does not fit the others; exit code 2."""

    exit_code = 2


class SceneError(CwsamGeoError):
    """A scene that cannot be read, or whose bands, units or grid are unsuitable."""


class LegendError(CwsamGeoError):
    """A legend, palette or label raster that is malformed or does not match."""


class ModelError(CwsamGeoError):
    """A model bundle or checkpoint that cannot be loaded."""


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
