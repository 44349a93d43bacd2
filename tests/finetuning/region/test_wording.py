"""Messages name a setting as region.yaml spells it, or as the command line does."""

import pytest

from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.finetuning.region.wording import OPTIONS, errors_in_words_of, in_words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("say it with --units db, power", "say it with `units: db`, power"),
        ("as --units says", "as `units:` says"),
        ("pass --nodata -9999, or --nodata none to", "pass `nodata: -9999`, or `nodata: none` to"),
        ("pass --nodata 0.5.", "pass `nodata: 0.5`."),
        ("pass that value with --nodata", "pass that value with `nodata:`"),
        ("use --bidx 1,2", "use `bands: [1, 2]`"),
        ("VV, VH: -b 2,1, or -b 1 if", "VV, VH: `bands: [2, 1]`, or `bands: [1]` if"),
        ("are the bands swapped (-b)?", "are the bands swapped (`bands:`)?"),
        ("as -b says; a-b and -bar", "as `bands:` says; a-b and -bar"),
        ("choose it (--band), or", "choose it (`label_band:`), or"),
        ("name it (--column): a, b", "name it (`column:`): a, b"),
        ("choose one with --layer: x", "choose one with `layer:`: x"),
        ("pass --overwrite or --device cpu", "pass --overwrite or --device cpu"),
        ("--unitsx --map-list", "--unitsx --map-list"),
    ],
)
def test_options_of_other_commands_are_keys_of_the_region(text, expected):
    assert in_words_of(text, "region.yaml") == expected


def test_without_a_region_file_keys_are_told_to_be_its():
    assert in_words_of("name it (--column): a", OPTIONS) == "name it (--column): a"
    assert in_words_of("choose one with --layer: x", OPTIONS) == (
        "choose one with `layer:`: x (`layer:`: a key of REGION.yaml)"
    )
    assert in_words_of("`units: db` or `split: val` or `units:`", OPTIONS).endswith(
        "(`units:` and `split:`: keys of REGION.yaml)"
    )


def test_errors_keep_their_type():
    with (
        pytest.raises(SceneError, match=r"^`units: db`$"),
        errors_in_words_of("region.yaml"),
    ):
        raise SceneError("--units db")
    with pytest.raises(UsageError, match=r"^as it is$"), errors_in_words_of(OPTIONS):
        raise UsageError("as it is")
