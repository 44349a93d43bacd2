"""Bundles with random weights, to measure time and memory with; their maps mean nothing."""

from __future__ import annotations

import re
from pathlib import Path

import click
from simulator.landscape import LEGEND

from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import PreprocessSpec
from cwsam_geo.model.bundles.bundle import BundleHeader, ModelBundle
from cwsam_geo.model.network.architecture import BACKBONES, Architecture, Backbone
from cwsam_geo.model.upstream.convert import fresh_tensors

CLASSES = 10

LIGHT = Backbone(
    "light",
    dim=32,
    depth=2,
    heads=1,
    global_blocks=(),
    window=8,
    decoder_dim=16,
    decoder_mlp_dim=32,
)
"""Tiles of CWSAM's size and next to no arithmetic, so that the time outside the model shows."""


def model_of(name: str, folder: Path) -> str:
    """What ``predict -m`` takes.

    Args:
        name: A model, ``light``, or ``random:BACKBONE`` for a backbone with random weights and ten
            classes.
        folder: Where untrained bundles are kept.

    Raises:
        click.UsageError: There is no such backbone.
    """
    if name == "light":
        return str(_bundle(LIGHT, LEGEND, folder / "light.safetensors"))
    if not name.startswith("random:"):
        return name
    backbone = BACKBONES.get(name.removeprefix("random:"))
    if backbone is None:
        raise click.UsageError(f"-m {name}: backbones are {', '.join(BACKBONES)}")
    colors = (f"#{20 * i:02x}{255 - 20 * i:02x}80" for i in range(CLASSES))
    items = [{"code": i, "name": f"class {i}", "color": c} for i, c in enumerate(colors)]
    path = folder / f"{re.sub(r'[^a-z_]', '-', name)}.safetensors"
    return str(_bundle(backbone, Legend.from_list(items, where="benchmark"), path))


def _bundle(backbone: Backbone, legend: Legend, path: Path) -> Path:
    if path.exists():
        return path
    architecture = Architecture(backbone, len(legend), backbone.tile_size)
    spec = PreprocessSpec(
        bands=("VV", "VH"),
        channels=("VV", "VH", "VV-VH"),
        scaling="db",
        clip=((-35.0, 10.0), (-45.0, 5.0)),
        mean=(-11.0, -17.5, 6.5),
        std=(4.5, 4.5, 3.0),
        tile_size=backbone.tile_size,
        fill=(None, -17.5),
    )
    header = BundleHeader("full", architecture, spec, legend, {"trained": False})
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    return ModelBundle(header, fresh_tensors(architecture, 0)).save(path)
