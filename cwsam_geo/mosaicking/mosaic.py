"""Puts neighbouring maps together: ``mosaic``, the function behind ``cwsam-geo mosaic``."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from cwsam_geo._version import __version__
from cwsam_geo.atomic import check_apart, check_output
from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import NODATA
from cwsam_geo.core.windows import windows_over
from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.io.geolocation import Geolocation, locate
from cwsam_geo.io.qml import check_qml, write_qml
from cwsam_geo.io.raster_sink import BLOCK, RasterLayout, check_raster_output, raster_sink
from cwsam_geo.mosaicking.blend import BlockBlend, MosaicSummary, Overlaps
from cwsam_geo.mosaicking.layers import (
    Layer,
    OpenRasters,
    common_tags,
    read_layers,
    with_confidence,
)
from cwsam_geo.mosaicking.mosaic_grid import aligned_grid, chosen_grid, grid_like
from cwsam_geo.mosaicking.options import MosaicOptions
from cwsam_geo.mosaicking.vrt import write_vrt

Event = Mapping[str, Any]

MOSAIC_TAG = "CWSAM_GEO_MOSAIC"
"""Tag of a mosaic: a JSON object with the names of the maps and whose class counts."""


def mosaic(
    maps: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: MosaicOptions | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> MosaicSummary:
    """Puts neighbouring maps together to one raster, block by block.

    Maps whose pixels coincide are copied without a change. If they do not coincide, or lie in
    different CRSs, the options choose a grid, to which the maps are resampled by nearest neighbour.
    The maps must have one legend, which the mosaic keeps.

    Args:
        maps: Class rasters, such as those of ``predict_scene``. Where they overlap, the first one
            counts, or the one with the higher confidence.
        output: ``*.tif``, or ``*.vrt``: a small file that refers to maps whose pixels coincide.
        options: How the maps are put together; None for the defaults.
        on_event: Called with mappings whose ``event`` is ``decision``, ``start``, ``progress`` or
            ``done``.

    Returns:
        Size of the mosaic, pixels of each class, and how far the maps agree where they overlap.

    Raises:
        CwsamGeoError: The maps do not belong together, or a file cannot be read or written.
    """
    options = options or MosaicOptions()
    target = _check_paths(maps, Path(output), options)
    started = time.perf_counter()
    layers = read_layers(maps)
    if options.confidence:
        layers = with_confidence(layers, options.confidence)
    placed = _place(layers, options)
    legend = layers[0].legend if options.qml else None
    if legend is not None:
        kept = check_qml(target, legend, options.overwrite)
        if kept is not None:
            on_event({"event": "decision", "text": kept})
    on_event(_start_event(placed))
    tags = _tags(placed, target)
    if target.suffix.lower() == ".vrt":
        write_vrt(target, placed.grid, list(zip(layers, placed.windows, strict=True)), tags,
                  options.overwrite)  # fmt: skip
        summary = MosaicSummary(len(layers), placed.grid.height, placed.grid.width)
    else:
        summary = _write(placed, target, tags, options, on_event)
    if legend is not None:
        write_qml(target, legend, options.overwrite)
    summary.seconds = time.perf_counter() - started
    on_event(_done_event(target, placed, summary))
    return summary


def check_mosaic_output(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Checks that a mosaic can be written.

    Raises:
        UsageError: The suffix is neither that of a GeoTIFF nor ``.vrt``; or see ``check_output``.
        OutputError: See ``check_output``.
    """
    if Path(path).suffix.lower() == ".vrt":
        return check_output(path, overwrite)
    return check_raster_output(path, overwrite)


@dataclass(frozen=True)
class _Placed:
    """Maps on the grid of their mosaic.

    Attributes:
        windows: The window of each map if their pixels coincide; else empty.
        onto: The grid to which they are resampled if the pixels do not coincide; else None.
    """

    layers: Sequence[Layer]
    grid: SceneGrid
    windows: Sequence[Window]
    onto: Geolocation | None


def _check_paths(
    maps: Sequence[str | os.PathLike[str]], output: Path, options: MosaicOptions
) -> Path:
    if not maps:
        raise UsageError("no maps given; give the class rasters to put together")
    check_mosaic_output(output, options.overwrite)
    refused = options.confidence or options.crs or options.like or options.creation_options
    if output.suffix.lower() == ".vrt" and refused:
        raise UsageError(
            f"{output}: a VRT only refers to the maps, so it can neither compare confidence nor "
            "resample; write a *.tif, or leave out these options"
        )
    targets = [output]
    if options.confidence_output is not None:
        targets.append(check_raster_output(options.confidence_output, options.overwrite))
    inputs: dict[str | os.PathLike[str], str] = dict.fromkeys(options.confidence, "an input")
    inputs |= dict.fromkeys(maps, "one of the maps")
    check_apart(targets, inputs)
    return output


