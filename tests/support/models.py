"""Bundles of very small models with random weights."""

import torch

from cwsam_geo.core.preprocess import PreprocessSpec, amplitude8_spec
from cwsam_geo.model.bundles.bundle import BundleHeader, ModelBundle
from cwsam_geo.model.network.architecture import BACKBONES, Architecture, Backbone
from cwsam_geo.model.network.cwsam import Cwsam

MICRO = Backbone(
    "custom", dim=32, depth=2, heads=2, global_blocks=(1,), patch_size=8, window=4,
    decoder_dim=32, decoder_mlp_dim=32, tile_size=64,
)  # fmt: skip


def s1_spec(tile_size):
    return PreprocessSpec(
        bands=("VV", "VH"),
        channels=("VV", "VH", "VV-VH"),
        scaling="db",
        clip=((-35.0, 10.0), (-40.0, 5.0)),
        mean=(-11.0, -18.0, 7.0),
        std=(5.0, 5.0, 3.0),
        tile_size=tile_size,
        fill=(None, -18.0),
        quantiles=((-22.0, -11.0, -4.0), (-30.0, -18.0, -11.0)),
    )


def random_bundle(legend, spec=None, backbone=MICRO, trained=True, seed=0, texture_dim=0):
    """A bundle whose every tensor is random, so that nothing is zero by chance."""
    architecture = Architecture(backbone, len(legend), backbone.tile_size, texture_dim=texture_dim)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = Cwsam(architecture)
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    header = BundleHeader(
        kind="full",
        architecture=architecture,
        preprocess=spec or s1_spec(backbone.tile_size),
        legend=legend,
        provenance={"trained": trained},
    )
    return ModelBundle.from_model(model, header)


def gray_bundle(legend, **more):
    return random_bundle(legend, amplitude8_spec(MICRO.tile_size), **more)


SMALL = BACKBONES["small"]
