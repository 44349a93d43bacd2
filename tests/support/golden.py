"""The CWSAM authors' numbers: where they are, and their preprocessing."""

import os
from pathlib import Path

import torch
from paths import ROOT
from safetensors.torch import load_file

from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import IMAGENET_MEAN, IMAGENET_STD

DATA = ROOT / "tests" / "data"
TINY_CHECKPOINT = DATA / "golden_tiny_reference.pth"
TINY_NUMBERS = DATA / "golden_tiny_io.safetensors"

FUSAR_1 = Legend.from_list(
    [
        {"code": 0, "name": "building", "color": "#ff0000"},
        {"code": 1, "name": "vegetation", "color": "#00ff00"},
        {"code": 2, "name": "water", "color": "#0000ff"},
        {"code": 3, "name": "road", "color": "#ffff00"},
        {"code": 4, "name": "background", "color": "#000000"},
    ]
)


def vit_b_folder():
    """Folder of the ViT-B case, which is not part of the project; may not exist."""
    named = os.environ.get("CWSAM_GEO_GOLDEN")
    return Path(named) if named else ROOT.parent / "shared" / "golden"


def numbers(path=TINY_NUMBERS):
    return load_file(path)


def images(amplitude8):
    """(B, 1, H, W) uint8 to the authors' input: three equal bands, ImageNet statistics."""
    mean = torch.tensor(IMAGENET_MEAN)[:, None, None]
    std = torch.tensor(IMAGENET_STD)[:, None, None]
    return (amplitude8.float() / 255 - mean) / std


def relative_error(ours, theirs):
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())
