"""Draws a map, a scene or both: ``preview``, the function behind ``cwsam-geo preview``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cwsam_geo.atomic import atomic_output, check_apart, check_output
from cwsam_geo.core.grid import Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.class_names import class_names
from cwsam_geo.io.geolocation import crs_name, locate, pixel_window, transformed
from cwsam_geo.io.raster_file import display_name, grid_of, open_dataset, reading
from cwsam_geo.io.vector_file import VectorLayer, read_area, read_features
from cwsam_geo.pictures.agreement import agreement_panel, read_labels, reference_panel
from cwsam_geo.pictures.options import PathLike, PreviewOptions
from cwsam_geo.pictures.page import Page, panel_size
from cwsam_geo.pictures.panels import (
    NOTHING,
    Contents,
    Key,
    Outlines,
    Panel,
    Picture,
    faded,
    keys_of,
    opaque,
)
from cwsam_geo.rendering.class_view import ClassView, paint, view_classes
from cwsam_geo.rendering.coarse import coarse_shape
from cwsam_geo.rendering.frame import Frame, frame_of
from cwsam_geo.rendering.scene_view import SceneView, view_scene
from cwsam_geo.rendering.stretch import Stretch, fit_stretch
from cwsam_geo.scene.source import RasterSource, open_source

KINDS = (".png", ".pdf", ".svg")
"""Suffixes of pictures."""

_WHOLE = 1 << 40
"""More pixels than any raster has: a frame of this size has the raster's own resolution."""

_PROBE = 256
"""Pixels a side that tell a class raster without names from a scene of whole numbers."""

_FEW = 20
"""Different whole numbers up to which a raster holds classes; no scene has so few."""

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Preview:
    """A picture that ``preview`` has drawn. Notebooks show it.

    Attributes:
        path: Where it was written; None if only in memory.
        panels: What its panels show.
        metres_per_pixel: Size of a pixel of the panels on the ground; None if unknown.
        notes: The small print below the picture.
        page: The drawn page.
    """

    path: Path | None
    panels: tuple[str, ...]
    metres_per_pixel: float | None
    notes: tuple[str, ...]
    page: Page = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.page.png()


