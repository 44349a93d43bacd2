"""A map as a STAC item (stacspec.org), with which catalogues and GIS programs find and read it.

The item uses the extensions classification (classes), projection (grid), raster (resolution) and
processing (model and settings).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS

from cwsam_geo.atomic import atomic_output, check_output
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.errors import UsageError
from cwsam_geo.io.geolocation import Geolocation, is_local, locate, transformed
from cwsam_geo.io.legend_file import tagged_legend
from cwsam_geo.io.map_tags import read_provenance
from cwsam_geo.io.raster_file import display_name, grid_of, open_dataset
from cwsam_geo.scene.acquisition import Acquisition

PathLike = str | os.PathLike[str]

STAC_VERSION = "1.1.0"

EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("classification/v2.0.0", "processing/v1.2.0", "projection/v2.0.0", "raster/v1.1.0")
)

_OUTLINE_STEP = 16
"""Every so many of the 64 parts of a side of the grid become one edge of the footprint."""

_DEGREES = CRS.from_epsg(4326)

_PRODUCT_TIMES = re.compile(r"S1[A-D]_\w+?_(\d{8}T\d{6})_(\d{8}T\d{6})_")
"""First and last echo in the name of a Sentinel-1 product."""

_MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf",
    ".parquet": "application/vnd.apache.parquet",
    ".geojson": "application/geo+json",
    ".kml": "application/vnd.google-earth.kml+xml",
    ".csv": "text/csv",
    ".json": "application/json",
    ".qml": "text/xml",
    ".html": "text/html",
}


@dataclass(frozen=True)
class Companion:
    """A file that belongs to a map.

    Attributes:
        key: Key of the asset.
        path: The file.
        title: What it holds.
        role: Role of the asset: ``data`` or ``metadata``.
    """

    key: str
    path: PathLike
    title: str
    role: str = "data"


def check_item_output(path: PathLike, overwrite: bool) -> Path:
    """``check_output`` for a STAC item.

    Raises:
        UsageError: The suffix is not ``.json``, or the file exists.
        OutputError: The folder cannot be written.
    """
    if Path(path).suffix.lower() != ".json":
        raise UsageError(f"{path}: a STAC item is a JSON file; name it *.json")
    return check_output(path, overwrite)


def write_item(
    raster: PathLike, path: PathLike, companions: tuple[Companion, ...], overwrite: bool = False
) -> None:
    """Writes the STAC item of a map that ``predict`` has made.

    Args:
        raster: The map.
        path: The item, ``*.json``. Its links are relative, so that both can be moved together.
        companions: Further files of the map.

    Raises:
        UsageError: See ``check_item_output``.
        OutputError: The item cannot be written.
        SceneError: The map cannot be read.
    """
    target = check_item_output(path, overwrite)
    text = json.dumps(map_item(raster, target, companions), ensure_ascii=False, indent=1)
    with atomic_output(target, overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def map_item(
    raster: PathLike, item: PathLike, companions: tuple[Companion, ...] = ()
) -> dict[str, Any]:
    """The STAC item of a map, as plain values.

    Args:
        raster: A map that ``predict`` has made.
        item: Path of the item, from which the assets' paths are counted.
        companions: Further files of the map.

    Raises:
        SceneError: The map cannot be read.
    """
    with contextlib.closing(open_dataset(raster)) as dataset:
        tags, grid = dataset.tags(), grid_of(dataset)
        cloud = dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    location = locate(grid, display_name(raster))
    geometry, bbox = _footprint(location)
    facts = read_provenance(tags)
    legend = tagged_legend(tags, display_name(raster))
    base = Path(item).parent
    assets = {"map": _map_asset(Path(raster), base, location, legend, cloud)}
    for extra in companions:
        assets[extra.key] = {
            "href": _relative(Path(extra.path), base),
            "type": _MEDIA_TYPES.get(Path(extra.path).suffix.lower(), "application/octet-stream"),
            "title": extra.title,
            "roles": [extra.role],
        }
    found: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": Path(item).stem,
        "geometry": geometry,
        "properties": {
            "title": f"Land cover of {facts['input'] or Path(raster).name}",
            **_times(facts, Acquisition.from_tags(tags)),
            **_processing(facts),
            **_projection(location),
        },
        "links": [],
        "assets": assets,
    }
    return found if bbox is None else {**found, "bbox": bbox}


def _relative(path: Path, base: Path) -> str:
    """Address of a file as seen from a folder; absolute where there is no way."""
    try:
        href = Path(os.path.relpath(path.absolute(), base.absolute())).as_posix()
    except ValueError:  # another drive of Windows
        return path.absolute().as_uri()
    return href if href.startswith("../") else f"./{href}"


def _map_asset(
    raster: Path, base: Path, location: Geolocation, legend: Legend | None, cloud: bool
) -> dict[str, Any]:
    media = _MEDIA_TYPES[".tif"] if cloud else "image/tiff; application=geotiff"
    band: dict[str, Any] = {"name": "class", "data_type": "uint8", "nodata": NODATA}
    grid = location.grid
    if location.straight and location.placed and location.crs is not None:
        size = float(np.hypot(grid.transform.a, grid.transform.d))
        if not location.crs.is_geographic:
            band["spatial_resolution"] = size
    asset = {
        "href": _relative(raster, base),
        "type": media,
        "title": "Land-cover classes",
        "roles": ["data"],
        "raster:bands": [{**band, "sampling": "area"}],
    }
    if legend is not None:
        asset["classification:classes"] = classes_of(legend, nodata=True)
    return asset


def classes_of(legend: Legend, nodata: bool = False) -> list[dict[str, Any]]:
    """The classes as the classification extension writes them.

    Args:
        legend: The classes.
        nodata: Also list the code of pixels without data.
    """
    classes: list[dict[str, Any]] = [
        {
            "value": int(e.code),
            "name": _slug(e.name, e.code),
            "description": e.name,
            "color_hint": e.color[1:].upper(),
        }
        for e in sorted(legend.entries, key=lambda e: e.code)
    ]
    if nodata:
        classes.append(
            {"value": NODATA, "name": "nodata", "description": "no data", "nodata": True}
        )
    return classes


def _slug(name: str, code: int) -> str:
    """A name of letters, digits, - and _ only, as the extension demands."""
    return re.sub(r"[^0-9A-Za-z_-]+", "-", name).strip("-") or f"class-{code}"


def _times(facts: Mapping[str, Any], scene: Acquisition | None) -> dict[str, Any]:
    """The times of the scene; that of the map if the scene's are unknown."""
    made = None
    with contextlib.suppress(TypeError, ValueError):
        made = datetime.strptime(facts["date"], "%Y:%m:%d %H:%M:%S").replace(tzinfo=timezone.utc)
    created = _iso(made or datetime.now(timezone.utc))
    start, end = (None, None) if scene is None else (scene.start, scene.end)
    named = _PRODUCT_TIMES.search(facts["input"] or "")
    if start is None and named:
        start, end = (
            _iso(datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc))
            for text in named.groups()
        )
    times: dict[str, Any] = {"datetime": start or created, "created": created}
    if start and end and start != end:
        times |= {"start_datetime": start, "end_datetime": end}
    if start is None:
        times["description"] = "The time is that of the map: the time of its scene is unknown."
    if scene is not None and scene.platform:
        times["platform"] = scene.platform
    return times


