import pytest

from cwsam_geo.core.legend import Legend
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


def test_a_class_is_found_by_its_name_in_any_case_unless_that_is_ambiguous():
    assert Legend.from_list(CLASSES).channel("Trees") == 1
    assert Legend.from_list(CLASSES).channel("STRASSE") == 2
    both = Legend.from_list(
        [
            {"code": 1, "name": "Water", "color": "#000001"},
            {"code": 2, "name": "water", "color": "#000002"},
        ]
    )
    assert [both.channel(name) for name in ("Water", "water")] == [0, 1]
    with pytest.raises(LegendError, match="no class 'WATER'"):
        both.channel("WATER")
