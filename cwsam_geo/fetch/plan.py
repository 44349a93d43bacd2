"""What a run of ``fetch`` will write: decided once, and kept in ``fetch.json`` to go on with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import shapely
from affine import Affine
from rasterio.crs import CRS

from cwsam_geo.atomic import atomic_output
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.fetch.options import FetchOptions
from cwsam_geo.fetch.passes import Pass
from cwsam_geo.fetch.places import Place
from cwsam_geo.scene.acquisition import Acquisition
from cwsam_geo.scene.stac_item import StacAsset

RECORD = "fetch.json"
"""Name of the file in the output folder that keeps the plan."""

_VERSION = 1

_LARGEST = 64 << 20
"""Bytes of the record up to which it is read."""


@dataclass(frozen=True)
class PlannedPlace:
    """The scenes of a place.

    Attributes:
        place: The place.
        grid: Grid of its scenes and labels.
        passes: The passes that become scenes, in the order of their numbers.
    """

    place: Place
    grid: SceneGrid
    passes: tuple[Pass, ...]

    def scene_name(self, number: int) -> str:
        """File name of a scene, by its number from 1."""
        return self.place.file_name(f"scene_{number}.tif")


@dataclass(frozen=True)
class Plan:
    """What is fetched.

    Attributes:
        places: The places that have scenes.
        licence: Licence of the collection of the scenes, or None.
    """

    places: tuple[PlannedPlace, ...]
    licence: str | None


def request_of(options: FetchOptions, places: Sequence[Place]) -> dict[str, Any]:
    """What decides the scenes of a run, as plain values: equal for runs that fetch the same."""
    return {
        "source": options.source,
        "collection": options.collection,
        "date": options.date,
        "orbit": options.orbit,
        "bands": list(options.bands),
        "resolution": options.resolution,
        "crs": options.crs,
        "max_scenes": options.max_scenes,
        "composite": options.composite,
        "places": [[p.name, shapely.to_wkt(p.area, rounding_precision=7)] for p in places],
    }


def read_plan(folder: Path, request: Mapping[str, Any], places: Sequence[Place]) -> Plan | None:
    """The plan of an earlier run into a folder; None if there is none.

    Raises:
        UsageError: The earlier run was for something else, or its record cannot be read.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    damaged = UsageError(
        f"{path}: cannot be read as the record of an earlier fetch; remove it, or pass --overwrite "
        "to search anew"
    )
    try:
        if path.stat().st_size > _LARGEST:
            raise damaged
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise damaged from None
    try:
        if data["version"] != _VERSION:
            raise damaged
        if data["request"] != json.loads(json.dumps(request)):
            changed = [key for key in request if data["request"].get(key) != _plain(request[key])]
            raise UsageError(
                f"{folder}: holds what an earlier fetch with other settings brought "
                f"({', '.join(changed)} differ); choose another folder, or pass --overwrite to "
                "search anew and replace it"
            )
        planned = [_place(entry, {p.name: p for p in places}) for entry in data["places"]]
        return Plan(tuple(planned), data.get("licence"))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise damaged from None


def write_plan(folder: Path, request: Mapping[str, Any], plan: Plan) -> None:
    """Writes the record of a plan.

    Raises:
        OutputError: It cannot be written.
    """
    data = {
        "version": _VERSION,
        "request": request,
        "licence": plan.licence,
        "places": [_entry(place) for place in plan.places],
    }
    with atomic_output(folder / RECORD, overwrite=True) as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Makes the output folder, and checks that files can be written there.

    Raises:
        UsageError: There is a file of that name.
        OutputError: The folder cannot be made or written to.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; give the output a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: no permission to write there")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _entry(planned: PlannedPlace) -> dict[str, Any]:
    grid = planned.grid
    return {
        "name": planned.place.name,
        "crs": grid.crs.to_wkt() if grid.crs else None,
        "transform": list(grid.transform)[:6],
        "size": [grid.height, grid.width, grid.count],
        "passes": [asdict(p) | {"assets": _assets(p)} for p in planned.passes],
    }


def _assets(made: Pass) -> list[list[dict[str, Any]]]:
    """The rasters of a pass; JSON has no NaN, so a nodata value is text."""
    return [
        [asdict(a) | {"nodata": None if a.nodata is None else repr(a.nodata)} for a in assets]
        for assets in made.assets
    ]


def _asset(entry: Mapping[str, Any]) -> StacAsset:
    nodata = entry["nodata"]
    return StacAsset(**{**entry, "nodata": None if nodata is None else float(nodata)})


def _place(entry: Mapping[str, Any], places: Mapping[str, Place]) -> PlannedPlace:
    height, width, count = entry["size"]
    grid = SceneGrid(
        height, width, Affine(*entry["transform"]), CRS.from_wkt(entry["crs"]), count,
        nodata=float("nan"),
    )  # fmt: skip
    passes = tuple(
        Pass(
            items=tuple(p["items"]),
            assets=tuple(tuple(map(_asset, assets)) for assets in p["assets"]),
            acquisition=Acquisition(
                **{**p["acquisition"], "items": tuple(p["acquisition"]["items"])}
            ),
            cover=float(p["cover"]),
            units=p["units"],
        )
        for p in entry["passes"]
    )
    return PlannedPlace(places[entry["name"]], grid, passes)
