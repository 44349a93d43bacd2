"""Fetches scenes and labels of places: ``fetch_scenes``, the function behind ``fetch``."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cwsam_geo.atomic import check_output, check_room
from cwsam_geo.core.counting import how_many
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.fetch.catalogue import find_source
from cwsam_geo.fetch.composite import write_composite
from cwsam_geo.fetch.labelling import Labelling
from cwsam_geo.fetch.mosaic import PassMosaic
from cwsam_geo.fetch.options import FetchOptions
from cwsam_geo.fetch.passes import Pass, joined
from cwsam_geo.fetch.places import grid_of_place, places_of
from cwsam_geo.fetch.plan import (
    Plan,
    PlannedPlace,
    make_folder,
    read_plan,
    request_of,
    write_plan,
)
from cwsam_geo.fetch.region_text import REGION_FILE
from cwsam_geo.fetch.scene_file import (
    SceneContent,
    attribution,
    is_scene,
    most_bytes,
    write_scene,
)
from cwsam_geo.fetch.search import search
from cwsam_geo.io.web import Patience
from cwsam_geo.scene.acquisition import Acquisition

Event = Mapping[str, Any]

_LARGER = 1.5
"""Ratio of pixel sizes from which on the user is told that pixels are interpolated."""

_DATES = "dates"
"""Folder, inside the output, of the single dates of a composite until it is complete."""


@dataclass(frozen=True)
class FetchResult:
    """Result of ``fetch_scenes``.

    Attributes:
        scenes: The scenes that are complete, those of earlier runs too.
        labels: The rasters of labels.
        region: The region file, or None without labels.
        seconds: Duration of this run.
    """

    scenes: tuple[Path, ...]
    labels: tuple[Path, ...]
    region: Path | None
    seconds: float


def fetch_scenes(
    output: str | os.PathLike[str],
    options: FetchOptions,
    on_event: Callable[[Event], None] = lambda _: None,
    patience: Patience | None = None,
) -> FetchResult:
    """Fetches scenes of places from a STAC catalogue, and labels for them.

    A run that was interrupted is continued by the same call: what is complete is kept.

    Args:
        output: Folder for the files, which is made if necessary.
        options: What is fetched.
        on_event: Called with mappings whose ``event`` is ``decision``, ``warning``, ``scene`` (one
            for each scene that is found), ``start``, ``progress`` or ``done``.
        patience: How often a server that fails is asked again; None for the default.

    Raises:
        UsageError: An option or the area is at fault, or there are no scenes.
        SceneError: A catalogue or a server fails or refuses.
        OutputError: A file cannot be written.
    """
    run = _Run(Path(output), options, on_event, patience or Patience())
    return run.listed() if options.dry_run else run.fetched()


class _Run:
    def __init__(
        self,
        folder: Path,
        options: FetchOptions,
        on_event: Callable[[Event], None],
        patience: Patience,
    ) -> None:
        self.folder, self.options, self.patience = folder, options, patience
        self.emit = on_event
        self.began = time.perf_counter()
        self.places = places_of(options)
        self.source = find_source(options.source, options.collection)
        # Errors in the area come before anything is asked of a server.
        self.wanted = [(place, grid_of_place(place, options)) for place in self.places]
        self.done = self.total = 0
        self._told = False

    def listed(self) -> FetchResult:
        """Lists what there is."""
        plan = search(self.source, self.wanted, self.options, self.patience, self._say)
        self._announce(plan)
        if self.source.problem:
            self._say(f"{self._collection} of {self.source.url} {self.source.problem}", "warning")
        return FetchResult((), (), None, self._seconds())

    def fetched(self) -> FetchResult:
        """Fetches what is not there yet."""
        options = self.options
        request = request_of(options, self.places)
        plan = None if options.overwrite else read_plan(self.folder, request, self.places)
        fresh = plan is None
        if plan is None:
            if self.source.problem:
                raise UsageError(f"{self._collection} of {self.source.url} {self.source.problem}")
            plan = search(self.source, self.wanted, options, self.patience, self._say)
        else:
            self._say("goes on with what an earlier run has found (fetch.json)")
        labelling = Labelling(
            self.folder, options, self.source, self.patience, self._say, self._advance
        )
        # Before the first pixel, because labels may be missing where there are scenes.
        sources = labelling.find(plan)
        make_folder(self.folder)
        if fresh:
            self._check_free(plan)
        labelling.check(plan, sources)
        self._announce(plan)
        todo = [(place, n, made) for place in plan.places for n, made in self._missing(place)]
        self._check_room(plan, todo)
        write_plan(self.folder, request, plan)
        self._tell_stale(plan)
        parts = 1 + bool(sources) + bool(options.composite)
        self.total = sum(p.grid.height * p.grid.width for p, _, _ in todo) + sum(
            (parts - 1) * p.grid.height * p.grid.width for p in plan.places
        )
        self.emit({"event": "start", "scenes": len(todo), "pixels": self.total})
        for place, number, made in todo:
            self._fetch(place, number, made, plan.licence)
        scenes = {place.place.name: self._finished(place, plan.licence) for place in plan.places}
        everything = [path for paths in scenes.values() for path in paths]
        if not everything:
            raise SceneError(
                f"{how_many(len(todo), 'scene')} found, but none with data in the area, although "
                "the footprints meet it; choose other dates"
            )
        labels, region = labelling.write(plan, scenes, sources)
        result = FetchResult(tuple(everything), labels, region, self._seconds())
        self.emit(
            {
                "event": "done",
                "scenes": [str(p) for p in result.scenes],
                "labels": [str(p) for p in labels],
                "region": str(region) if region else None,
                "seconds": result.seconds,
            }
        )
        return result

    @property
    def _collection(self) -> str:
        return str(self.source.collection)

    def _say(self, text: str, kind: str = "decision") -> None:
        self.emit({"event": kind, "text": text})

    def _warn(self, text: str) -> None:
        self._say(text, "warning")

    def _seconds(self) -> float:
        return round(time.perf_counter() - self.began, 3)

    def _advance(self, pixels: int) -> None:
        self.done += pixels
        self.emit({"event": "progress", "pixels": self.done, "total": self.total})

    def _announce(self, plan: Plan) -> None:
        """Lists the scenes, and what they will take."""
        for planned in plan.places:
            grid = planned.grid
            for number, made in enumerate(planned.passes, 1):
                scene = made.acquisition
                name = planned.scene_name(number)
                self.emit(
                    {
                        "event": "scene",
                        "file": name if self.options.composite is None else None,
                        "place": planned.place.name or None,
                        "date": scene.start,
                        "platform": scene.platform,
                        "orbit": scene.orbit,
                        "relative_orbit": scene.relative_orbit,
                        "cover": round(made.cover, 4),
                        "items": list(made.items),
                        "width": grid.width,
                        "height": grid.height,
                        "bytes": most_bytes(grid),
                    }
                )
        scenes = sum(len(p.passes) for p in plan.places)
        size = sum(most_bytes(p.grid) * len(p.passes) for p in plan.places)
        pixels = sum(p.grid.height * p.grid.width * len(p.passes) for p in plan.places)
        orbits = {p.acquisition.relative_orbit for place in plan.places for p in place.passes}
        self._say(
            f"{how_many(scenes, 'scene')}, {pixels / 1e6:,.1f} Mpx, up to {_size(size)} on the disk"
            + (", two times until the composite is complete" if self.options.composite else "")
        )
        if self.options.composite and len(orbits) > 1:
            self._warn(
                f"the composite mixes {len(orbits)} tracks, which see slopes from different sides; "
                "--orbit takes one direction"
            )

    def _date_path(self, planned: PlannedPlace, number: int) -> Path:
        """Where one pass is written: a scene, or a date of a composite."""
        folder = self.folder / _DATES if self.options.composite else self.folder
        return folder / planned.scene_name(number)

    def _missing(self, planned: PlannedPlace) -> Iterator[tuple[int, Pass]]:
        """The passes of a place that are not on the disk yet, with their numbers."""
        if self.options.composite and self._has_composite(planned):
            return
        for number, made in enumerate(planned.passes, 1):
            path = self._date_path(planned, number)
            if self.options.overwrite or not is_scene(path, planned.grid, made.acquisition.items):
                yield number, made

    def _has_composite(self, planned: PlannedPlace) -> bool:
        path = self.folder / planned.scene_name(1)
        items = joined(planned.passes).items
        return not self.options.overwrite and is_scene(path, planned.grid, items, some=True)

    def _check_free(self, plan: Plan) -> None:
        """Refuses to replace files that no earlier fetch has written, before anything is read."""
        for planned in plan.places:
            last = 1 if self.options.composite else len(planned.passes)
            for number in range(1, last + 1):
                check_output(self.folder / planned.scene_name(number), self.options.overwrite)
        if self.options.labels is not None:
            for planned in plan.places:
                path = self.folder / planned.place.file_name("labels.tif")
                check_output(path, self.options.overwrite)
            check_output(self.folder / REGION_FILE, self.options.overwrite)

    def _tell_stale(self, plan: Plan) -> None:
        """Warns of scenes of an earlier fetch that are not part of this one."""
        names = {
            planned.scene_name(number)
            for planned in plan.places
            for number in range(1, len(planned.passes) + 1)
        }
        there = {path.name for path in self.folder.glob("*scene_[0-9]*.tif")}
        if there - names:
            listed = ", ".join(sorted(there - names)[:4])
            self._warn(f"{self.folder}: {listed} are of an earlier fetch, not of this one")

    def _check_room(self, plan: Plan, todo: Sequence[tuple[PlannedPlace, int, Pass]]) -> None:
        needed = sum(most_bytes(planned.grid) for planned, _, _ in todo)
        if self.options.composite:
            needed += sum(most_bytes(planned.grid) for planned in plan.places)
        check_room(self.folder / "scene_1.tif", needed)

    def _content(
        self, acquisition: Acquisition, units: str | None, licence: str | None, kind: str
    ) -> SceneContent:
        acquisition = replace(
            acquisition,
            licence=acquisition.licence or licence,
            source=self.source.url,
        )
        return SceneContent(
            bands=tuple(self.options.bands),
            acquisition=acquisition,
            units=units,
            attribution=attribution(
                (time or "")[:4] for time in (acquisition.start, acquisition.end)
            ),
            kind=kind,
        )

    def _fetch(self, planned: PlannedPlace, number: int, made: Pass, licence: str | None) -> None:
        path = self._date_path(planned, number)
        path.parent.mkdir(exist_ok=True)
        kind = f"one pass: {how_many(len(made.items), 'item')} laid onto one grid"
        content = self._content(made.acquisition, made.units, licence, kind)
        with PassMosaic(made, planned.grid, self.patience, self._warn) as mosaic:
            self._tell_pixels(mosaic.pixel_size(), planned.grid)
            valid = write_scene(path, planned.grid, content, mosaic.read, self._advance)
        if not valid:
            self._warn(
                f"{made.acquisition.words}: has no data in the area, although its footprint meets "
                "it; it is left out"
            )

    def _tell_pixels(self, own: float | None, grid: SceneGrid) -> None:
        """Says once that the pixels of the catalogue are larger than those of the scenes."""
        size = abs(grid.transform.a)
        if own is not None and own > _LARGER * size and not self._told:
            self._told = True
            self._say(
                f"the catalogue's pixels are of {own:g} m, and are interpolated to {size:g} m "
                f"(--res {own:g} keeps them)"
            )

    def _finished(self, planned: PlannedPlace, licence: str | None) -> list[Path]:
        """The complete scenes of a place, after making the composite if one is asked for."""
        whole = [
            (path, made)
            for number, made in enumerate(planned.passes, 1)
            if is_scene(
                path := self._date_path(planned, number), planned.grid, made.acquisition.items
            )
        ]
        paths = [path for path, _ in whole]
        if self.options.composite is None:
            return paths
        target = self.folder / planned.scene_name(1)
        if not self._has_composite(planned):
            if not paths:
                return []
            self._compose(planned.grid, whole, target, licence)
        # The single dates have done their work.
        for path in paths:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self.folder / _DATES).rmdir()
        return [target]

    def _compose(
        self,
        grid: SceneGrid,
        whole: Sequence[tuple[Path, Pass]],
        target: Path,
        licence: str | None,
    ) -> None:
        units = {made.units for _, made in whole}
        content = self._content(
            joined([made for _, made in whole]),
            units.pop() if len(units) == 1 else None,
            licence,
            f"median of {how_many(len(whole), 'date')}",
        )
        paths = [path for path, _ in whole]
        speckle = write_composite(target, grid, content, paths, self._advance)
        if speckle is not None and content.units == "power":
            one, several = speckle.looks
            self._say(
                f"speckle: its deviation is {100 * speckle.one:.0f} % of the mean in one date and "
                f"{100 * speckle.several:.0f} % in the median of {len(paths)} ({one:.1f} and "
                f"{several:.1f} looks, in the flattest squares of 7 x 7 px)"
            )


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"