def _iso(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _processing(facts: Mapping[str, Any]) -> dict[str, Any]:
    model, settings = facts["model"] or {}, facts["settings"] or {}
    chosen = ", ".join(f"{k} {v}" for k, v in settings.items() if v not in (None, False))
    lineage = (
        f"Land cover by the model {model.get('file')} (sha256 {model.get('sha256')}) from "
        f"{facts['input']}; {chosen}"
    )
    software = {"cwsam-geo": str(facts["version"])} if facts["version"] else {}
    return {"processing:lineage": lineage, "processing:software": software}


def _projection(location: Geolocation) -> dict[str, Any]:
    grid = location.grid
    found: dict[str, Any] = {"proj:shape": [grid.height, grid.width]}
    crs = location.crs
    code = None if crs is None else crs.to_authority()
    found["proj:code"] = ":".join(code) if code else None
    if crs is not None and not code:
        found["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
    if location.placed and location.straight:
        found["proj:transform"] = list(grid.transform)[:6]
        x, y = location.outline()
        found["proj:bbox"] = [float(v) for v in (x.min(), y.min(), x.max(), y.max())]
    return found


def _footprint(location: Geolocation) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Outline and bounding box in degrees; None without a place on Earth."""
    if not location.placed or location.crs is None or is_local(location.crs):
        return None, None
    x, y = transformed(*location.outline(), location.crs, _DEGREES)
    # Each of the four sides begins with a corner, and ends with that of the next.
    x, y = (v.reshape(4, -1)[:, :-1:_OUTLINE_STEP].ravel() for v in (x, y))
    good = np.isfinite(x) & np.isfinite(y)
    lon, lat = np.unwrap(x[good], period=360), y[good]
    if len(lon) < 4:
        return None, None
    # The outline begins between 180 degrees west and east, and may cross the antimeridian.
    shift = 360 * np.floor((lon.min() + 180) / 360)
    shape = shapely.Polygon(np.column_stack([lon - shift, lat]).round(6))
    west, south, east, north = shape.bounds
    if east > 180:
        parts = [
            shapely.intersection(shape, shapely.box(-180, -90, 180, 90)),
            shapely.transform(
                shapely.intersection(shape, shapely.box(180, -90, 540, 90)),
                lambda points: points - [360, 0],
            ),
        ]
        shape = shapely.MultiPolygon([p for part in parts for p in _polygons(part)])
        east -= 360
    shape = shapely.orient_polygons(shape) if hasattr(shapely, "orient_polygons") else shape
    return json.loads(shapely.to_geojson(shape)), [west, south, east, north]


def _polygons(shape: Any) -> list[Any]:
    return [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon"]
