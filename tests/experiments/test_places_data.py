"""What a model of places is trained on: labels of a teacher, scenes in VV alone."""

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import places_data  # noqa: E402
from places_data import NOT_WATER, PARTIAL, LabelledPlace, pseudo_labels  # noqa: E402


def test_a_pseudo_label_is_the_fewest_classes_that_are_sure_together():
    columns = [
        (0.9, 0.1, 0.0, 0.0),  # one class
        (0.1, 0.5, 0.0, 0.4),  # one of two
        (0.25, 0.25, 0.25, 0.25),  # any: no label
        (0.9, 0.0, 0.1, 0.0),  # known not to be water: open
        (0.9, 0.1, 0.0, 0.0),  # labelled
    ]
    probability = np.array(columns, np.float32).T[:, None]
    codes = np.array([[0, 0, 0, NOT_WATER, 3]], np.uint8)
    found = pseudo_labels(codes, probability, 0.8)
    assert found.tolist() == [[1, PARTIAL + 0b1010, 0, 3, 3]]
    assert pseudo_labels(codes, None) is codes


@pytest.fixture
def place(tmp_path):
    rng = np.random.default_rng(0)
    codes = np.ones((64, 64), np.uint8)
    codes[:, 32:] = 3
    values = np.where(codes == 1, -22.0, -12.0) + rng.normal(0, 1, (2, 64, 64))
    values[1] -= 7
    scene, labels = tmp_path / "s1.tif", tmp_path / "label4.tif"
    for path, array in ((scene, values.astype(np.float32)), (labels, codes[None])):
        with rasterio.open(
            path, "w", driver="GTiff", width=64, height=64, count=len(array), dtype=array.dtype
        ) as file:
            file.write(array)
            if len(array) == 2:
                file.descriptions = ("VV", "VH")
    return LabelledPlace("somewhere", "somewhere", scene, labels, False)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_scene_may_come_again_in_vv_alone_with_the_same_labels(place, tmp_path, monkeypatch):
    monkeypatch.setattr(places_data, "CAP", 300)
    both, alone = places_data.training_scenes([place], tmp_path / "files", again=True)
    with rasterio.open(both["scene"]) as file, rasterio.open(alone["scene"]) as vv:
        assert (file.descriptions, vv.descriptions) == (("VV", "VH"), ("VV",))
        # Water and land are shifted together: their order stays, over the sensor's noise.
        shifted = vv.read(1)
        assert shifted[:, :32].mean() < shifted[:, 32:].mean()
        assert shifted.min() > places_data.FLOOR_DB
    for entry, most in ((both, 300), (alone, 100)):
        with rasterio.open(entry["labels"]) as file:
            codes = file.read(1)
        assert np.bincount(codes.ravel())[[1, 3]].tolist() == [most, most]
        assert not (codes[:, :32] == 3).any()
        assert entry["map"] == {0: "ignore", 1: "water", 3: "open"}
