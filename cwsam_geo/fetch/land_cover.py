"""Global land-cover maps: their classes, and what these mean for a model of radar scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cwsam_geo.core.legend import Legend, LegendEntry

Meaning = str | tuple[str, ...]
"""A class of the region, several of which it is one, or ``ignore``."""

CLASSES = (
    LegendEntry(1, "water", (65, 155, 223)),
    LegendEntry(2, "trees", (57, 125, 73)),
    LegendEntry(3, "low vegetation", (227, 195, 103)),
    LegendEntry(4, "built-up", (196, 40, 27)),
    LegendEntry(5, "bare", (165, 155, 143)),
)
"""Classes of a region whose labels are a global map: what C-band radar can tell apart."""


@dataclass(frozen=True)
class LandCover:
    """A global land-cover map.

    Attributes:
        collection: Its collection in a STAC API.
        asset: Key of the raster in an item.
        legend: Its classes.
        meanings: What each code means for ``CLASSES``.
        licence: Its licence.
        attribution: Who must be named.
    """

    collection: str
    asset: str
    legend: Legend
    meanings: Mapping[int, Meaning]
    licence: str
    attribution: str


def _legend(*entries: tuple[int, str, str]) -> Legend:
    return Legend.from_list([{"code": c, "name": n, "color": f"#{h}"} for c, n, h in entries])


_LOW = "low vegetation"

LAND_COVER = {
    "worldcover": LandCover(
        collection="esa-worldcover",
        asset="map",
        legend=_legend(
            (10, "Tree cover", "006400"),
            (20, "Shrubland", "ffbb22"),
            (30, "Grassland", "ffff4c"),
            (40, "Cropland", "f096ff"),
            (50, "Built-up", "fa0000"),
            (60, "Bare / sparse vegetation", "b4b4b4"),
            (70, "Snow and ice", "f0f0f0"),
            (80, "Permanent water bodies", "0064c8"),
            (90, "Herbaceous wetland", "0096a0"),
            (95, "Mangroves", "00cf75"),
            (100, "Moss and lichen", "fae6a0"),
        ),
        meanings={
            10: "trees",
            20: ("trees", _LOW),
            30: _LOW,
            40: _LOW,
            50: "built-up",
            60: "bare",
            70: "ignore",
            80: "water",
            90: ("water", _LOW),
            95: "trees",
            100: (_LOW, "bare"),
        },
        licence="CC-BY-4.0",
        attribution=(
            "ESA WorldCover project 2021, contains modified Copernicus Sentinel data (2021) "
            "processed by the ESA WorldCover consortium"
        ),
    ),
    "esri-lulc": LandCover(
        collection="io-lulc-annual-v02",
        asset="data",
        legend=_legend(
            (1, "Water", "419bdf"),
            (2, "Trees", "397d49"),
            (4, "Flooded vegetation", "7a87c6"),
            (5, "Crops", "e49635"),
            (7, "Built area", "c4281b"),
            (8, "Bare ground", "a59b8f"),
            (9, "Snow/ice", "a8ebff"),
            (10, "Clouds", "616161"),
            (11, "Rangeland", "e3e2c3"),
        ),
        meanings={
            1: "water",
            2: "trees",
            4: ("water", _LOW),
            5: _LOW,
            7: "built-up",
            8: "bare",
            9: "ignore",
            10: "ignore",
            11: (_LOW, "bare"),
        },
        licence="CC-BY-4.0",
        attribution="Esri, Impact Observatory and Microsoft: 10 m annual land use land cover",
    ),
}
"""The global maps that have a name, with their classes by their documentation.

Fields are low vegetation all year, also while nothing grows on them. Snow is ignored, because its
backscatter is that of many other surfaces.
"""
