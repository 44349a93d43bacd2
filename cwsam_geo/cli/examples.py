"""Examples that stand at the end of each command's ``--help``."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "predict": (
        "cwsam-geo predict scene.tif -o map.tif",
        "cwsam-geo predict vv.tif vh.tif -o map.tif --vectors map.gpkg --areas areas.csv",
        "cwsam-geo predict S1A_IW_GRDH.SAFE -o map.tif --aoi area.gpkg --min-confidence 70",
        "cwsam-geo predict S1A_IW_GRDH.SAFE -o map.tif --t-srs auto",
    ),
    "batch": (
        "cwsam-geo batch 'scenes/*.tif' -o 'maps/{stem}_landcover.tif' --summary maps.csv",
        "cwsam-geo batch items.json -o maps/ --confidence maps/ --mosaic region.tif",
    ),
    "mosaic": (
        "cwsam-geo mosaic 'maps/*_landcover.tif' -o region.tif",
        "cwsam-geo mosaic a.tif b.tif -o region.tif --t-srs EPSG:32633",
    ),
    "vectorize": (
        "cwsam-geo vectorize map.tif -o map.gpkg --min-area 2000 --simplify 15",
        "cwsam-geo vectorize map.tif -o water.geojson --classes water",
    ),
    "finetune": (
        "cwsam-geo finetune region.yaml -o region.safetensors",
        "cwsam-geo finetune --scene s1.tif --labels l.gpkg --legend l.yaml -o m.safetensors",
    ),
    "evaluate": (
        "cwsam-geo evaluate map.tif reference.tif --map 0=water --map 1=land",
        "cwsam-geo evaluate map.tif points.csv --column class --html report.html",
    ),
    "areas": ("cwsam-geo areas map.tif -o areas.csv",),
    "report": ("cwsam-geo report map.tif --scene scene.tif -o report.html",),
    "fetch": ("cwsam-geo fetch --bbox 13.6 47.4 13.8 47.6 --date 2024-06-01/2024-06-30 -o scenes",),
    "preview": (
        "cwsam-geo preview scene.tif -o scene.png",
        "cwsam-geo preview map.tif --scene scene.tif --vectors map.gpkg -o picture.png",
        "cwsam-geo preview map.tif --reference reference.tif -o agreement.pdf --size 3000",
    ),
    "info": (
        "cwsam-geo info scene.tif -m s1-water",
        "cwsam-geo info map.tif --json",
        "cwsam-geo info s1-water --stac > s1-water.json",
    ),
    "convert": ("cwsam-geo convert cwsam.pth -o model.safetensors --legend legend.yaml",),
    "models": ("cwsam-geo models list", "cwsam-geo models download sam_vit_b"),
    "models list": ("cwsam-geo models list --json",),
    "models download": ("cwsam-geo models download sam_vit_b --to weights",),
    "doctor": ("cwsam-geo doctor", "cwsam-geo doctor --json > doctor.json"),
    "completion": ("cwsam-geo completion bash",),
}
"""Command lines by the name of their command."""


def epilog(name: str) -> str | None:
    """The last lines of a command's help; None without examples."""
    lines = EXAMPLES.get(name)
    if lines is None:
        return None
    title = "Example:" if len(lines) == 1 else "Examples:"
    # "\b" keeps the line ends of what follows.
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])
