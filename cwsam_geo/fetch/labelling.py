"""The labels of all places, and the region file that goes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cwsam_geo.atomic import atomic_output
from cwsam_geo.errors import UsageError
from cwsam_geo.fetch.catalogue import Source
from cwsam_geo.fetch.labels import (
    LabelFinder,
    LabelSource,
    is_labels,
    label_counts,
    legend_of,
    write_labels,
)
from cwsam_geo.fetch.options import FetchOptions
from cwsam_geo.fetch.plan import Plan
from cwsam_geo.fetch.region_text import REGION_FILE, LabelledPlace, region_text
from cwsam_geo.fetch.scene_file import attribution
from cwsam_geo.fetch.search import Say
from cwsam_geo.io.web import Patience

_LABELS = "labels.tif"

_YEAR = 2021
"""Year of the labels if the scenes have no date: that of the last WorldCover map."""


@dataclass(frozen=True)
class Labelling:
    """Finds and writes the labels of a plan.

    Attributes:
        folder: The output folder.
        options: The options of the run; ``labels`` says which map.
        source: The catalogue of the scenes.
        patience: How often a server is asked again.
        say: Called with a sentence for the user.
        on_pixels: Called with the number of pixels that are done since the last call.
    """

    folder: Path
    options: FetchOptions
    source: Source
    patience: Patience
    say: Say
    on_pixels: Callable[[int], None]

    def find(self, plan: Plan) -> dict[str, LabelSource]:
        """The labels of each place, by its name; empty if none are asked for.

        Raises:
            UsageError: A place has no labels.
            SceneError: The catalogue fails.
        """
        if self.options.labels is None:
            return {}
        first = min(_years(plan), default="")
        year = int(first) if first.isdigit() else _YEAR
        finder = LabelFinder(self.options.labels, self.source, year, self.patience)
        return {planned.place.name: finder.find(planned.place) for planned in plan.places}

    def check(self, plan: Plan, sources: Mapping[str, LabelSource]) -> None:
        """Refuses to replace labels of another map, before anything is read.

        Raises:
            UsageError: There are such labels, and they may not be replaced.
        """
        if self.options.overwrite:
            return
        for planned in plan.places:
            path = self.folder / planned.place.file_name(_LABELS)
            source = sources.get(planned.place.name)
            if source and path.exists() and not is_labels(path, planned.grid, source):
                raise UsageError(
                    f"{path}: exists already, and is not what --labels {source.name} makes; remove "
                    f"it and {REGION_FILE}, or choose another folder"
                )

    def write(
        self, plan: Plan, scenes: Mapping[str, Sequence[Path]], sources: Mapping[str, LabelSource]
    ) -> tuple[tuple[Path, ...], Path | None]:
        """Writes the labels of each place that has scenes, and the region file.

        Args:
            scenes: The scenes of each place, by its name.
            sources: The labels of each place, by its name.

        Returns:
            The rasters of labels and the region file; nothing if there are no labels.

        Raises:
            LegendError: The labels hold unknown codes, or fewer than two classes.
            SceneError: A server fails again and again.
            OutputError: A file cannot be written.
        """
        if not sources:
            return (), None
        places, paths, legend = [], [], None
        source = next(iter(sources.values()))
        for planned in plan.places:
            name = planned.place.name
            if not scenes[name]:
                continue
            source = sources[name]
            path = self.folder / planned.place.file_name(_LABELS)
            if not self.options.overwrite and is_labels(path, planned.grid, source):
                counts = label_counts(path, planned.grid)
                self.on_pixels(planned.grid.height * planned.grid.width)
            else:
                counts = write_labels(
                    path, planned.grid, source, self.patience, self.on_pixels, self._warn
                )
            legend = legend or legend_of(source, counts)
            paths.append(path)
            names = tuple(scene.name for scene in scenes[name])
            places.append(LabelledPlace(name, names, path.name, counts))
        region = self.folder / REGION_FILE
        if legend is None:
            return (), None
        if region.exists() and not self.options.overwrite:
            self.say(f"{region}: is kept as it is; --overwrite makes it anew", "decision")
            return tuple(paths), region
        text = region_text(places, source, legend, self._licences(plan, source), self.options.bands)
        with atomic_output(region, self.options.overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return tuple(paths), region

    def _warn(self, text: str) -> None:
        self.say(text, "warning")

    def _licences(self, plan: Plan, labels: LabelSource) -> list[str]:
        return [
            f"Scenes: {self.source.collection} of {self.source.url}, "
            f"licence: {plan.licence or 'not stated'}; {attribution(_years(plan))}.",
            f"Labels: {labels.attribution}; licence: {labels.licence or 'not stated'}.",
        ]


def _years(plan: Plan) -> list[str]:
    """The years of the scenes that have a date, one for each scene."""
    starts = [made.acquisition.start for place in plan.places for made in place.passes]
    return [start[:4] for start in starts if start]
