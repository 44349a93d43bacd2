"""Opens a raster: GDAL's options, remote addresses, and failures as one clear line."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RioWindow

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.wrong_files import HEAD, wrong_download
from cwsam_geo.errors import SceneError
from cwsam_geo.io.gdal_cache import block_cache
from cwsam_geo.io.proj_data import proj_data_advice, use_fitting_proj_data
from cwsam_geo.io.tiff_tags import named_epsg

Location = str | os.PathLike[str]
"""A path, a URL, or a GDAL dataset name (``/vsicurl/...``, ``NETCDF:...``)."""

_URL = re.compile(r"(?:\w+\+)?(https?|ftp|s3|gs|az|adls|oss|swift|hdfs)://", re.IGNORECASE)

_REMOTE_VSI = re.compile(
    r"/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(?:_streaming)?[/?]", re.IGNORECASE
)

_GDAL_NAME = re.compile(r"/vsi\w+[/?]|\w{2,}:|<\w+")

_RAW_SUFFIXES = (".img", ".bin", ".dat", ".raw", ".bsq", ".bil", ".bip")
"""Suffixes of raw data that ENVI, SNAP and PolSARpro describe in a header file."""

_cache_bytes = ContextVar("_cache_bytes", default=256 << 20)
"""Bytes of GDAL's block cache. By default it takes 5 % of the machine's memory."""

_DECODERS = min(4, os.cpu_count() or 1)
"""Threads that decode blocks; the other cores are left to the model."""

_LARGE_BLOCK = 64 << 10
"""Pixels of a block from which on it is decoded in several threads.

Smaller blocks are decoded by one thread: strips of one line take 1.6 times the processor time
with two threads.
"""

_REMOTE = {
    # Do not list a bucket or a web folder to look for sidecar files: that is slow.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    # Allow slow connections, but give up after a minute below 100 bytes/s.
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": str(32 << 20),
}


class HasNoBandsError(SceneError):
    """A container of rasters, such as NetCDF, is no raster itself.

    Attributes:
        subdatasets: GDAL names of the rasters in it.
    """

    def __init__(self, message: str, subdatasets: Sequence[str]) -> None:
        super().__init__(message)
        self.subdatasets = tuple(subdatasets)


def is_remote(location: Location) -> bool:
    """Whether a location is a URL or lies on a network file system of GDAL."""
    text = os.fspath(location)
    return bool(_URL.match(text) or _REMOTE_VSI.search(text))


def display_name(location: Location) -> str:
    """The location for messages and provenance, without query string and password."""
    text = os.fspath(location)
    if not is_remote(text):
        return text
    return re.sub(r"(://)[^/@]*@", r"\1", text.split("?", 1)[0]) or "remote file"


@contextlib.contextmanager
def environment(remote: bool, decoders: int = 1) -> Iterator[None]:
    """GDAL's options for reading scenes.

    Environment variables of the user take precedence.

    Args:
        remote: Whether the scene is read over a network.
        decoders: Threads that decode blocks of a dataset opened in this environment.
    """
    use_fitting_proj_data()
    options = {"GDAL_NUM_THREADS": str(decoders), **(_REMOTE if remote else {})}
    own = {k: v for k, v in options.items() if k not in os.environ}
    with block_cache(_cache_bytes.get()), rasterio.Env(**own):
        yield


@contextlib.contextmanager
def cache_limit(size: int) -> Iterator[None]:
    """Limits GDAL's block cache to ``size`` bytes while rasters are read in this context.

    A reader that needs each block once needs no large cache.
    """
    token = _cache_bytes.set(size)
    try:
        yield
    finally:
        _cache_bytes.reset(token)


def open_dataset(location: Location, overview_level: int | None = None) -> Any:
    """Opens a raster for reading.

    Args:
        location: The raster.
        overview_level: Number of the overview to open instead of all pixels, from 0 for the
            largest; None for all pixels.

    Returns:
        An open ``rasterio.DatasetReader`` with at least one band.

    Raises:
        SceneError: The raster cannot be opened.
        HasNoBandsError: It is a container of rasters.
    """
    text = os.fspath(location)
    name = display_name(text)
    if not is_remote(text) and not (_GDAL_NAME.match(text) and not os.path.exists(text)):
        _check_local(text)
    try:
        level = {} if overview_level is None else {"overview_level": overview_level}
        dataset = _open(text, 1, **level)
        # The block size is known only now, but the number of threads is fixed on opening.
        if _DECODERS > 1 and dataset.count and _large_blocks(dataset):
            dataset.close()
            dataset = _open(text, _DECODERS, **level)
    except (RasterioError, OSError, ValueError) as error:
        raise SceneError(f"{name}: {_why_not(text, gdal_message(error, text))}") from None
    if dataset.count == 0:
        subdatasets = list(dataset.subdatasets)
        dataset.close()
        raise HasNoBandsError(f"{name}: holds no raster bands; {_choice(subdatasets)}", subdatasets)
    lost = _lost_code(dataset, text)
    if lost is not None:
        dataset.close()
        raise SceneError(
            f"{name}: has the CRS EPSG:{lost}, which PROJ's database does not know; "
            f"{proj_data_advice()}, or assign a CRS that it knows (rio edit-info --crs)"
        )
    return dataset


def rio_window(window: Window) -> RioWindow:
    """A window as rasterio takes it."""
    return RioWindow(window.col, window.row, window.width, window.height)


@contextlib.contextmanager
def reading(location: Location, window: Window) -> Iterator[None]:
    """GDAL's options for reading a window of a raster, and its failures as one clear line.

    Raises:
        SceneError: The file is damaged, or the network failed.
    """
    remote = is_remote(location)
    try:
        with environment(remote):
            yield
    except (RasterioError, OSError) as error:
        advice = (
            "check the network and try again"
            if remote
            else "the file is damaged or incomplete: get it again"
        )
        raise SceneError(
            f"{display_name(location)}: rows {window.row} to {window.bottom - 1} cannot be read "
            f"({gdal_message(error, os.fspath(location))}); {advice}"
        ) from None


def gdal_message(error: BaseException, location: str = "") -> str:
    """GDAL's message of a failure, on one line, without passwords and query strings."""
    # The exception that rasterio raises may only refer to GDAL's.
    while error.__cause__ is not None and "previous exception" in str(error):
        error = error.__cause__
    text = getattr(error, "errmsg", None) or str(error)
    if location:
        text = text.replace(location, display_name(location))
    return " ".join(re.sub(r"\?\S+", "", text).split()).rstrip(".") or type(error).__name__


