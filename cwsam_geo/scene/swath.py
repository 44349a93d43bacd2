"""Where the swath ends in a scene: the pixels without echo that are connected with its edge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.scene.bands import ZeroPower
from cwsam_geo.scene.edge import EdgeArea, edge_area
from cwsam_geo.scene.files import rescaled
from cwsam_geo.scene.sentinel1.border import BorderNoise, border_noise
from cwsam_geo.scene.source import RasterSource


def beyond_swath(
    source: RasterSource, values: tuple[float, ...], noise: BorderNoise | None = None
) -> EdgeArea:
    """The pixels without echo that are connected with the scene's edge.

    Those are pixels of power 0, those that are nodata for another reason, and noise of the
    processor. The function reads the part of the scene that the area reaches, and all of a scene in
    strips.

    Args:
        values: Stored values of power 0, as in ``ZeroPower``.
        noise: The rule that finds noise; None if the scene has none.

    Raises:
        SceneError: The scene cannot be read.
    """
    stored = replace(source, zero=ZeroPower(values), tables=())
    numbers = stored
    if noise is not None:
        plain = rescaled(source.parts, 1.0, 0.0)  # the numbers as stored
        numbers = replace(stored, parts=tuple(plain)).with_bands((noise.band,))

    def without_echo(window: Window) -> NDArray[np.bool_]:
        silent = ~stored.read(window)[1]
        if noise is not None:
            silent |= noise.found(window, lambda near: numbers.examine(near).values[0])
        return silent

    return edge_area(source.grid, without_echo)


def noise_rule(source: RasterSource) -> BorderNoise | None:
    """The rule for noise along the borders, if the scene is a product that may have it."""
    if np.dtype(source.grid.dtype).kind not in "iu":
        return None  # an SLC has none, and floats are processed already
    files = [part.path for part in source.parts for _ in part.bands]
    return border_noise(files, source.names, (source.grid.height, source.grid.width))
