"""Which class a code, a name or a colour means: the same answer for references and for labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_scenes import LEGEND

from cwsam_geo.core.class_values import (
    COMMAND_LINE,
    REGION_FILE,
    ClassValues,
    absent_names,
    kind_of,
)
from cwsam_geo.core.legend import Legend, LegendEntry
from cwsam_geo.errors import LegendError, UsageError


def meaning(value, legend=LEGEND, wording=COMMAND_LINE, **entries):
    return ClassValues(legend, "truth", wording, entries).channels(value)


@pytest.mark.parametrize(
    ("value", "channels"),
    [
        (1, (0,)),
        (4, (2,)),
        (3, None),
        (-1, None),
        ("trees", (1,)),
        ("Trees", (1,)),
        (" TREES ", (1,)),
        ("tree", None),
        ("4", (2,)),
        ("04", (2,)),
        ("4.0", (2,)),
        ("4.5", None),
        ("#00ff00", (1,)),
        ("#00FF00", (1,)),
        ("#00ff01", None),
        ("", None),
    ],
)
def test_without_a_map_the_classes_own_codes_names_and_colours_count(value, channels):
    assert meaning(value) == channels
    # An entry for another value changes nothing.
    assert meaning(value, **{"99": (2,)}) == channels


@given(st.sampled_from([1, 2, 4, 9, "trees", "Trees", "lake", "LAKE", "#00ff00", "#0a0b0c"]))
def test_an_entry_of_the_map_comes_first(value):
    for channels in ((), (2,), (0, 2)):
        assert meaning(value, **{str(value): channels}) == channels
        assert meaning(value, **{str(value).swapcase().lower(): channels}) == channels


def test_the_exact_name_wins_and_what_is_ambiguous_is_unknown():
    entries = {"Lake": (0,), "lake": (1,)}
    assert meaning("Lake", **entries) == (0,)
    assert meaning("lake", **entries) == (1,)
    assert meaning("LAKE", **entries) is None


def test_a_name_that_is_a_number_is_a_name_first_in_a_text_column():
    legend = Legend((LegendEntry(1, "2", (1, 1, 1)), LegendEntry(2, "3", (2, 2, 2))))
    assert meaning("2", legend) == (0,)
    assert meaning(2, legend) == (1,)
    assert meaning("1", legend) == (0,)


def test_a_shared_colour_is_refused_until_the_map_settles_it():
    legend = Legend((LegendEntry(0, "a", (1, 2, 3)), LegendEntry(1, "b", (1, 2, 3))))
    with pytest.raises(LegendError, match=r"truth: a and b share a colour.*--map #010203=CLASS"):
        meaning("#010203", legend)
    assert meaning("#010203", legend, **{"#010203": (1,)}) == (1,)
    assert meaning("a", legend) == (0,)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, "2"], "code"),
        (["#0000FF"], "colour"),
        (["#0000ff", 1], "name"),
        (["01"], "name"),
        (["lake", 1], "name"),
    ],
)
def test_kinds_of_values(values, kind):
    assert kind_of(values) == kind


@pytest.mark.parametrize("wording", [COMMAND_LINE, REGION_FILE])
def test_unknown_values_are_listed_in_the_users_words(wording):
    values = ClassValues(LEGEND, "truth", wording)
    with pytest.raises(LegendError) as caught:
        values.check_known({7: 3, 9: 40}, 100, "pixels")
    text = str(caught.value)
    assert text.startswith("truth: codes without a class: 9 (40), 7 (3); 43 of 100 pixels; ")
    assert "1 water, 2 trees, 4 built" in text
    assert ("--map" in text) == (wording is COMMAND_LINE)
    with pytest.raises(LegendError, match=r"truth: names without a class"):
        values.check_known({"lake": 1}, 1, "pixels")
    values.check_known({}, 5, "pixels")


def test_many_unknown_colours_look_like_compression():
    values = ClassValues(LEGEND, "truth", REGION_FILE)
    few = {f"#0000{i:02x}": 1 for i in range(16)}
    with pytest.raises(LegendError, match=r"colours without a class.*under `map:`"):
        values.check_known(few, 20, "pixels")
    with pytest.raises(LegendError, match="JPEG compression"):
        values.check_known(few | {"#aabbcc": 1}, 20, "pixels")


@pytest.mark.parametrize(
    ("kind", "item"), [("code", "lake"), ("code", "#0000ff"), ("colour", "3"), ("name", "#0000ff")]
)
def test_entries_of_another_kind_are_refused(kind, item):
    values = ClassValues(LEGEND, "truth", REGION_FILE, {item: (0,)})
    with pytest.raises(UsageError, match=rf"`map:` {item}: no {kind} of truth, as it is;"):
        values.check_entries(kind, "as it is")


def remarks(values, own=None, **entries):
    return ClassValues(LEGEND, "truth", COMMAND_LINE, entries).remarks(values, own)


def test_codes_are_doubted_only_where_the_map_recodes_others():
    assert remarks({1, 2, 4}) == ()
    assert remarks({0, 1, 2}, **{"0": (), "2": (1,)}) == ()
    (remark,) = remarks({1, 2, 40}, **{"40": (0,), "7": (1,)})
    assert "1 (water), 2 (trees); if one means something else, add --map 1=CLASS" in remark
    assert remarks({40, 7, "trees"}, **{"40": (0,), "7": (1,)}) == ()


def test_a_legend_of_the_file_that_agrees_removes_the_doubt():
    assert remarks({1, 2, 40}, LEGEND, **{"40": (0,)}) == ()
    other = Legend((LegendEntry(1, "Water", (0, 0, 0)), LegendEntry(2, "snow", (0, 0, 0))))
    (remark,) = remarks({1, 2}, other)
    assert "names of codes differ: 2 ('trees' in the map, 'snow' in the reference);" in remark
    assert remarks({1, 2}, other, **{"2": (1,)}) == ()
    palette = Legend((LegendEntry(1, "1", (0, 0, 0)),))
    assert remarks({1}, palette) == ()


def test_absent_names():
    assert absent_names(["lake", "Wood", "7", "#0a0b0c"], ["LAKE", "8"]) == ["Wood", "#0a0b0c"]
