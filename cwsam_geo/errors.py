"""Errors a user can cause: each message says what is wrong, with which file, and what to do."""


class CwsamGeoError(Exception):
    """Root of the package's errors; the command line prints it as one line and exits with 1."""

    exit_code = 1


class UsageError(CwsamGeoError):
    """An option or argument that cannot be used as given; exit code 2."""

    exit_code = 2


class SceneError(CwsamGeoError):
    """A scene that cannot be read, or whose bands, units or grid do not serve."""


class LegendError(CwsamGeoError):
    """A legend, palette or label raster that is not what it should be."""


class ModelError(CwsamGeoError):
    """A model bundle or checkpoint that cannot be loaded."""


class OutputError(CwsamGeoError):
    """An output that cannot be written."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is one of the ways in which memory runs out: torch's have no type in common."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)