def _place(layers: Sequence[Layer], options: MosaicOptions) -> _Placed:
    if options.like is None and options.crs is None:
        grid, windows = aligned_grid(layers)
        return _Placed(layers, grid, windows, None)
    if options.like is not None:
        grid = grid_like(options.like)
    else:
        assert options.crs is not None
        grid = chosen_grid(layers, options.crs, options.resolution)
    return _Placed(layers, grid, (), locate(grid, "the mosaic"))


def _write(
    placed: _Placed,
    target: Path,
    tags: Mapping[str, str],
    options: MosaicOptions,
    on_event: Callable[[Event], None],
) -> MosaicSummary:
    def layout(description: str, overviews: str, **more: Any) -> RasterLayout:
        return RasterLayout(
            format=options.format,
            overviews=overviews,
            options=options.creation_options,
            descriptions=(description,),
            tags=tags,
            **more,
        )

    grid, counts, overlaps = placed.grid, np.zeros(256, np.int64), Overlaps()
    with contextlib.ExitStack() as stack:
        # Closed in reverse order, so that the classes are renamed into place last.
        legend = placed.layers[0].legend
        classes = stack.enter_context(
            raster_sink(target, grid, layout("class", "MODE", legend=legend), options.overwrite)
        )
        confidence = None
        if options.confidence_output is not None:
            confidence = stack.enter_context(
                raster_sink(
                    options.confidence_output,
                    grid,
                    layout("confidence (%)", "AVERAGE"),
                    options.overwrite,
                )
            )
        done = 0
        for window, block in _blocks(placed):
            block.count(overlaps)
            counts += np.bincount(block.codes.ravel(), minlength=256)
            classes.write(window, block.codes)
            if confidence is not None:
                confidence.write(window, block.percent)
            done += window.height * window.width
            on_event({"event": "progress", "pixels": done, "total": grid.height * grid.width})
    return MosaicSummary(
        len(placed.layers),
        grid.height,
        grid.width,
        {code: int(n) for code, n in enumerate(counts) if n},
        overlaps,
        0 if placed.onto is None else len(placed.layers),
    )


def _blocks(placed: _Placed) -> Iterator[tuple[Window, BlockBlend]]:
    """The blocks of a mosaic, each with all maps that reach it."""
    with OpenRasters(placed.onto) as rasters:
        windows = placed.windows or [rasters.get(layer.path).window for layer in placed.layers]
        for window in windows_over(placed.grid.window, (BLOCK, BLOCK)):
            block = BlockBlend(window.height, window.width)
            for layer, covered in zip(placed.layers, windows, strict=True):
                part = window.intersect(covered)
                if not part.empty:
                    own = part if placed.onto is not None else part.within(covered)
                    _add(block, rasters, layer, own, part.within(window))
            yield window, block


def _add(block: BlockBlend, rasters: OpenRasters, layer: Layer, own: Window, where: Window) -> None:
    codes, valid = rasters.get(layer.path).read(own)
    if codes.max(where=valid, initial=0) >= NODATA or codes.min(where=valid, initial=0) < 0:
        raise LegendError(
            f"{layer.path}: has class {codes[valid].max()}; the codes of a mosaic are 0 to 254"
        )
    percent = None
    if layer.confidence is not None:
        stored, known = rasters.get(layer.confidence, 1).read(own)
        percent = np.where(known, stored, 0).astype(np.uint8)
    block.add(where.slices, codes.astype(np.uint8), valid, percent)


def _tags(placed: _Placed, target: Path) -> dict[str, str]:
    by = "first" if placed.layers[0].confidence is None else "confidence"
    names = [layer.path.name for layer in placed.layers]
    return {
        **common_tags(placed.layers),
        MOSAIC_TAG: json.dumps({"overlap": by, "maps": names}, ensure_ascii=False),
        "TIFFTAG_SOFTWARE": f"cwsam-geo {__version__}",
        "TIFFTAG_DATETIME": datetime.now(timezone.utc).strftime("%Y:%m:%d %H:%M:%S"),
    }


def _start_event(placed: _Placed) -> Event:
    return {
        "event": "start",
        "maps": len(placed.layers),
        "width": placed.grid.width,
        "height": placed.grid.height,
        "overlap": "first" if placed.layers[0].confidence is None else "confidence",
        "resampled": placed.onto is not None,
    }


def _done_event(target: Path, placed: _Placed, summary: MosaicSummary) -> Event:
    legend = placed.layers[0].legend
    names = {} if legend is None else {int(e.code): e.name for e in legend.entries}
    names.setdefault(NODATA, "nodata")
    overlaps = summary.overlaps
    return {
        "event": "done",
        "output": str(target),
        "pixels": {names.get(code, str(code)): n for code, n in summary.pixels.items()},
        "overlap_pixels": None if overlaps is None else overlaps.pixels,
        "overlap_differing": None if overlaps is None else overlaps.differing,
        "seconds": round(summary.seconds, 3),
    }
