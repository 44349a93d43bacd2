"""Names of outputs by a pattern."""

from pathlib import Path

import numpy as np
import pytest
from scene_rasters import write

from cwsam_geo.batch.batch_scene import BatchScene, scene_of
from cwsam_geo.batch.names import map_requests, output_paths, without_outputs
from cwsam_geo.errors import UsageError
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs


def requests(scenes, output, **outputs):
    return map_requests(scenes, output, PredictOptions(), PredictOutputs(**outputs))


def test_fields_are_filled():
    scenes = [scene_of((f"site/{s}_20240102.tif",), id=f"item-{s}") for s in "ab"]
    made = requests(
        scenes, "m/{parent}/{date}_{id}.tif", confidence="c/{stem}.tif", vectors="v/{stem}.gpkg"
    )
    assert output_paths(made[0]) == [
        Path("m/site/20240102_item-a.tif"),
        Path("c/a_20240102.tif"),
        Path("m/site/20240102_item-a.qml"),
        Path("v/a_20240102.gpkg"),
    ]
    assert made[0].scenes == ("site/a_20240102.tif",)


@pytest.mark.parametrize("output", ["maps/", "there"])
def test_a_folder_stands_for_a_pattern_in_it(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (made,) = requests([scene_of(("a.tif",))], output, confidence=output)
    assert output_paths(made) == [
        Path(output, "a_landcover.tif"),
        Path(output, "a_confidence.tif"),
        Path(output, "a_landcover.qml"),
    ]


@pytest.mark.parametrize(
    ("output", "more", "said"),
    [
        ("map.tif", {}, r"one name for 2 scenes.*\{stem\}_map.tif"),
        ("{parent}.tif", {}, "would be the output of x/a.tif and of x/b.tif"),
        ("{stem}.tif", {"confidence": "{stem}.tif"}, None),
        ("{stem}.tif", {"confidence": "c.tif"}, "c.tif: would be the output"),
        ("{name}.tif", {}, r"\{name\} is no field"),
        ("{}.tif", {}, "is no field"),
        ("{stem.tif", {}, "a brace is not closed"),
        ("{stem.__class__}.tif", {}, "is no field"),
        ("{date}.tif", {}, "tells its date"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_computed(output, more, said):
    scenes = [scene_of(("x/a.tif",)), scene_of(("x/b.tif",))]
    if said is None:  # check_apart refuses it, for the paths of one scene
        requests(scenes, output, **more)
        return
    with pytest.raises(UsageError, match=said):
        requests(scenes, output, **more)


def test_a_name_from_outside_does_not_leave_the_folder():
    scene = BatchScene((), "../../etc/x", "p", "..", None)
    (made,) = requests([scene], "maps/{stem}/{id}.tif")
    assert made.output == Path("maps/_.._etc_x/_.tif")


def test_maps_that_a_pattern_finds_again_are_no_scenes_and_scenes_are_no_outputs(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    values = np.zeros((4, 4), np.uint8)
    for name in ("a_map.tif", "a_map_map.tif"):
        write(name, values, tags={"CWSAM_GEO_VERSION": "0.1.0"})
    scenes = [scene_of((f"{s}.tif",)) for s in ("a", "a_map", "b", "a_map_map")]
    kept, made = without_outputs(scenes, requests(scenes, "{stem}_map.tif"))
    assert [s.stem for s in kept] == ["a", "b"]
    assert [r.output.name for r in made] == ["a_map.tif", "b_map.tif"]
    write("a_map.tif", values)
    with pytest.raises(UsageError, match="is one of the scenes"):
        without_outputs(scenes, requests(scenes, "{stem}_map.tif"))
