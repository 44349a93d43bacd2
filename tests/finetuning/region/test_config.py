"""``region.yaml``: what it may say, and how wrong keys and values are named."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import EXAMPLES

from cwsam_geo.errors import CwsamGeoError, UsageError
from cwsam_geo.finetuning.region.pairs import find_pairs
from cwsam_geo.finetuning.region.region_file import load_region, parse_region

ISSUE = """
classes:
  - {code: 1, name: water, color: "#0000ff"}
  - {code: 2, name: trees, color: "#00ff00"}
scenes:
  - scene: a_vv_vh.tif
    labels: a_labels.tif
    map: {0: ignore, 1: water, 5: trees, 9: [trees, water]}
    split: train
init: sam_vit_b
train: {epochs: 50, lr: 2.0e-4, batch_size: auto, tile_size: 512, loss: ce, class_weights: auto,
        augment: [flip, rot90, speckle]}
validation: {block_size_m: 2000, fraction: 0.25}
"""


def minimal(**more):
    return {
        "classes": [
            {"code": 1, "name": "water", "color": "#0000ff"},
            {"code": 2, "name": "trees", "color": "#00ff00"},
        ],
        "scenes": [{"scene": "a.tif", "labels": "l.gpkg"}],
        **more,
    }


@pytest.fixture
def folder(tmp_path):
    for name in ("a.tif", "l.gpkg", "a_vv_vh.tif", "a_labels.tif"):
        (tmp_path / name).touch()
    return tmp_path


def test_the_issues_example(folder):
    path = folder / "region.yaml"
    path.write_text(ISSUE)
    config = load_region(path)
    assert config.legend.names == ["water", "trees"]
    (scene,) = config.scenes
    assert scene.pair.scene == (str(folder / "a_vv_vh.tif"),)
    assert scene.pair.labels == str(folder / "a_labels.tif")
    assert scene.map == {"0": (), "1": (0,), "5": (1,), "9": (0, 1)}
    assert scene.split == "train"
    assert (config.recipe.epochs, config.recipe.lr, config.recipe.batch_size) == (50, 2e-4, None)
    assert config.recipe.class_weights == "auto"
    assert config.tiles.tile_size == 512
    assert config.tiles.shared == 64
    assert config.tiles.augment == ("flip", "rot90", "speckle")
    assert (config.blocks.block_size_m, config.blocks.fraction) == (2000, 0.25)
    assert config.init == "sam_vit_b"


def test_overrides_win_key_by_key(folder):
    path = folder / "region.yaml"
    path.write_text(ISSUE)
    config = load_region(path, {"train": {"epochs": 3, "device": "cpu"}, "init": "tiny"})
    assert (config.recipe.epochs, config.recipe.lr) == (3, 2e-4)
    assert (config.machine.device, config.init) == ("cpu", "tiny")


def test_defaults(folder):
    config = parse_region(minimal(), folder, "r.yaml")
    assert config.recipe.lr == 2e-4
    assert config.blocks.block_size_m is None
    assert config.scenes[0].split is None
    assert config.scenes[0].map is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clases": []}, "unknown key 'clases'; did you mean classes"),
        ({"train": {"epoch": 3}}, "train: unknown key 'epoch'; did you mean epochs"),
        ({"validation": {"block_size": 3}}, "did you mean block_size"),
        ({"preprocess": {"band": "VV"}}, "did you mean bands"),
        ({"scenes": [{"scene": "a.tif", "label": "l.gpkg"}]}, "entry 1: unknown key 'label'"),
        ({"scenes": [{"scene": "a.tif"}]}, "entry 1: needs the key labels"),
        ({"scenes": []}, "scenes must be a list"),
        ({"train": {"epochs": "many"}}, "epochs: 'many' is not a whole number"),
        ({"train": {"epochs": 0}}, "epochs 0"),
        ({"train": {"epochs": float("inf")}}, "epochs: inf is not a whole number"),
        ({"train": {"samples": float("nan")}}, "samples: nan is not a whole number"),
        ({"validation": {"block_size_m": float("nan")}}, "block_size_m nan"),
        ({"train": {"lr": "fast"}}, "lr: 'fast' is not a number"),
        ({"train": {"augment": ["hue"]}}, "augment: 'hue' is none of flip, rot90"),
        ({"train": {"tile_size": 8}}, "tile_size 8"),
        ({"train": {"overlap": 400}}, "overlap 400"),
        ({"train": {"scope": "half"}}, "scope: 'half'"),
        ({"train": {"class_weights": [1, 2, 3]}}, "3 weights for 2 classes"),
        ({"train": {"class_weights": {"water": 1}}}, "no weight for trees"),
        ({"train": {"class_weights": {"lava": 1}}}, "no class 'lava'"),
        ({"train": {"checkpointing": "yes"}}, "neither true nor false"),
        ({"validation": {"fraction": 1.5}}, "fraction 1.5"),
        ({"validation": {"block_size_m": 5, "block_size_px": 5}}, "not both"),
        ({"validation": {"fraction": 0.5, "test_fraction": 0.5}}, "test_fraction 0.5"),
        ({"ignore": "lava"}, "no class 'lava'"),
        ({"init": [1]}, "init"),
        ({"train": 3}, "train: needs keys"),
    ],
)
def test_what_is_wrong_is_named(folder, change, message):
    with pytest.raises(UsageError) as caught:
        parse_region(minimal(**change), folder, "r.yaml")
    assert "r.yaml" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_legend_of_one_class(folder):
    data = minimal()
    data["classes"].pop()
    with pytest.raises(UsageError, match="one class"):
        parse_region(data, folder, "r.yaml")


@pytest.mark.parametrize(
    ("given_map", "message"),
    [
        ({0: "lava"}, "0: no class 'lava'"),
        ({0: ["water", "ignore"]}, "no class 'ignore'"),
        ({0: []}, "empty list"),
        ([1, 2], "what each code is"),
        (None, "colours in quotes"),
        ({}, "what each code is"),
        ({1: "water", "1": "trees"}, "1 is given twice"),
        ({"#0000FF": "water", "#0000ff": "trees"}, "#0000ff is given twice"),
        ({True: "water"}, "True is no code, name or colour.*quotes"),
        ({None: "water"}, "None is no code"),
    ],
)
def test_maps_that_mean_nothing(folder, given_map, message):
    data = minimal()
    data["scenes"][0]["map"] = given_map
    with pytest.raises(CwsamGeoError, match=message):
        parse_region(data, folder, "r.yaml")


def test_map_takes_names_codes_and_colours(folder):
    data = minimal()
    data["scenes"][0]["map"] = {" lake": 1, "#00FF0a": "trees", 7: ["2"], 8.0: 1, "x": "ignore"}
    config = parse_region(data, folder, "r.yaml")
    assert config.scenes[0].map == {"lake": (0,), "#00ff0a": (1,), "7": (1,), "8": (0,), "x": ()}


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "classes: 1\nclasses: 2", "\x00"])
def test_files_that_are_no_mapping(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"r\.yaml") as caught:
        load_region(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CwsamGeoError, match=r"gone\.yaml: cannot be read") as caught:
        load_region(tmp_path / "gone.yaml")
    assert caught.value.exit_code == 1


def test_lr_without_a_dot_is_a_number(folder):
    data = yaml.safe_load("train: {lr: 2e-4}")
    assert isinstance(data["train"]["lr"], str)
    assert parse_region(minimal(**data), folder, "r").recipe.lr == 2e-4


def test_weights_by_name_follow_the_legend(folder):
    config = parse_region(
        minimal(train={"class_weights": {"trees": 2, "water": 0.5}}), folder, "r.yaml"
    )
    assert config.recipe.class_weights == (0.5, 2.0)


def test_a_file_beside_the_region_is_the_start(folder):
    (folder / "base.safetensors").touch()
    config = parse_region(minimal(init="base.safetensors"), folder, "r.yaml")
    assert config.init == str(folder / "base.safetensors")


@pytest.mark.parametrize(
    ("name", "classes", "weights"),
    [
        (
            "fusar_map_1.yaml",
            {
                "building": (255, 0, 0),
                "vegetation": (0, 255, 0),
                "water": (0, 0, 255),
                "road": (255, 255, 0),
                "background": (0, 0, 0),
            },
            (1.5, 1, 0.5, 1.9, 0.1),
        ),
        (
            "fusar_map_2.yaml",
            {
                "water": (0, 0, 255),
                "woodland": (0, 139, 0),
                "vegetation": (0, 255, 0),
                "bare soil": (139, 0, 0),
                "industry": (255, 0, 0),
                "residence": (205, 173, 0),
                "road": (83, 134, 139),
                "paddy": (0, 139, 139),
                "planting": (139, 105, 20),
                "human built": (189, 183, 107),
            },
            (0.4, 1.6, 0.4, 1.6, 1.0, 0.5, 1.5, 1.7, 1.4, 0.9),
        ),
    ],
)
def test_fusar_map_as_published(tmp_path, name, classes, weights):
    data = yaml.safe_load((EXAMPLES / name).read_text())
    for place, number in (("Kunming_01", "001"), ("Wuhan_02", "017")):
        for key in ("scene", "labels"):
            path = data["scenes"][0][key].format(
                place=place, number=number, name=f"{place}_{number}"
            )
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    config = parse_region(data, tmp_path, name)
    assert {e.name: e.rgb for e in config.legend.entries} == classes
    assert config.recipe.class_weights == weights
    assert (config.recipe.lr, config.recipe.lr_end, config.recipe.epochs) == (2e-4, 1e-7, 200)
    assert config.tiles.tile_size == 1024
    assert len(config.scenes) == 2
    assert (config.legend.ignore is not None) == (name == "fusar_map_1.yaml")


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def relative(pairs, folder):
    def short(path):
        return str(Path(path).relative_to(folder))

    return [(*(short(f) for f in p.scene), short(p.labels)) for p in pairs]


def test_pairs_by_name(tmp_path):
    touch(tmp_path, "img/a.tif", "img/b.tif", "img/c.png", "lab/a_l.png", "lab/b_l.png")
    pairs = find_pairs(["img/{name}.tif"], "lab/{name}_l.png", tmp_path, "r")
    assert relative(pairs, tmp_path) == [("img/a.tif", "lab/a_l.png"), ("img/b.tif", "lab/b_l.png")]
    assert not pairs[0].shared


def test_pairs_of_single_band_files_and_several_placeholders(tmp_path):
    touch(
        tmp_path,
        *("s1/x_vv_1.tif", "s1/x_vh_1.tif", "s1/y_vv_2.tif", "s1/y_vh_2.tif"),
        *("x-1.gpkg", "y-2.gpkg"),
    )
    pairs = find_pairs(
        ["s1/{site}_vv_{n}.tif", "s1/{site}_vh_{n}.tif"], "{site}-{n}.gpkg", tmp_path, "r"
    )
    assert relative(pairs, tmp_path) == [
        ("s1/x_vv_1.tif", "s1/x_vh_1.tif", "x-1.gpkg"),
        ("s1/y_vv_2.tif", "s1/y_vh_2.tif", "y-2.gpkg"),
    ]


def test_scenes_may_share_their_labels(tmp_path):
    touch(tmp_path, "a.tif", "b.tif", "all.gpkg")
    pairs = find_pairs(["*.tif"], "all.gpkg", tmp_path, "r")
    assert [p.shared for p in pairs] == [True, True]


def test_labels_by_wildcard(tmp_path):
    touch(tmp_path, "a.tif", "a_2021.gpkg")
    (pair,) = find_pairs(["{name}.tif"], "{name}_*.gpkg", tmp_path, "r")
    assert pair.labels.endswith("a_2021.gpkg")
    touch(tmp_path, "a_2022.gpkg")
    with pytest.raises(UsageError, match=r"1 of 1 scene .*2 files match .*a_\*\.gpkg"):
        find_pairs(["{name}.tif"], "{name}_*.gpkg", tmp_path, "r")


@pytest.mark.parametrize("labels", ["{name}_labels.tif", "{name}_l*.tif", "{name}-labels/x.tif"])
def test_labels_beside_the_scenes_are_no_scenes(tmp_path, labels):
    beside = [labels.format(name=name).replace("*", "abels") for name in ("a", "b_c", "a_b")]
    touch(tmp_path, "a.tif", "b_c.tif", "a_b.tif", *beside)
    pairs = find_pairs(["{name}.tif"], labels, tmp_path, "r")
    assert set(relative(pairs, tmp_path)) == set(
        zip(("a.tif", "b_c.tif", "a_b.tif"), beside, strict=True)
    )
    touch(tmp_path, "d.tif")
    with pytest.raises(UsageError, match=r"1 of 4 scenes without a file.*d\.tif"):
        find_pairs(["{name}.tif"], labels, tmp_path, "r")


def test_further_bands_and_shared_labels_beside_the_scenes_are_no_scenes(tmp_path):
    touch(tmp_path, "a.tif", "a_vh.tif", "b.tif", "b_vh.tif", "labels.tif")
    pairs = find_pairs(["{name}.tif", "{name}_vh.tif"], "labels.tif", tmp_path, "r")
    assert relative(pairs, tmp_path) == [
        ("a.tif", "a_vh.tif", "labels.tif"),
        ("b.tif", "b_vh.tif", "labels.tif"),
    ]
    with pytest.raises(UsageError, match=r"finds no scene, only files that are labels"):
        find_pairs(["a.tif"], "a.tif", tmp_path, "r")


def test_scenes_without_labels_are_named(tmp_path):
    touch(tmp_path, "a.tif", "b.tif", "a.gpkg")
    with pytest.raises(UsageError, match=r"1 of 2 scenes.*b\.tif"):
        find_pairs(["{name}.tif"], "{name}.gpkg", tmp_path, "r")


@pytest.mark.parametrize(
    ("scene", "labels", "words"),
    [
        (["a.tif"], "no.tif", r"^r: {0}/no\.tif: no such file; check `labels`$"),
        (["a.tif", "vh.tif"], "l.gpkg", r"^r: {0}/vh\.tif: no such file; check `scene`$"),
        (["*.tif"], "no.gpkg", r"^r: {0}/no\.gpkg: no such file; check `labels`$"),
        (
            ["{n}.tif"],
            "{n}.gpkg",
            r"2 of 3 scenes without .*a\.tif \(no {0}/a\.gpkg\), .*c\.tif",
        ),
        (["{n}.tif"], "x_{n}_*.gpkg", r"3 of 3 scenes .*a\.tif \(nothing matches .*x_a_\*\.gpkg\)"),
        (["{n}.tif"], "{n}*.gpkg", r"1 of 3 scenes .*b\.tif \(2 files match .*b\*\.gpkg\)"),
    ],
)
def test_files_that_are_missing_are_named(tmp_path, scene, labels, words):
    touch(tmp_path, "a.tif", "b.tif", "c.tif", "l.gpkg", "b.gpkg")
    if labels == "{n}*.gpkg":
        touch(tmp_path, "a.gpkg", "c_1.gpkg", "b_2.gpkg")
    with pytest.raises(UsageError, match=words.format(tmp_path)):
        find_pairs(scene, labels, tmp_path, "r")


def test_patterns_that_match_nothing_or_mean_nothing(tmp_path):
    with pytest.raises(UsageError, match="no scene matches"):
        find_pairs(["{name}.tif"], "{name}.gpkg", tmp_path, "r")
    touch(tmp_path, "a.tif", "a.gpkg")
    with pytest.raises(UsageError, match=r"\{nam\}.*stands for nothing"):
        find_pairs(["{name}.tif"], "{nam}.gpkg", tmp_path, "r")


def test_addresses_are_left_alone(tmp_path):
    touch(tmp_path, "l.gpkg")
    (pair,) = find_pairs(["https://x.org/a?b=1.tif"], "l.gpkg", tmp_path, "r")
    assert pair.scene == ("https://x.org/a?b=1.tif",)


names = st.text(st.sampled_from("ab[]()+.-_ 1"), min_size=1, max_size=6).filter(
    lambda n: n.strip(" .") == n
)


@given(st.sets(names, min_size=1, max_size=5))
@settings(max_examples=40)
def test_any_name_finds_its_labels(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("pairs[1]")
    for name in found:
        touch(folder, f"s/{name}.tif", f"l/lab {name}.tif")
    pairs = find_pairs(["s/{name}.tif"], "l/lab {name}.tif", folder, "r")
    assert set(relative(pairs, folder)) == {(f"s/{n}.tif", f"l/lab {n}.tif") for n in found}
    assert len(pairs) == len(found)
