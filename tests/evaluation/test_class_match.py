"""Which class of a map a reference's value stands for, and mapping that stand for nothing."""

import numpy as np
import pytest
from training_scenes import LEGEND, blobs, write_raster

from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.class_match import absent_remarks, channels_of_values, comparable_classes
from cwsam_geo.evaluation.evaluate import evaluate
from cwsam_geo.evaluation.options import ClassMapping, EvaluateOptions


def channels(values, **mapping):
    said = ClassMapping(**mapping)
    counts = dict.fromkeys(values, 1)
    return channels_of_values(
        counts, LEGEND, comparable_classes(LEGEND, said), said, "truth.tif", "pixels"
    )


def test_colours_are_the_same_in_upper_case():
    found = channels(["#0000ff", "#090909"], map={"#0000FF": "trees", "#090909": "ignore"})
    assert found == {"#0000ff": 1, "#090909": None}
    assert channels(["#0000ff", "#0A0B0C"], ignore=("#0a0b0C", "#0000FF")) == {
        "#0000ff": None, "#0A0B0C": None,
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"#0000FF is given twice"):
        ClassMapping(map={"#0000ff": "trees", "#0000FF": "water"})


def test_a_picture_is_read_as_the_map_of_colours_says(tmp_path):
    truth = blobs(np.random.default_rng(0), (64, 64))
    mapped = write_raster(tmp_path / "map.tif", truth)
    colours = np.zeros((3, 64, 64), np.uint8)
    colours[2], colours[1] = 255 * (truth == 2), 9
    picture = write_raster(tmp_path / "truth.tif", colours)
    mapping = ClassMapping(map={"#0009FF": "trees", "#000900": "ignore"})
    result = evaluate(mapped, picture, EvaluateOptions(mapping, legend=LEGEND))
    assert result.counts.tolist() == [[0, 0, 0], [0, (truth == 2).sum(), 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("values", "item", "words"),
    [
        ([1, 2], "banana", r"--map banana: no code of truth\.tif.*1 .*2 "),
        ([1, 2], "water", r"--map water: no code of truth\.tif"),
        ([1, 2], "01", r"--map 01: no code"),
        ([1, 2], "#0000ff", r"--map #0000ff: no code"),
        (["lake", "wood"], "#0000ff", r"--map #0000ff: no name"),
        (["#0000ff"], "water", r"--map water: no colour of truth\.tif.*#0000ff"),
        (["#0000ff"], "3", r"--map 3: no colour"),
        (["#0000ff"], "#00f", r"--map #00f: no colour"),
    ],
)
def test_what_cannot_occur_in_the_reference_is_refused(values, item, words):
    with pytest.raises(UsageError, match=words):
        channels(values, map={item: "trees", **{str(v): "water" for v in values}})


@pytest.mark.parametrize(
    ("values", "item"), [([1, 2], "7"), ([1, 2], "-1"), (["#0000ff"], "#010203"), (["lake"], "7")]
)
def test_codes_and_colours_may_be_absent_from_one_of_many_references(values, item):
    given = {str(v): "water" for v in values}
    assert set(channels(values, map={item: "trees", **given}).values()) == {0}
    assert set(channels(values, map=given, ignore=(item,)).values()) == {0}


def test_names_that_were_not_met_are_told_not_refused():
    """Misspelt, or of another of the references that the same ``--map`` is for."""
    said = ClassMapping(map={"lake": "water", "wood": "trees", "Lake": "water", "7": "ignore"})
    assert channels(["lake"], map=said.map) == {"lake": 0}
    (remark,) = absent_remarks(["lake"], LEGEND, said, "truth.gpkg")
    assert remark.startswith("--map: the compared part of truth.gpkg has no class called wood;")
    assert remark.endswith("its classes are lake")
    assert absent_remarks(["lake", "wood", "Lake"], LEGEND, said, "truth.gpkg") == ()
    assert absent_remarks([1, 2], LEGEND, said, "truth.tif") == ()


def test_classes_are_found_in_any_case():
    assert channels(["LAKE", "Trees", "Snow"], map={"Lake": "Water"}, ignore=("snow",)) == {
        "LAKE": 0, "Trees": 1, "Snow": None,
    }  # fmt: skip
    assert comparable_classes(LEGEND, ClassMapping(merge={"Built": "TREES"})).by_code[4] == 1
