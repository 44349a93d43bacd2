import math

import pytest
from affine import Affine
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.pixel_size import PixelSizes
from cwsam_geo.scene.plausibility import pixel_size_warning

TEN = PixelSizes((10, 10), (10, 10))


def warning(x, y, trained=TEN, crs=32633, at=(5e5, 5.5e6)):
    transform = Affine(x, 0, at[0], 0, -y, at[1])
    return pixel_size_warning(SceneGrid(100, 100, transform, CRS.from_epsg(crs)), "s.tif", trained)


@pytest.mark.parametrize("side", [7, 10, 14.5])
def test_similar_pixels_are_no_matter(side):
    assert warning(side, side) is None


def test_larger_pixels_are_named_with_both_ways_out():
    text = warning(30, 30)
    assert "\n" not in text
    assert "30 x 30 m on the ground, those of the model's training 10 x 10 m" in text
    assert "gdalwarp -tr 10 10 -r bilinear" in text
    assert "which adds no detail" in text
    assert "cwsam-geo finetune" in text


def test_smaller_pixels_are_averaged():
    text = warning(2.5, 2.5)
    assert "gdalwarp -tr 10 10 -r average" in text
    assert "detail" not in text


def test_one_side_is_enough():
    assert "10 x 40 m" in warning(10, 40)


def test_a_range_of_sizes_is_known_as_a_whole():
    trained = PixelSizes((10, 30), (10, 30))
    assert warning(20, 40, trained) is None
    assert "10 to 30 x 10 to 30 m" in warning(60, 60, trained)


def test_the_advice_is_in_units_of_the_crs():
    text = warning(1e-3, 1e-3, crs=4326, at=(15, 50))
    target = [float(word) for word in text.split("-tr ")[1].split()[:2]]
    metres = 111_195 * target[0] * math.cos(math.radians(50)), 111_195 * target[1]
    assert metres == pytest.approx((10, 10), rel=0.01)


@pytest.mark.parametrize("trained", [TEN, None])
def test_what_is_not_known_is_not_warned_of(trained):
    nowhere = SceneGrid(100, 100, Affine.identity(), None)
    assert pixel_size_warning(nowhere, "s.tif", trained) is None
    if trained is None:
        assert warning(300, 300, None) is None
