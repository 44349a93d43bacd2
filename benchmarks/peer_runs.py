"""One peer of peers.py, run in its own environment: maps a scene, and says how in JSON."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NODATA = 255
BATCH = 4
"""Tiles at once, as ``predict`` takes on a CPU."""


class Segmenter(nn.Module):
    """The plain network as a peer gets it: two bands in dB to the logits of every pixel.

    Args:
        path: A bundle whose channels are VV, VH and VV - VH in dB.

    Attributes:
        tile: Side of a tile in pixels.
        codes: Code of each class.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        from cwsam_geo.model.runtime.predictor import load_model

        self.net = load_model(path, network="plain")
        spec = self.net.preprocess
        assert (spec.channels, spec.scaling) == (("VV", "VH", "VV-VH"), "db")
        self.tile = spec.tile_size
        self.codes = self.net.legend.codes
        self.classes = len(self.codes)
        low, high = np.float32(spec.clip).T
        self.register_buffer("low", torch.from_numpy(low.copy())[:, None, None])
        self.register_buffer("high", torch.from_numpy(high.copy())[:, None, None])
        self.register_buffer("mean", torch.tensor(spec.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(spec.std)[:, None, None])

    def forward(self, bands: Tensor) -> Tensor:
        """Maps dB (B, 2, T, T) to logits (B, K, T, T); pixels without data count as the mean."""
        valid = torch.isfinite(bands).all(1, keepdim=True)
        bands = torch.where(valid, bands, self.low).maximum(self.low).minimum(self.high)
        channels = torch.cat([bands, bands[:, :1] - bands[:, 1:]], 1)
        images = torch.where(valid, (channels - self.mean) / self.std, 0.0)
        logits: Tensor = self.net(images)
        return F.interpolate(logits, bands.shape[-2:], mode="bilinear", align_corners=False)


@torch.no_grad()
def hand(job: Mapping[str, Any]) -> tuple[str, int]:
    """A loop with rasterio as people write it by hand."""
    import rasterio

    model = Segmenter(job["model"]).eval()
    size = model.tile
    with rasterio.open(job["scene"]) as src:
        image, profile = src.read(), src.profile
    _, height, width = image.shape
    result = np.zeros((height, width), np.uint8)
    for row in range(0, height, size):
        for col in range(0, width, size):
            tile = image[:, row : row + size, col : col + size]
            h, w = tile.shape[1:]
            padded = np.zeros((image.shape[0], size, size), np.float32)
            padded[:, :h, :w] = tile
            logits = model(torch.from_numpy(padded)[None])
            classes = logits.argmax(1)[0].numpy()
            result[row : row + h, col : col + w] = model.codes[classes[:h, :w]]
    profile.update(count=1, dtype="uint8", nodata=None, compress="deflate")
    with rasterio.open(job["output"], "w", **profile) as dst:
        dst.write(result, 1)
    return f"tiles of {size} px, no overlap, one at a time", size


def geoai(job: Mapping[str, Any]) -> tuple[str, int]:
    """geoai-py's tiled inference."""
    from geoai.inference import predict_geotiff

    model = Segmenter(job["model"]).eval()
    size, overlap = model.tile, model.tile // 4
    codes = model.codes.astype(np.float32)
    predict_geotiff(
        model,
        job["scene"],
        job["output"],
        tile_size=size,
        overlap=overlap,
        batch_size=BATCH,
        num_classes=model.classes,
        output_dtype="uint8",
        output_nodata=NODATA,
        preprocess_fn=lambda tile: tile.astype(np.float32),
        postprocess_fn=lambda scores: codes[scores.argmax(0)],
        device="cpu",
        verbose=False,
    )
    words = f"predict_geotiff: tiles of {size} px, overlap {overlap}, spline, batches of {BATCH}"
    return words, size - overlap


@torch.no_grad()
def torchgeo(job: Mapping[str, Any]) -> tuple[str, int]:
    """torchgeo's dataset and sampler, as its tutorials use them; put together by the bounds."""
    import rasterio
    from rasterio.transform import rowcol
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    model = Segmenter(job["model"]).eval()
    size = model.tile
    with rasterio.open(job["scene"]) as src:
        profile, transform, shape = src.profile, src.transform, src.shape
    dataset = RasterDataset(job["scene"])
    sampler = GridGeoSampler(dataset, size=size, stride=size - size // 8)
    loader = DataLoader(dataset, BATCH, sampler=sampler, collate_fn=stack_samples)
    result = np.full(shape, NODATA, np.uint8)
    for batch in loader:
        classes = model.codes[model(batch["image"]).argmax(1).numpy()]
        for bounds, tile in zip(batch["bounds"], classes, strict=True):
            left, top = corner_of(bounds)
            row, col = (round(v) for v in rowcol(transform, left, top, op=float))
            first_row, first_col = max(row, 0), max(col, 0)
            inside = tile[first_row - row : shape[0] - row, first_col - col : shape[1] - col]
            h, w = inside.shape
            result[first_row : first_row + h, first_col : first_col + w] = inside
    profile.update(count=1, dtype="uint8", nodata=NODATA, compress="deflate")
    with rasterio.open(job["output"], "w", **profile) as dst:
        dst.write(result, 1)
    words = f"GridGeoSampler: tiles of {size} px, overlap {size // 8}, batches of {BATCH}"
    return f"{words}; the later tile wins", size - size // 8


def corner_of(bounds: Any) -> tuple[float, float]:
    """Left and top of a sample, whose bounds have been of several types."""
    if hasattr(bounds, "minx"):
        return float(bounds.minx), float(bounds.maxy)
    return float(bounds[0].start), float(bounds[1].stop)


RUNS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, int]]] = {
    "hand": hand,
    "geoai": geoai,
    "torchgeo": torchgeo,
}
PACKAGES = {"hand": "rasterio", "geoai": "geoai-py", "torchgeo": "torchgeo"}


def main() -> None:
    """Runs the peer that the first argument names; the second is the job as JSON."""
    peer, job = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(int(job["threads"]))
    settings, stride = RUNS[peer](job)
    version = importlib.metadata.version(PACKAGES[peer])
    versions = {"torch": torch.__version__, peer: f"({PACKAGES[peer]} {version})"}
    print(json.dumps({"settings": settings, "stride": stride, "versions": versions}))


if __name__ == "__main__":
    main()
