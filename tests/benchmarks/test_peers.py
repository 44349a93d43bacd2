"""The comparison with other programs: what it finds in their maps."""

import sys

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from paths import BENCHMARKS
from rasterio.crs import CRS

sys.path[:0] = [str(BENCHMARKS)]

import peer_runs  # noqa: E402
import peers  # noqa: E402

from cwsam_geo.core.preprocess import SceneBands  # noqa: E402
from cwsam_geo.model.runtime.predictor import load_model  # noqa: E402

PLACE = Affine(10, 0, 5e5, 0, -10, 6e6)


def write(path, values, nodata=None, transform=PLACE, crs=32633):
    values = np.atleast_3d(values.T).T
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=values.shape[1],
        width=values.shape[2], dtype=values.dtype, nodata=nodata, transform=transform,
        crs=CRS.from_epsg(crs),
    ) as file:  # fmt: skip
        file.write(values)
    return path


@pytest.fixture
def classes():
    """Classes in patches that have nothing to do with tiles."""
    random = np.random.default_rng(0)
    field = random.normal(size=(1300, 900))
    for axis in (0, 1):
        field = np.apply_along_axis(np.convolve, axis, field, np.ones(9) / 9, "same")
    return (field > 0).astype(np.uint8) + 1


def test_seams_are_found_along_either_axis_and_nowhere_else(tmp_path, classes, monkeypatch):
    monkeypatch.setattr(peers, "ROWS", 257)
    plain = peers.seams(write(tmp_path / "plain.tif", classes), 112)
    assert 1 <= plain < 1.6
    for axis in (0, 1):
        cut = classes.copy()
        # From a seam on, every second tile has another class where it is near its edge.
        for start in range(112, cut.shape[axis], 112):
            part = np.take(cut, range(start, min(start + 3, cut.shape[axis])), axis)
            index = [slice(None), slice(None)]
            index[axis] = slice(start, start + part.shape[axis])
            cut[tuple(index)] = 3 - part
        found = peers.seams(write(tmp_path / f"cut{axis}.tif", cut), 112)
        assert found > 2 * plain
        # With another raster of tiles, the same lines are spread over many places of it.
        assert peers.seams(tmp_path / f"cut{axis}.tif", 101) < 0.6 * found


def test_what_is_nodata_is_no_seam(tmp_path, classes):
    holes = classes.copy()
    holes[:, 111::112] = 255
    found = peers.seams(write(tmp_path / "holes.tif", holes, nodata=255), 112)
    assert found == pytest.approx(peers.seams(write(tmp_path / "p.tif", classes), 112), rel=0.1)


def test_place_nodata_and_agreement_are_those_of_the_files(tmp_path):
    scene = np.ones((2, 50, 40), np.float32)
    scene[:, :10] = np.nan
    source = write(tmp_path / "scene.tif", scene, np.nan)
    good = np.full((50, 40), 1, np.uint8)
    good[:10] = 255
    ours = write(tmp_path / "ours.tif", good, 255)
    assert peers.compared(ours, source, None) == {"place": True, "nodata": 1.0, "agreement": 1.0}
    other = np.where(np.arange(50)[:, None] < 30, 1, 2) * np.ones((1, 40), int)
    other[:5] = 255
    theirs = write(tmp_path / "theirs.tif", other.astype(np.uint8), 255)
    found = peers.compared(theirs, source, ours)
    assert found == {"place": True, "nodata": 0.5, "agreement": 0.5}
    moved = write(tmp_path / "m.tif", good, None, PLACE * Affine.translation(1, 0))
    assert peers.compared(moved, source, ours)["place"] is False
    assert peers.compared(moved, source, ours)["nodata"] is None


def test_the_network_that_peers_get_is_ours_with_its_preprocessing():
    module = peer_runs.Segmenter("demo").eval()
    size = module.tile
    bands = torch.randn(2, 2, size, size) * 4 - torch.tensor([11.0, 18.0])[:, None, None]
    bands[0, :, :10] = np.nan
    bands[1, 1, 20:25, 3] = np.nan
    model = load_model("demo", network="plain")
    spec = model.preprocess
    with torch.no_grad():
        ours = []
        for values in bands.numpy():
            valid = np.isfinite(values).all(0)
            ours.append(spec.apply(values, valid, SceneBands("db", (0, 1))))
        logits = model(torch.from_numpy(np.stack(ours)))
        theirs = module(bands)
    assert theirs.shape == (2, module.classes, size, size)
    stride = model.architecture.stride
    pooled = torch.nn.functional.avg_pool2d(theirs, stride)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    # Interpolated logits average to about those they come from.
    assert (
        torch.corrcoef(torch.stack([pooled[inside].ravel(), logits[inside].ravel()]))[0, 1] > 0.98
    )
