"""The open files of a scene with their selected bands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from affine import Affine

from cwsam_geo.core.grid import SceneGrid, same_grid
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.geolocation import crs_name
from cwsam_geo.io.raster_file import display_name, grid_of
from cwsam_geo.scene.bands import Band, Nodata, alpha_bands, candidate_bands, describe_bands
from cwsam_geo.scene.products.product import Product


@dataclass(frozen=True)
class Part:
    """Bands of one open file that are read together.

    Attributes:
        dataset: The open rasterio dataset.
        path: Path, URL or GDAL name from which the dataset was opened.
        bands: Selected bands, all stored as one type.
        alpha: Numbers of the alpha bands that mark where the bands hold data.
        product: What the product of the file says of it, or None.
    """

    dataset: Any
    path: str
    bands: tuple[Band, ...]
    alpha: tuple[int, ...] = ()
    product: Product | None = None


def selected_parts(
    datasets: Sequence[Any],
    files: Sequence[str],
    products: Sequence[Product | None],
    bidx: Sequence[int] | None,
    nodata: Nodata,
) -> tuple[list[Part], list[int]]:
    """Selects bands of a scene's files and groups them into parts.

    Args:
        datasets: The scene's open files.
        files: Path, URL or GDAL name of each file.
        products: What the product of each file says of it.
        bidx: Numbers of the bands to select, from 1, counted over all files; None for all bands
            that may hold backscatter.
        nodata: The user's nodata option.

    Returns:
        The parts, and the number of each selected band as ``bidx`` counts.

    Raises:
        UsageError: ``bidx`` names a band that does not exist, or a band twice.
    """
    # With one file, -b counts as GDAL does, alpha bands included.
    candidates = [
        (d, f, p, i)
        for d, f, p in zip(datasets, files, products, strict=True)
        for i in (candidate_bands(d, p) if bidx is None or len(files) > 1 else d.indexes)
    ]
    requested = range(1, len(candidates) + 1) if bidx is None else bidx
    wrong = [b for b in requested if not 1 <= b <= len(candidates)]
    if wrong or not requested:
        raise UsageError(
            f"{display_name(files[0])}: no band {wrong[0] if wrong else ''} (-b): "
            f"there are bands 1 to {len(candidates)}"
        )
    if len(set(requested)) != len(list(requested)):
        raise UsageError(f"a band is given twice in -b {','.join(map(str, requested))}")
    selected = [candidates[b - 1] for b in requested]
    parts = [
        Part(
            dataset,
            file,
            with_facts(describe_bands(dataset, file, indexes, nodata), product, nodata),
            alpha_bands(dataset, [i for d, _, _, i in selected if d is dataset], nodata),
            product,
        )
        for dataset, file, product, indexes in _runs(selected)
    ]
    # Without bidx the candidates of a single file lack its alpha bands, but the numbers of the
    # file count them.
    numbers = list(requested) if len(files) > 1 else [candidates[b - 1][3] for b in requested]
    return parts, numbers


_Run = tuple[Any, str, "Product | None", list[int]]


def _runs(selected: Iterable[tuple[Any, str, Product | None, int]]) -> list[_Run]:
    """Groups successive bands of one file and one stored type, which one call can read."""
    runs: list[_Run] = []
    for dataset, file, product, index in selected:
        types = dataset.dtypes
        if runs and runs[-1][0] is dataset and types[runs[-1][3][-1] - 1] == types[index - 1]:
            runs[-1][3].append(index)
        else:
            runs.append((dataset, file, product, [index]))
    return runs


def with_facts(bands: Sequence[Band], product: Product | None, nodata: Nodata) -> tuple[Band, ...]:
    """The bands with what their product says of them.

    Args:
        nodata: The user's nodata option, which counts more than the product.
    """
    if product is None:
        return tuple(bands)

    def changed(band: Band) -> Band:
        facts = product.bands.get(band.index)
        if product.nodata is not None and band.declared is None:
            own = product.nodata if nodata is None else band.nodata
            band = replace(band, declared=product.nodata, nodata=own)
        if facts is None:
            return band
        return replace(
            band,
            name=facts.name or band.name,
            other=facts.other or band.other,
            scale=band.scale * facts.factor,
            quadrature=facts.quadrature,
        )

    return tuple(map(changed, bands))


def stored_type(parts: Sequence[Part]) -> str:
    """NumPy's name of the smallest type that can represent the values of all parts."""
    bands = [(part, band) for part in parts for band in part.bands]
    dtypes = {part.dataset.dtypes[band.index - 1] for part, band in bands}
    if any(band.quadrature is not None for _, band in bands):
        dtypes.add("complex64")
    # NumPy has no complex integers, the type of Sentinel-1 SLC products.
    known_to_numpy = ["complex64" if t.startswith("complex_int") else t for t in dtypes]
    return str(np.result_type(*known_to_numpy))