def preview(
    path: PathLike | Sequence[PathLike],
    output: PathLike | None = None,
    options: PreviewOptions | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Preview:
    """Draws a map or scene with legend, scale bar, north arrow and coordinates.

    Only overviews or a sample of the pixels are read, so large rasters take seconds and little
    memory. Rotated rasters and those with control points are turned upright.

    Args:
        path: A map (class raster of any program), or a scene: one raster, or several single-band
            rasters.
        output: ``*.png``, ``*.pdf`` or ``*.svg``; None to keep the picture in memory.
        options: What is shown, and how; None for the defaults.
        on_event: Called with mappings whose ``event`` is ``decision``, ``warning`` or ``done``.

    Raises:
        CwsamGeoError: A file or an option is at fault; one line says what is wrong and what to do.
    """
    options = options or PreviewOptions()
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    target = None if output is None else _check_paths(paths, Path(output), options)
    compared = options.scene is not None or options.reference is not None
    is_map = len(paths) == 1 and (compared or _is_map(paths[0]))
    if len(paths) > 1 and not compared and _is_map(paths[0]):
        scenes = " ".join(f"--scene {display_name(p)}" for p in paths[1:])
        raise UsageError(f"{display_name(paths[0])}: is a map; give its scene with {scenes}")
    if not is_map:
        if compared:
            raise UsageError(f"give one map with --scene or --reference, not {len(paths)} rasters")
        options = replace(options, scene=paths)
    job = _Job(paths[0] if is_map else None, options)
    contents = job.contents()
    for text in job.remarks:
        on_event({"event": "decision", "text": text})
    page = Page(job.frame, contents, options.size, options.coordinates, options.title)
    if target is not None:
        with atomic_output(target, options.overwrite) as temporary:
            page.save(temporary, target.suffix[1:].lower())
    drawn = Preview(
        target,
        tuple(panel.title for panel in contents.panels),
        job.frame.metres_per_pixel,
        contents.notes,
        page,
    )
    on_event(
        {
            "event": "done",
            "output": None if target is None else str(target),
            "panels": list(drawn.panels),
            "metres_per_pixel": drawn.metres_per_pixel,
        }
    )
    return drawn


def _check_paths(paths: Sequence[PathLike], output: Path, options: PreviewOptions) -> Path:
    if output.suffix.lower() not in KINDS:
        raise UsageError(f"{output}: pictures are written as {', '.join(KINDS)}; name it *.png")
    check_output(output, options.overwrite)
    inputs: dict[PathLike, str] = dict.fromkeys(paths, "an input")
    inputs |= dict.fromkeys(_listed(options.scene), "the scene")
    inputs |= {p: "an input" for p in (options.vectors, options.reference) if p is not None}
    check_apart([output], inputs)
    return output


def _listed(scene: PathLike | Sequence[PathLike] | None) -> list[PathLike]:
    if scene is None:
        return []
    return [scene] if isinstance(scene, (str, os.PathLike)) else list(scene)


def _is_map(path: PathLike) -> bool:
    """Whether a raster holds classes: numbers with names or a palette, or few whole numbers."""
    try:
        dataset = open_dataset(path)
    except SceneError:
        return False  # a product of several files; if it is none, reading the scene tells why
    with contextlib.closing(dataset):
        if class_names(dataset, 1, display_name(path)).origin is not None:
            return True
        if all((text or "").endswith(" (%)") for text in dataset.descriptions):
            return True  # confidence or probabilities: reading them as a map tells what to give
        if dataset.count > 1 or np.dtype(dataset.dtypes[0]).kind not in "iu":
            return False
        shape = coarse_shape(dataset.height, dataset.width, _PROBE)
        with reading(path, grid_of(dataset).window):
            values = dataset.read(1, out_shape=shape)
        # A scene without data has one value.
        return 1 < len(np.unique(values)) <= _FEW


class _Job:
    """Reads everything onto one frame.

    Args:
        map_path: The map, or None for a scene alone.
        options: What is shown.
    """

    def __init__(self, map_path: PathLike | None, options: PreviewOptions) -> None:
        self._map, self._options = map_path, options
        self.remarks: list[str] = []
        if map_path is not None:
            with contextlib.closing(open_dataset(map_path)) as dataset:
                grid, label = grid_of(dataset), display_name(map_path)
        else:
            with self._source() as source:
                grid, label = source.grid, source.label
        # The frame's shape decides the layout, and the layout the size of the frame.
        whole = frame_of(grid, label, _WHOLE).grid
        pixels = panel_size(whole.height / whole.width, self._count(), options.size)
        self.frame: Frame = frame_of(grid, label, pixels)
        self._size = pixels
        crs = grid.crs or grid.gcp_crs
        self._crs = crs_name(crs) if crs else "Without a CRS"

    def _count(self) -> int:
        options = self._options
        blended = options.layout == "blend" and options.scene is not None and self._map is not None
        count = (self._map is not None) + (options.scene is not None) - blended
        extra = 2 * (options.reference is not None)
        return int(count + extra + (options.vectors is not None and not blended))

    def _source(self) -> Any:
        how = self._options.reading
        scenes = _listed(self._options.scene)
        return open_source(scenes, how.bidx, how.nodata, how.scale, how.offset)

    def contents(self) -> Contents:
        """The panels and their legend.

        Raises:
            CwsamGeoError: An input cannot be read, or does not fit the others.
        """
        options = self._options
        scene = None if options.scene is None else self._scene()
        classes = None if self._map is None else self._classes(self._map)
        notes = [] if scene is None else [_scene_note(*scene[1:])]
        panels: list[Panel] = []
        keys: list[Key] = [] if classes is None else list(keys_of(classes.entries))
        picture = None if classes is None else paint(classes.codes, classes.valid, classes.entries)
        outlines = None if options.vectors is None else self._outlines(classes)
        if options.layout == "blend" and scene is not None and picture is not None:
            over = faded(picture, options.opacity)
            panels.append(Panel("Scene and map", (scene[0], over), _unfilled(outlines)))
        else:
            if scene is not None:
                panels.append(Panel("Scene", (scene[0],)))
            if picture is not None:
                panels.append(Panel("Map", (picture,)))
            if outlines is not None:
                base = scene[0] if scene is not None else picture
                assert base is not None
                shown = outlines if scene is not None else _unfilled(outlines)
                panels.append(Panel("Polygons", (base,), shown))
        if options.reference is not None:
            assert classes is not None
            labels = read_labels(
                options.reference,
                self.frame.location,
                classes.codes,
                classes.valid,
                classes.entries,
                options.comparing,
            )
            agreement, more = agreement_panel(labels)
            panels += [reference_panel(labels), agreement]
            keys += more
        lowest = [panel.layers[0] for panel in panels]
        if any((layer[..., 3] == 0).any() for layer in lowest):
            keys.append(Key("no data", NOTHING))
        metres = self.frame.metres_per_pixel
        size = "" if metres is None else f", a pixel of this picture is {metres:.3g} m"
        notes.append(f"{self._crs}{size}.")
        return Contents(tuple(panels), tuple(keys), (" ".join(notes),))

    def _scene(self) -> tuple[Picture, SceneView, Stretch]:
        how = self._options.reading
        with self._source() as source:
            part = None if self._map is None else self._part(source)
            view = view_scene(source, self._size, how.units, part)
        self.remarks += view.remarks
        color = how.color if how.color is not None else self._map is None
        stretch = fit_stretch(view, color)
        picture = opaque(stretch.apply(view.values, view.valid), view.valid)
        return self._laid(picture, view.grid, view.label), view, stretch

    def _part(self, source: RasterSource) -> Window | None:
        """The part of the scene that the map shows; None for most of it.

        Raises:
            UsageError: The scene cannot be placed on the map, or lies elsewhere.
        """
        own, frame = locate(source.grid, source.label), self.frame.location
        frame.check_crs(own.crs, source.label)
        cols, rows = own.to_pixels(*transformed(*frame.outline(), frame.crs, own.crs))
        bounds = cols.min() - 2, rows.min() - 2, cols.max() + 2, rows.max() + 2
        part = pixel_window(bounds, source.grid)
        if part.empty:
            raise UsageError(f"{source.label}: lies outside {frame.label}; give the map's scene")
        # Overviews, which only the whole scene can use, are worth more than half of the pixels.
        few = 2 * part.height * part.width < source.grid.height * source.grid.width
        return part if few else None

    def _classes(self, path: PathLike) -> ClassView:
        if self._options.reference is not None:
            # Both are read at the same places of the ground, at full resolution.
            return view_classes(path, onto=self.frame.grid)
        view = view_classes(path, size=self._size)
        codes, inside = self.frame.lay(view.codes, view.grid, view.label)
        valid, _ = self.frame.lay(view.valid, view.grid, view.label)
        return replace(view, grid=self.frame.grid, codes=codes, valid=valid & inside)

    def _laid(self, picture: Picture, grid: Any, label: str) -> Picture:
        laid, _ = self.frame.lay(np.moveaxis(picture, 2, 0), grid, label)
        return np.ascontiguousarray(np.moveaxis(laid, 0, 2))

    def _outlines(self, classes: ClassView | None) -> Outlines:
        path = self._options.vectors
        assert path is not None
        layer = self._options.comparing.layer
        wanted = VectorLayer(column=layer.column or "class_id", layer=layer.layer)
        try:
            features = read_features(path, self.frame.location, wanted)
        except UsageError:
            if layer.column is not None:
                raise
            # Other polygons, such as an area of interest, have outlines only.
            return Outlines(read_area(path, self.frame.location), None, 0.0)
        if features.points:
            raise UsageError(f"{path}: holds points; give polygons")
        named: dict[int | str, str] = {}
        for entry in () if classes is None else classes.entries:
            named |= {entry.code: entry.color, entry.name: entry.color}
        plain = [named.get(name) for name in features.names]
        if any(color is None for color in plain):
            return Outlines(features.shapes, None, 0.0)
        colors = tuple(str(plain[i]) for i in features.values.tolist())
        return Outlines(features.shapes, colors, self._options.opacity)


def _unfilled(outlines: Outlines | None) -> Outlines | None:
    return None if outlines is None else replace(outlines, colors=None)


def _scene_note(view: SceneView, stretch: Stretch) -> str:
    return f"Scene: {'; '.join(stretch.describe())}."
