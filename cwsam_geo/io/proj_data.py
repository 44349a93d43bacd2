"""PROJ's databases: rasterio and pyproj must use ones that their libraries can read.

Wheels of rasterio and pyproj bring a PROJ library and its database, ``proj.db``. Installers of
PostGIS, QGIS, OSGeo4W and conda set ``PROJ_DATA`` (``PROJ_LIB`` before PROJ 9.1) to a database of
another version. rasterio obeys these variables. If its library cannot read that database, GDAL
still opens rasters, but their CRS has no code, and often becomes a local one.
"""

from __future__ import annotations

import contextlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyproj
import pyproj.datadir
import rasterio
from pyproj.exceptions import DataDirError, ProjError
from rasterio.crs import CRS
from rasterio.env import PROJDataFinder, set_proj_data_search_path
from rasterio.errors import CRSError

from cwsam_geo.errors import CwsamGeoError

_log = logging.getLogger(__name__)

_VARIABLES = ("PROJ_DATA", "PROJ_LIB")

_PROBES = (4326, 32633, 3035, 27700, 3413)
"""EPSG codes that a usable database knows: geographic, and projected by four methods."""

_checked: dict[str, str] | None = None
"""Values of the variables when they were last checked; None before the first check."""


def use_fitting_proj_data() -> None:
    """Makes rasterio and pyproj find a database that fits, whatever the environment names.

    A database that ``PROJ_DATA`` or ``PROJ_LIB`` names is kept if rasterio's library can read it.
    Otherwise both variables are removed from this process's environment. (rasterio reads them
    again in every ``rasterio.Env``, so nothing less helps.) Further calls return at once, unless
    a variable has changed.

    Raises:
        CwsamGeoError: No database fits. The message names the variable that is set.
    """
    global _checked
    named = _named()
    if named == _checked:
        return
    if not _rasterio_fits():
        _replace_rasterios(named)
    if not _pyproj_fits():
        _replace_pyprojs()
    _checked = _named()


def crs_of(text: Any) -> CRS:
    """``CRS.from_user_input`` that prints nothing itself.

    Outside a ``rasterio.Env`` GDAL's messages go to standard error.

    Raises:
        CRSError: The text is no CRS.
    """
    with rasterio.Env():
        return CRS.from_user_input(text)


def proj_data_advice() -> str:
    """What the user may do about a database that lacks a CRS."""
    named = _named()
    advice = "update rasterio (pip install -U rasterio)"
    return f"unset {' and '.join(named)}, or {advice}" if named else advice


def _named() -> dict[str, str]:
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def _replace_rasterios(named: dict[str, str]) -> None:
    """Replaces the database that rasterio uses now."""
    for name in named:
        del os.environ[name]
    # Without the variables rasterio prefers its wheel's own database, then those in the usual
    # folders. The path is set here too, because it then counts at once, even if the caller is
    # inside a rasterio.Env.
    own = PROJDataFinder().search()
    if own is not None:
        set_proj_data_search_path(own)
        if _rasterio_fits():
            _log.info("%s does not fit rasterio: the database in %s is used", _listed(named), own)
            return
    # A rasterio that is no wheel may share PROJ with pyproj.
    with contextlib.suppress(DataDirError):
        os.environ["PROJ_DATA"] = pyproj.datadir.get_data_dir()
        if _rasterio_fits():
            return
    os.environ.pop("PROJ_DATA", None)
    os.environ.update(named)
    versions = f"rasterio {rasterio.__version__} (PROJ {rasterio.__proj_version__})"
    raise CwsamGeoError(
        f"{_listed(named)}: PROJ's database there does not fit {versions}, and no other was found; "
        f"unset {' and '.join(named)}, or install rasterio from PyPI"
        if named
        else f"{versions} finds no database of PROJ (proj.db) that it can read; "
        "install rasterio from PyPI, or set PROJ_DATA to the folder of its proj.db"
    )


def _replace_pyprojs() -> None:
    """Replaces the database that pyproj uses now."""
    own = Path(pyproj.__file__).parent / "proj_dir" / "share" / "proj"
    for folder in (str(own), PROJDataFinder().search()):
        if folder is not None and Path(folder, "proj.db").exists():
            pyproj.datadir.set_data_dir(folder)
            if _pyproj_fits():
                return
    raise CwsamGeoError(
        f"pyproj {pyproj.__version__} (PROJ {pyproj.__proj_version__}) finds no database of PROJ "
        "(proj.db) that it can read; install pyproj from PyPI"
    )


def _rasterio_fits() -> bool:
    # GDAL keeps the CRS that a thread has made before, so only a new thread tells. Inside an Env
    # GDAL's messages go to rasterio's log, not to standard error.
    def probe() -> bool:
        with rasterio.Env(), contextlib.suppress(CRSError):
            return all(_survives(code) for code in _PROBES)
        return False

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(probe).result()


def _survives(code: int) -> bool:
    """Whether rasterio knows an EPSG code, and recognises the CRS without it."""
    return bool(CRS.from_wkt(CRS.from_epsg(code).to_wkt()).to_epsg() == code)


def _pyproj_fits() -> bool:
    try:
        return all(pyproj.CRS.from_epsg(code) is not None for code in _PROBES)
    except (ProjError, DataDirError):
        return False


def _listed(named: dict[str, str]) -> str:
    return " and ".join(f"{name}={value}" for name, value in named.items())