def rescaled(parts: Sequence[Part], scale: float | None, offset: float | None) -> list[Part]:
    """The parts with the user's scale and offset instead of the files' own.

    Raises:
        UsageError: A scale is 0, or a number is not finite.
    """
    for value, option in ((scale, "scale"), (offset, "offset")):
        if value is not None and (not np.isfinite(value) or (option == "scale" and value == 0)):
            raise UsageError(f"--{option} {value:g}: give a finite number, and no scale of 0")

    def changed(band: Band) -> Band:
        return replace(
            band,
            scale=band.scale if scale is None else scale,
            offset=band.offset if offset is None else offset,
        )

    return [replace(part, bands=tuple(map(changed, part.bands))) for part in parts]


def check_tiles(datasets: Sequence[Any], files: Sequence[str]) -> None:
    """Checks that several open datasets are not tiles of one mosaic.

    Raises:
        SceneError: They have one CRS and pixel size, but lie beside each other.
    """
    if len(datasets) < 2 or not all(_beside(datasets[0], d) for d in datasets[1:]):
        return
    names = [display_name(file) for file in files]
    listed = " ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    raise SceneError(
        f"{names[0]} and {names[1]} lie beside each other: tiles of one scene, not its bands; "
        f"join them first (rio merge {listed} scene.tif, or gdalbuildvrt scene.vrt {listed}) and "
        "give the joined raster"
    )


def _beside(a: Any, b: Any) -> bool:
    """Whether two datasets of one CRS and pixel size have at most half of their area in common."""
    placed = not (a.transform.is_identity or b.transform.is_identity)
    if not placed or a.crs != b.crs or a.transform.is_degenerate:
        return False
    pixels = ~a.transform * b.transform
    if not pixels.almost_equals(Affine.translation(pixels.c, pixels.f), precision=1e-3):
        return False
    wide = min(a.width, pixels.c + b.width) - max(0, pixels.c)
    high = min(a.height, pixels.f + b.height) - max(0, pixels.f)
    shared = max(0, wide) * max(0, high)
    return bool(shared <= 0.5 * min(a.width * a.height, b.width * b.height))


def check_grids(datasets: Sequence[Any], files: Sequence[str]) -> None:
    """Checks that open datasets, and the ``files`` they come from, share one grid.

    Raises:
        SceneError: A file differs from the first in shape, CRS or position. The message names
            the difference.
    """
    first = grid_of(datasets[0])
    for dataset, path in zip(datasets[1:], files[1:], strict=True):
        other = grid_of(dataset)
        if not same_grid(first, other):
            raise SceneError(
                f"{display_name(path)} is not on the grid of {display_name(files[0])} "
                f"({_difference(first, other)}); bring the bands onto one grid first (gdalwarp)"
            )


def _difference(a: SceneGrid, b: SceneGrid) -> str:
    if (a.height, a.width) != (b.height, b.width):
        return f"{b.height} x {b.width} px against {a.height} x {a.width}"
    if (a.crs and a.crs.to_wkt()) != (b.crs and b.crs.to_wkt()) and a.crs != b.crs:
        return f"{crs_name(b.crs)} against {crs_name(a.crs)}"
    if a.transform.is_degenerate or b.transform.is_degenerate:
        return "their transforms differ"
    if a.transform == b.transform:
        return "their control points differ"
    to_pixels = ~a.transform
    corners = [(0, 0), (a.width, 0), (0, a.height), (a.width, a.height)]
    shifts = [
        max(abs(x - c[0]), abs(y - c[1]))
        for c in corners
        for x, y in [to_pixels * (b.transform * c)]
    ]
    return f"shifted by up to {max(shifts):.4g} px"
