"""Searches a catalogue for the scenes of all places, and decides which are fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cwsam_geo.core.counting import how_many
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.errors import UsageError
from cwsam_geo.fetch.catalogue import Catalogue, Source, licence_of
from cwsam_geo.fetch.options import FetchOptions
from cwsam_geo.fetch.passes import Pass, passes_over
from cwsam_geo.fetch.places import Place
from cwsam_geo.fetch.plan import Plan, PlannedPlace
from cwsam_geo.io.web import Patience

Say = Callable[[str, str], None]
"""Called with a sentence for the user, and ``decision`` or ``warning``."""


def search(
    source: Source,
    places: Sequence[tuple[Place, SceneGrid]],
    options: FetchOptions,
    patience: Patience,
    say: Say,
) -> Plan:
    """Searches the scenes of all places.

    Args:
        source: The catalogue, with the collection to search.
        places: The places with their grids.
        options: Dates, bands, orbit and the number of scenes.

    Returns:
        The plan, without the places that have no scene.

    Raises:
        UsageError: No place has a scene.
        SceneError: The catalogue fails.
    """
    catalogue = Catalogue(source.url, patience)
    collection = str(source.collection)
    licence = licence_of(catalogue.collection(collection))
    planned = []
    for place, grid in places:
        items = catalogue.search(collection, place.boxes, options.date)
        passes, remarks = passes_over(place, grid.crs, items, options.bands, options.orbit)
        for text in remarks:
            say(text, "warning")
        if not passes:
            text = _nothing(place, collection, len(items), options)
            if len(places) == 1:
                raise UsageError(text)
            say(text, "warning")
            continue
        chosen = _chosen(passes, options.max_scenes)
        if len(chosen) < len(passes):
            say(
                f"{place.label}: {len(chosen)} of {len(passes)} passes are taken, those that cover "
                "most of it, spread over the dates (--max-scenes)",
                "decision",
            )
        planned.append(PlannedPlace(place, grid, tuple(chosen)))
    if not planned:
        raise UsageError(f"no place has a scene from {options.date}; choose other dates (--date)")
    return Plan(tuple(planned), licence)


def _chosen(passes: Sequence[Pass], most: int | None) -> list[Pass]:
    """At most so many passes: the best, or some of the best that are spread over the dates."""
    if most is None or len(passes) <= most:
        return list(passes)
    cover = round(100 * passes[0].cover)
    best = [made for made in passes if round(100 * made.cover) == cover]
    if len(best) <= most:
        return list(passes[:most])
    steps = max(most - 1, 1)
    return [best[round(i * (len(best) - 1) / steps)] for i in range(most)]


def _nothing(place: Place, collection: str, items: int, options: FetchOptions) -> str:
    """Why a place has no scene, and what to do."""
    orbit = f" in {options.orbit} orbits" if options.orbit else ""
    why = (
        f"no scene with {' and '.join(options.bands)}{orbit} that covers at least 1 % of it, among "
        f"{how_many(items, 'item')}"
        if items
        else f"no scene of {collection}"
    )
    advice = "choose other dates (--date)" + (", or leave --orbit out" if orbit else "")
    return f"{place.label}: {why} from {options.date}; {advice}"
