"""Examines an installation: ``examine``, the function behind ``cwsam-geo doctor``."""

from __future__ import annotations

import html
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cwsam_geo._version import __version__
from cwsam_geo.errors import CwsamGeoError

Status = Literal["ok", "warning", "error"]
"""``error``: something that the package needs does not work."""

_NEEDED = (3, 10)
"""Oldest Python that the package promises."""

_PACKAGES = (
    *("torch", "numpy", "rasterio", "pyproj", "pyogrio", "geopandas", "shapely", "scipy"),
    *("pyarrow", "safetensors", "segment-anything", "matplotlib", "click"),
)

_RASTER_DRIVERS = ("GTiff", "COG", "VRT", "PNG", "MEM")
"""GDAL drivers without which no map is written."""

_SCENE_DRIVERS = ("netCDF", "HDF5", "Zarr", "ENVI", "JP2OpenJPEG")
"""GDAL drivers that some scenes need."""

_VECTOR_DRIVERS = ("GPKG", "FlatGeobuf", "GeoJSON", "ESRI Shapefile", "KML")

_MEMORY = 2 << 30
"""Bytes of free memory below which a whole scene may not fit: predict needs about one gigabyte."""

_SHARED_MEMORY = 64 << 20
"""Bytes of shared memory with which containers start, too few for workers of finetune."""

_DISK = 4 << 30
"""Free bytes on a disk below which the map of a whole scene may not fit."""

_METRES = 0.01
"""Largest distance between the coordinates that rasterio and pyproj compute."""


@dataclass(frozen=True)
class Check:
    """One thing that was examined.

    Attributes:
        name: What was examined.
        found: What was found, in a line.
        advice: What to do; empty if nothing is wrong.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Examination:
    """What ``examine`` found. Notebooks show it as a table."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """True if nothing that the package needs is broken."""
        return all(check.status != "error" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The findings as plain values, for JSON."""
        return {"healthy": self.healthy, "checks": [asdict(check) for check in self.checks]}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{c.status}</td><td>{html.escape(c.name)}</td><td>{html.escape(c.found)}</td>"
            f"<td>{html.escape(c.advice)}</td></tr>"
            for c in self.checks
        )
        return f"<table>{rows}</table>"


def examine(on_check: Callable[[Check], None] = lambda check: None) -> Examination:
    """Examines versions, GDAL, PROJ, devices, memory, disks and the bundled models.

    Nothing is written outside of the folder for temporary files, and no network is used.

    Args:
        on_check: Called with each finding at once; the models take seconds.
    """
    checks = []
    for part in (_python, _packages, _gdal, _vectors, _proj, _device, _memory, _disks, _models):
        for check in _guarded(part):
            on_check(check)
            checks.append(check)
    return Examination(tuple(checks))


