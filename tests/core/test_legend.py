import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwsam_geo.core.legend import Legend, LegendEntry
from cwsam_geo.errors import LegendError

CLASSES = [
    {"code": 0, "name": "water", "color": "#0000ff"},
    {"code": 7, "name": "trees", "color": [0, 139, 0]},
    {"code": 254, "name": "Straße", "color": "#FFff00"},
]


def test_a_legend_survives_its_own_list():
    legend = Legend.from_list(CLASSES, ignore="water")
    assert legend.ignore == 0
    assert legend.codes.tolist() == [0, 7, 254]
    assert Legend.from_list(legend.to_list()).entries == legend.entries
    assert legend.to_list()[1] == {"code": 7, "name": "trees", "color": "#008b00"}
    assert "Straße" in legend.to_json()
    assert legend.colormap[254] == (255, 255, 0, 255)
    assert legend.colormap[255][3] == 0
    assert [legend.channel(x) for x in (0, 7, "7", "trees")] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        ([], "at least one class"),
        ([*CLASSES, {"code": 7, "name": "x", "color": "#000000"}], "code 7 appears twice"),
        ([*CLASSES, {"code": 8, "name": "trees", "color": "#000000"}], "name trees appears twice"),
        ([{"code": 255, "name": "x", "color": "#000000"}], "255 is nodata"),
        ([{"code": -1, "name": "x", "color": "#000000"}], r"not in 0\.\.254"),
        ([{"code": 1.5, "name": "x", "color": "#000000"}], "whole number"),
        ([{"code": True, "name": "x", "color": "#000000"}], "whole number"),
        ([{"code": 1, "name": "x", "color": "blue"}], "#rrggbb"),
        ([{"code": 1, "name": "x", "color": [0, 0, 256]}], "8-bit"),
        ([{"code": 1, "name": "x"}], "needs code, name and color"),
        ({"water": 1}, "must be a list"),
        ("water", "must be a list"),
    ],
)
def test_a_wrong_legend_is_refused_with_the_file_and_the_reason(classes, match):
    with pytest.raises(LegendError, match=match) as error:
        Legend.from_list(classes, where="legend.yaml")
    assert "legend.yaml" in str(error.value)


def test_an_unknown_class_is_an_error_that_lists_the_known():
    with pytest.raises(LegendError, match="7 trees"):
        Legend.from_list(CLASSES).channel("tree")


@given(st.integers(1, 255), st.integers(0, 2**32 - 1))
def test_pictures_in_the_legends_colours_decode_to_its_codes(classes, seed):
    rng = np.random.default_rng(seed)
    colors = rng.choice(2**24, classes, replace=False)
    legend = Legend(
        tuple(
            LegendEntry(i, str(i), (int(c) >> 16, (int(c) >> 8) & 255, int(c) & 255))
            for i, c in enumerate(colors)
        )
    )
    codes = rng.integers(0, classes, (6, 9)).astype(np.uint8)
    picture = np.array([e.rgb for e in legend.entries], np.uint8)[codes].transpose(2, 0, 1)
    np.testing.assert_array_equal(legend.decode_rgb(picture), codes)


def test_an_unknown_colour_is_an_error_with_its_count():
    picture = np.zeros((3, 4, 4), np.uint8)
    picture[2] = 255
    picture[:, 0, :2] = np.array([255, 0, 0], np.uint8)[:, None]
    with pytest.raises(LegendError, match=r"2 of 16 pixels.*#ff0000 \(2 px\)"):
        Legend.from_list(CLASSES).decode_rgb(picture)


def test_fuzzy_colours_get_a_hint_at_compression():
    picture = np.random.default_rng(0).integers(0, 255, (3, 20, 20)).astype(np.uint8)
    with pytest.raises(LegendError, match="JPEG"):
        Legend.from_list(CLASSES).decode_rgb(picture)


def test_a_colour_of_two_classes_cannot_be_decoded():
    legend = Legend((LegendEntry(0, "a", (1, 2, 3)), LegendEntry(1, "b", (1, 2, 3))))
    with pytest.raises(LegendError, match="share a colour"):
        legend.decode_rgb(np.zeros((3, 2, 2), np.uint8))