def _open(text: str, decoders: int, **options: int) -> Any:
    with environment(is_remote(text), decoders), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(text, **options)


def _large_blocks(dataset: Any) -> bool:
    rows, cols = dataset.block_shapes[0]
    return bool(rows * cols >= _LARGE_BLOCK)


def _lost_code(dataset: Any, text: str) -> int | None:
    """The EPSG code that a local GeoTIFF names but PROJ does not know; None in any other case.

    GDAL gives such a file a local CRS, or one with an unnamed datum.
    """
    code = named_epsg(text) if dataset.driver == "GTiff" else None
    if code is not None:
        with environment(remote=False):
            try:
                CRS.from_epsg(code)
            except CRSError:
                return code
    return None


def _check_local(text: str) -> None:
    if not text:
        raise SceneError("the path of a scene is empty; give a file or a URL")
    path = Path(text.removeprefix("file://"))
    if path.is_dir() and not holds_zarr(path):
        raise SceneError(f"{text}: is a folder; give the raster file inside it")
    if not path.exists():
        raise SceneError(f"{text}: no such file; check the path")
    if not os.access(path, os.R_OK):
        raise SceneError(f"{text}: no permission to read this file")
    if path.is_file() and path.stat().st_size == 0:
        raise SceneError(f"{text}: is empty (0 bytes); get the file again")


def holds_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr store or array, which GDAL opens as a whole."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _why_not(text: str, why: str) -> str:
    """What is wrong and what to do, from GDAL's message ``why``."""
    if not is_remote(text):
        wrong = wrong_download(_head(text))
        if wrong:
            return wrong
        if "not recognized" in why or "Cannot read TIFF header" in why:
            return (
                f"is not a raster that GDAL can read{_looks_like(text)}; "
                f"{_missing_header(text)}give a GeoTIFF or another GDAL raster"
            )
        return f"cannot be opened ({why}); check the path, and that the file is complete"
    if "CREDENTIALS" in why.upper() or "AWS_SECRET" in why:
        return (
            f"needs credentials ({why}); set the storage's keys in the environment, "
            "or AWS_NO_SIGN_REQUEST=YES for a public bucket"
        )
    if re.search(r"\b(401|403)\b|AccessDenied", why):
        return f"access denied ({why}); sign the URL or set the storage's credentials"
    if re.search(r"\b404\b|NoSuchKey|NoSuchBucket|does not exist", why):
        return "not found on the server, or the server cannot be reached; check the address"
    if "Range downloading not supported" in why:
        return "the server sends whole files only (no range requests); download the file first"
    if "not recognized" in why:
        return "the server's answer is not a raster that GDAL can read; check the address"
    return f"cannot be opened ({why}); check the address and the network, and try again"


def _looks_like(text: str) -> str:
    head = _head(text)[:64]
    if head.lstrip()[:1] == b"<":
        return " (it looks like XML)"
    printable = all(c in b"\t\n\r" or 32 <= c < 127 for c in head)
    return " (it looks like text)" if head and printable else ""


def _head(text: str) -> bytes:
    """The first bytes of a local file; a byte that stands for none where it cannot be read."""
    try:
        with Path(text).open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b"\0"


def _missing_header(text: str) -> str:
    """Advice for a file that may be raw data whose ENVI header has not come with it."""
    path = Path(text)
    headers = path.with_suffix(".hdr"), path.with_name(f"{path.name}.hdr")
    if path.suffix.lower() not in _RAW_SUFFIXES or any(h.exists() for h in headers):
        return ""
    names = " or ".join(dict.fromkeys(h.name for h in headers))
    return f"if it is data of ENVI, SNAP or PolSARpro, put its header ({names}) beside it, or "


def _choice(names: Sequence[str]) -> str:
    if not names:
        return "give a raster file"
    listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"give one of its sub-datasets instead: {listed}"


def grid_of(dataset: Any) -> SceneGrid:
    """Shape, georeferencing and storage of an open rasterio dataset."""
    gcps, gcp_crs = dataset.gcps
    if not dataset.transform.is_identity:
        # A file may have both. GDAL then uses the geotransform and ignores the control points.
        gcps, gcp_crs = (), None
    return SceneGrid(
        height=dataset.height,
        width=dataset.width,
        transform=dataset.transform,
        crs=dataset.crs,
        count=dataset.count,
        dtype=dataset.dtypes[0],
        nodata=dataset.nodata,
        block_shape=tuple(dataset.block_shapes[0]),
        gcps=tuple(gcps),
        gcp_crs=gcp_crs,
        rpcs=dataset.rpcs,
    )