def _guarded(part: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The findings of a part; a failure, such as a library that cannot be loaded, is one."""
    name = part.__name__.strip("_")
    try:
        yield from part()
    except CwsamGeoError as error:
        yield Check(name, "error", str(error), "see the message")
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        advice = "install the package anew: pip install --force-reinstall -c constraints.txt ."
        yield Check(name, "error", what, advice)


def _python() -> Iterator[Check]:
    text = f"cwsam-geo {__version__}, Python {platform.python_version()}, {platform.platform()}"
    if sys.version_info < _NEEDED:
        yield Check("python", "error", text, "install Python 3.10 or newer")
    else:
        yield Check("python", "ok", text)


def _packages() -> Iterator[Check]:
    versions, missing = [], []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    text = ", ".join(versions)
    if missing:
        listed = " ".join(missing)
        yield Check("packages", "error", f"{text}; missing: {listed}", f"pip install {listed}")
    else:
        yield Check("packages", "ok", text)


def _gdal() -> Iterator[Check]:
    import rasterio

    with rasterio.Env() as env:
        drivers = set(env.drivers())
    missing = [d for d in _RASTER_DRIVERS if d not in drivers]
    rare = [d for d in _SCENE_DRIVERS if d not in drivers]
    text = f"GDAL {rasterio.__gdal_version__}, {len(drivers)} raster drivers"
    if missing:
        yield Check(
            *("gdal", "error", f"{text}, without {', '.join(missing)}"),
            "install rasterio from PyPI or conda-forge",
        )
    elif rare:
        yield Check(
            *("gdal", "ok", f"{text}, without {', '.join(rare)}"),
            "only scenes in these formats cannot be read; conda-forge's rasterio has more drivers",
        )
    else:
        yield Check("gdal", "ok", text)


def _vectors() -> Iterator[Check]:
    import pyogrio

    drivers = pyogrio.list_drivers(write=True)
    missing = [d for d in _VECTOR_DRIVERS if d not in drivers]
    version = ".".join(map(str, pyogrio.__gdal_version__))
    text = f"GDAL {version}, {len(drivers)} vector drivers that write"
    if missing:
        yield Check(
            *("vectors", "warning", f"{text}, without {', '.join(missing)}"),
            "polygons cannot be written in these formats; install pyogrio from PyPI",
        )
    else:
        yield Check("vectors", "ok", text)


def _proj() -> Iterator[Check]:
    named = {k: os.environ[k] for k in ("PROJ_DATA", "PROJ_LIB") if k in os.environ}
    import pyproj
    import rasterio
    from rasterio.warp import transform

    from cwsam_geo.io.proj_data import use_fitting_proj_data

    use_fitting_proj_data()
    kept = {k for k in named if os.environ.get(k) == named[k]}
    # A place in Vienna, in zone 33 of UTM.
    x, y = transform("EPSG:4326", "EPSG:32633", [16.37], [48.21])
    other = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(16.37, 48.21)
    apart = max(abs(x[0] - other[0]), abs(y[0] - other[1]))
    folder = os.environ.get("PROJ_DATA") or "rasterio's own"
    text = (
        f"rasterio has PROJ {rasterio.__proj_version__} with the database in {folder}, pyproj has "
        f"{pyproj.__proj_version__} with {pyproj.datadir.get_data_dir()}"
    )
    if apart > _METRES:
        yield Check(
            *("proj", "error", f"{text}; they disagree by {apart:.3g} m"),
            "install rasterio and pyproj from PyPI",
        )
    elif len(kept) < len(named):
        lost = ", ".join(f"{k}={v}" for k, v in named.items() if k not in kept)
        yield Check(
            *("proj", "warning", f"{text}; the database of {lost} does not fit and is not used"),
            f"unset {' '.join(k for k in named if k not in kept)}",
        )
    else:
        yield Check("proj", "ok", text)


def _device() -> Iterator[Check]:
    from cwsam_geo.model.device import cpu_multiplies_bf16, resolve_device, resolve_precision

    device = resolve_device("auto")
    precision = resolve_precision("auto", device, fast=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"predict computes on {device} in {precision}; {cores} processor cores"
    if device.type == "cpu":
        text += ", with bf16 products" if cpu_multiplies_bf16() else ", without bf16 products"
    threads = os.environ.get("OMP_NUM_THREADS")
    if device.type == "cpu" and threads and threads.isdecimal() and int(threads) < (cores or 1):
        yield Check(
            *("device", "warning", f"{text}, OMP_NUM_THREADS={threads}"),
            "unset OMP_NUM_THREADS, so that all cores compute",
        )
    else:
        yield Check("device", "ok", text)


def _memory() -> Iterator[Check]:
    free = _free_memory()
    if free is None:
        yield Check("memory", "ok", "free memory is unknown on this system")
    elif free < _MEMORY:
        yield Check(
            *("memory", "warning", f"{free / 1e9:.1f} GB free"),
            "a whole scene needs about 1 GB: close other programs, or use --batch-size 1",
        )
    else:
        yield Check("memory", "ok", f"{free / 1e9:.1f} GB free")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        if size <= _SHARED_MEMORY:
            yield Check(
                *("shared memory", "warning", f"{size / 1e6:.0f} MB in /dev/shm"),
                "start the container with --shm-size=2g, or use finetune with --workers 0",
            )


def _free_memory() -> int | None:
    """Bytes that programs may still take, also of a container; None if unknown."""
    limits = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        if most != "max":
            used = int((group / "memory.current").read_text(encoding="ascii"))
            limits.append(max(0, int(most) - used))
    except (OSError, ValueError):
        pass
    return min(limits) if limits else None


def _disks() -> Iterator[Check]:
    places = {"this folder": Path.cwd(), "temporary files": Path(tempfile.gettempdir())}
    free = {name: shutil.disk_usage(path).free for name, path in places.items()}
    text = ", ".join(f"{free[name] / 1e9:.1f} GB for {name} ({places[name]})" for name in free)
    if free["this folder"] < _DISK:
        advice = "a whole scene's map needs up to 1 GB while it is made"
        yield Check("disk", "warning", text, advice)
    else:
        yield Check("disk", "ok", text)


def _models() -> Iterator[Check]:
    from cwsam_geo.model.runtime.self_check import check_file, check_model
    from cwsam_geo.model.store import checkout_weights, packaged_weights
    from cwsam_geo.prediction.options import DEFAULT_MODEL

    folders = [f for f in (packaged_weights(), checkout_weights()) if f is not None and f.is_dir()]
    bundles = {p.stem: p for f in reversed(folders) for p in sorted(f.glob("*.safetensors"))}
    if DEFAULT_MODEL not in bundles:
        advice = "install the package anew: its models are part of it"
        yield Check("models", "error", f"the default model {DEFAULT_MODEL} is missing", advice)
    for name, path in sorted(bundles.items()):
        if not check_file(path).is_file():
            yield Check(f"model {name}", "ok", "has no stored numbers to compare with")
            continue
        wrong = check_model(path)
        if wrong is None:
            yield Check(f"model {name}", "ok", "gives the numbers that were stored with it")
        else:
            yield Check(
                *(f"model {name}", "error", wrong),
                "its file is not the released one, or torch computes wrongly here: get the model "
                "again, then try another version of torch",
            )
