"""Recognises the product that a raster belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cwsam_geo.scene.products import (
    alos,
    capella,
    gaofen3,
    iceye,
    nisar,
    polsarpro,
    radarsat,
    sentinel1,
    terrain_corrected,
    umbra,
)
from cwsam_geo.scene.products.product import Calibration, Gain, Product, Recogniser
from cwsam_geo.scene.sentinel1.calibration import SigmaNought, describe_tables

_RECOGNISERS: tuple[Recogniser, ...] = (
    sentinel1.recognise,
    terrain_corrected.recognise,
    alos.recognise,
    radarsat.recognise,
    gaofen3.recognise,
    iceye.recognise,
    capella.recognise,
    umbra.recognise,
    nisar.recognise,
    polsarpro.recognise,
)


def recognise(dataset: Any, path: str) -> Product | None:
    """What the product of an open raster says of it; None if no known product has such a raster.

    Args:
        dataset: An open rasterio dataset.
        path: Its path, URL or GDAL name.

    Raises:
        SceneError: The product's metadata are damaged. The message names the file.
    """
    answers = (ask(dataset, path) for ask in _RECOGNISERS)
    return next((product for product in answers if product is not None), None)


def describe(names: Sequence[str | None], calibrations: Sequence[Calibration]) -> str:
    """The meaning of the values of calibrated bands, in words."""
    tables = [c for c in calibrations if isinstance(c, SigmaNought)]
    if len(tables) == len(calibrations):
        return describe_tables(names, tables)
    words = (c.words if isinstance(c, Gain) else describe_tables(names, tables)
             for c in calibrations)  # fmt: skip
    return "; ".join(dict.fromkeys(words))
