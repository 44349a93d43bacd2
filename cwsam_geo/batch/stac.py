"""Lists the scenes of a STAC item, or of an item collection (a GeoJSON FeatureCollection)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from cwsam_geo.batch.batch_scene import BatchScene
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.scene.stac_file import read_features
from cwsam_geo.scene.stac_item import parse_item


def read_items(path: Path) -> list[BatchScene]:
    """The scenes of a file, one for each item.

    An item that cannot be read becomes a scene with a ``problem``.

    Raises:
        UsageError: The file cannot be read, or holds no STAC items.
    """
    try:
        features, several = read_features(path)
    except SceneError as error:
        raise UsageError(str(error)) from None
    if not features:
        raise UsageError(f"{path}: is an item collection without items; search again")
    scenes = [_scene(feature, path, several) for feature in features]
    ids = Counter(scene.id for scene in scenes)
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        raise UsageError(f"{path}: has {ids[twice[0]]} items called {twice[0]}; leave one of them")
    return scenes


def _scene(feature: Any, path: Path, several: bool) -> BatchScene:
    name = str(feature.get("id") or path.stem) if isinstance(feature, dict) else path.stem
    day = problem = None
    try:
        item = parse_item(feature, str(path), trusted=True)
        day = item.start
        if not item.rasters():
            keys = ", ".join(list(item.assets)[:6]) or "none"
            problem = (
                f"{path}: item {name} has no raster of VV, VH, HH or HV (its assets are: {keys})"
            )
    except SceneError as error:
        problem = f"item {name}: {error}"
    # The names of files are often the same in every item ("vv.tif"); the item's is not.
    return BatchScene(
        files=(f"{path}#{name}" if several else str(path),),
        stem=name,
        parent=path.absolute().parent.name,
        id=name,
        date=None if day is None else f"{day:%Y%m%d}",
        problem=problem,
    )
