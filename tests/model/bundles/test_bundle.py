"""Model bundles: written and opened again, refused when wrong, found by name, joined to a base."""

import dataclasses
import errno
import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from doubles import legend
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MICRO, gray_bundle, random_bundle, s1_spec

from cwsam_geo.core.temperatures import Temperatures, band_sets
from cwsam_geo.errors import ModelError, OutputError, UsageError
from cwsam_geo.model import store
from cwsam_geo.model.bundles.bundle import BaseReference, BundleHeader, ModelBundle, read_header
from cwsam_geo.model.bundles.tensors import (
    expected_shapes,
    fit_positions,
    position_names,
    tensors_sha256,
    trainable_names,
)
from cwsam_geo.model.network.architecture import Architecture
from cwsam_geo.model.upstream.published import find_checkpoint

K3 = legend(3)


@pytest.fixture(scope="module")
def bundle():
    return random_bundle(K3)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folders models are looked for in, all of them empty."""
    checkout, cache = tmp_path / "checkout", tmp_path / "cache"
    checkout.mkdir()
    (cache / "cwsam-geo").mkdir(parents=True)
    monkeypatch.setattr(store, "packaged_weights", lambda: tmp_path / "packaged")
    monkeypatch.setattr(store, "checkout_weights", lambda: checkout)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return {"checkout": checkout, "cache": cache / "cwsam-geo"}


def same(a, b):
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in a)


# Round trip


def test_what_was_saved_is_loaded(bundle, tmp_path):
    path = bundle.save(tmp_path / "m.safetensors")
    again = ModelBundle.load(path)
    assert same(again.tensors, bundle.tensors)
    assert again.header == dataclasses.replace(bundle.header, frozen_sha256=bundle.frozen_sha256())
    assert (again.legend, again.preprocess) == (bundle.legend, bundle.preprocess)
    assert again.provenance == {"trained": True}
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again.build()(images), bundle.build()(images))
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_saving_is_deterministic_and_never_overwrites_unasked(bundle, tmp_path):
    path = bundle.save(tmp_path / "m.safetensors")
    first = path.read_bytes()
    with pytest.raises(UsageError, match="overwrite"):
        bundle.save(path)
    bundle.save(path, overwrite=True)
    assert path.read_bytes() == first
    with pytest.raises(OutputError, match="does not exist"):
        bundle.save(tmp_path / "no" / "m.safetensors")


def test_a_link_keeps_leading_to_the_bundle(bundle, tmp_path):
    real, link = tmp_path / "v2.safetensors", tmp_path / "model.safetensors"
    link.symlink_to(real)
    bundle.save(link)
    bundle.save(link, overwrite=True)
    assert link.is_symlink()
    assert same(ModelBundle.load(real).tensors, bundle.tensors)


def test_a_write_that_fails_leaves_the_earlier_file(bundle, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"m\.safetensors: .* write elsewhere"):
            bundle.save(path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert path.read_bytes() == b"earlier"


NUMBERS = st.one_of(st.just(1.0), st.floats(0.01, 100), st.integers(1, 100))


@settings(max_examples=25, deadline=None)
@given(
    quirks=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    classes=st.integers(2, 255),
    tokens=st.integers(1, 64),
    ignore=st.booleans(),
    temperatures=st.one_of(
        st.builds(Temperatures, NUMBERS),
        st.dictionaries(st.sampled_from(band_sets(("VV", "VH"))), NUMBERS, min_size=1).map(
            lambda found: Temperatures(by_bands=found)
        ),
    ),
    provenance=st.dictionaries(
        st.text(max_size=5), st.one_of(st.integers(-9, 9), st.text(), st.none())
    ),
)
def test_header_survives_json(quirks, classes, tokens, ignore, temperatures, provenance):
    names = legend(classes)
    if ignore:
        names = dataclasses.replace(names, ignore=1)
    header = BundleHeader(
        "adapters",
        Architecture(MICRO, classes, 8 * tokens, *quirks),
        s1_spec(8 * tokens),
        names,
        {**provenance, "trained": False},
        BaseReference("ab" * 32, "sam_vit_b_01ec64.pth", "weights/sam_vit_b_01ec64.pth"),
        temperatures=temperatures,
    )
    assert BundleHeader.from_json(header.to_json()) == header


def test_a_bundle_without_a_temperature_has_1(bundle):
    assert "temperature" not in json.loads(bundle.header.to_json())
    assert BundleHeader.from_json(bundle.header.to_json()).temperatures == Temperatures()


@pytest.mark.parametrize("value", ["0", "-1", "0.001", "1e9", "NaN", "Infinity", '"2"', "true",
                                   "null", "[1]", '{"VV": 0}'])  # fmt: skip
def test_a_temperature_that_is_none_is_refused(bundle, value):
    text = bundle.header.to_json()
    with pytest.raises(ModelError, match=r"temperature .* is no number from 0.01 to 100"):
        BundleHeader.from_json(f'{text[:-1]}, "temperature": {value}}}')


def test_a_bundle_of_one_temperature_has_it_for_all_bands(bundle):
    text = bundle.header.to_json()
    found = BundleHeader.from_json(f'{text[:-1]}, "temperature": 0.5}}').temperatures
    assert [found.of(bands) for bands in band_sets(("VV", "VH"))] == [0.5] * 3
    assert found.calibrated(["VV"])


def test_a_temperature_is_that_of_the_bands_that_a_scene_has(bundle):
    text = bundle.header.to_json()
    given = '"temperature": {"VV,VH": 0.5, "VH": 2}'
    found = BundleHeader.from_json(f"{text[:-1]}, {given}}}").temperatures
    assert [found.of(bands) for bands in (["VV", "VH"], ["VV"], ["VH"])] == [0.5, 1, 2]
    assert [found.calibrated(bands) for bands in (["VV", "VH"], ["VV"])] == [True, False]
    said = "for VV, VH (temperature 0.5) and for VH (temperature 2), but not for other bands"
    assert said in found.text


@pytest.mark.parametrize("value", ['{"VH,VV": 1}', '{"HH": 1}', '{"": 1}', "{}"])
def test_temperatures_of_bands_that_the_model_has_not_are_refused(bundle, value):
    text = bundle.header.to_json()
    with pytest.raises(ModelError, match="is no set of the bands VV, VH; get the model again"):
        BundleHeader.from_json(f'{text[:-1]}, "temperature": {value}}}')


def test_training_a_model_does_not_change_its_bundle(bundle):
    before = bundle.frozen_sha256()
    model = bundle.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert bundle.frozen_sha256() == before


# Strictness


def test_header_parts_must_fit_together(bundle):
    header = bundle.header
    for change, says in (
        ({"legend": legend(4)}, "legend has 4 classes, but the model 3"),
        ({"preprocess": s1_spec(32)}, "tiles of 32 px, but the model takes 64 px"),
        ({"kind": "adapters"}, "need a base"),
        ({"kind": "half"}, "kind 'half'"),
        ({"provenance": {}}, "trained"),
    ):
        with pytest.raises(ModelError, match=says):
            dataclasses.replace(header, **change)


def test_wrong_tensors_are_named(bundle):
    name, position = "decoder.hypernetwork.layers.0.weight", "encoder.blocks.0.attn.rel_pos_h"
    tensors = dict(bundle.tensors)
    for change, says in (
        ({name: None}, f"missing {name}"),
        ({"encoder.extra": torch.zeros(1)}, "unexpected encoder.extra"),
        ({name: torch.zeros(32, 31)}, rf"{name} is \[32, 31\], not \[32, 32\]"),
        # Windows have the same size in every tile: nothing to interpolate.
        ({position: torch.zeros(9, 16)}, f"wrong shape: {position}"),
        ({"encoder.pos_embed": torch.zeros(1, 8, 9, 32)}, "encoder.pos_embed is"),
        ({"encoder.pos_embed": torch.zeros(8, 8, 32)}, "encoder.pos_embed is"),
        ({name: torch.zeros(32, 32, dtype=torch.int64)}, f"floating-point numbers: {name}"),
    ):
        wrong = {n: t for n, t in {**tensors, **change}.items() if t is not None}
        with pytest.raises(ModelError, match=says):
            ModelBundle(bundle.header, wrong)


def test_a_file_with_values_that_are_no_numbers_is_refused(bundle, tmp_path):
    tensors = {name: t.clone() for name, t in bundle.tensors.items()}
    name = next(n for n in tensors if n.startswith("decoder"))
    tensors[name].flatten()[0] = torch.nan
    path = ModelBundle(bundle.header, tensors).save(tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=rf"m\.safetensors: .*not finite numbers: {name}"):
        ModelBundle.load(path)


def test_a_file_with_a_wrong_tensor_is_refused_by_its_name(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = {n: t for n, t in bundle.tensors.items() if n != "encoder.pos_embed"}
    safetensors.torch.save_file(tensors, path, {"cwsam_geo": bundle.header.to_json()})
    with pytest.raises(ModelError, match=r"m\.safetensors: .*missing encoder\.pos_embed"):
        ModelBundle.load(path)


def rewritten(bundle, path, change):
    """The bundle's file with other metadata."""
    data = json.loads(bundle.header.to_json())
    change(data)
    text = data if isinstance(data, str) else json.dumps(data)
    safetensors.torch.save_file(dict(bundle.tensors), path, {"cwsam_geo": text})
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format_version=99), "bundle format 99 .* upgrade"),
        (lambda d: d.pop("format_version"), "bundle format None"),
        (lambda d: d.update(more=1), "fields .*more"),
        (lambda d: d.pop("legend"), "fields .*legend"),
        (lambda d: d.update(legend=None), "malformed"),
        (lambda d: d.update(legend={"classes": 3, "ignore": None}), "classes must be a list"),
        (lambda d: d["legend"]["classes"].pop(), "legend has 2 classes, but the model 3"),
        (lambda d: d.update(architecture=[]), "architecture"),
        (lambda d: d["architecture"].update(tile_size="64"), "tile size 64"),
        (lambda d: d["architecture"].update(attend_padding=1), "attend_padding"),
        (lambda d: d["architecture"]["backbone"].update(dim=10**12), "dim"),
        (lambda d: d["architecture"]["backbone"].update(depth=10**9), "depth"),
        (lambda d: d["architecture"]["backbone"].update(depth=250), "missing encoder.blocks"),
        (lambda d: d["architecture"]["backbone"].update(global_blocks="ab"), "backbone"),
        (lambda d: d["architecture"]["backbone"].pop("dim"), "dim"),
        (lambda d: d.update(preprocess={}), "preprocessing"),
        (lambda d: d["preprocess"].update(scaling="log"), "scaling"),
        (lambda d: d.update(provenance="x"), "malformed"),
        (lambda d: d.update(base={"sha": 1}), "malformed"),
        (lambda d: d.update(kind="adapters", base={"sha256": 1, "name": 2}), "text"),
        (lambda d: d.update(kind=["full"]), "kind"),
    ],
)
def test_malformed_metadata_is_one_clear_error(bundle, tmp_path, change, says):
    path = rewritten(bundle, tmp_path / "m.safetensors", change)
    with pytest.raises(ModelError, match=rf"m\.safetensors: .*{says}"):
        ModelBundle.load(path)


def cut(path, tmp_path):
    return path.read_bytes()[:-100]


def huge_header(path, tmp_path):
    return struct.pack("<Q", 1 << 62) + path.read_bytes()[8:]


def lying_offsets(path, tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    return struct.pack("<Q", len(header)) + header + b"0000"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "not a readable model"),
        (huge_header, "not a readable model"),
        (lying_offsets, "not a readable model"),
        (lambda path, tmp_path: b"", "is empty"),
        (lambda path, tmp_path: b"<!DOCTYPE html><html>not found</html>", "is a web page"),
        (lambda path, tmp_path: os.urandom(4096), "not a readable model"),
    ],
    ids=["cut", "huge-header", "lying-offsets", "empty", "html", "garbage"],
)
def test_damaged_files_are_one_clear_error(bundle, tmp_path, damage, message):
    path = bundle.save(tmp_path / "m.safetensors")
    path.write_bytes(damage(path, tmp_path))
    for read in (ModelBundle.load, read_header, store.load_full):
        with pytest.raises(ModelError, match=rf"m\.safetensors: {message}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(ModelError, match=r"no\.safetensors: no such file"):
        ModelBundle.load(tmp_path / "no.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(ModelError, match="no model bundle of cwsam-geo"):
        ModelBundle.load(foreign)
    checkpoint = tmp_path / "sam.pth"
    torch.save({"a": torch.zeros(1)}, checkpoint)
    with pytest.raises(ModelError, match="cwsam-geo convert"):
        store.load_full(checkpoint)


# Positions


def test_positions_are_fitted_to_another_tile_size(bundle):
    def resized(tile):
        header = dataclasses.replace(
            bundle.header,
            architecture=dataclasses.replace(bundle.architecture, tile_size=tile),
            preprocess=s1_spec(tile),
        )
        return ModelBundle(header, bundle.tensors)

    for tile in (32, 64, 136):
        model = resized(tile).build()
        with torch.inference_mode():
            assert model(torch.randn(1, 3, tile, tile)).shape == (1, 3, tile // 2, tile // 2)
        state = model.state_dict()
        assert {n: tuple(t.shape) for n, t in state.items()} == expected_shapes(model.architecture)
        untouched = set(state) - set(position_names(model.architecture))
        assert all(torch.equal(state[n], bundle.tensors[n]) for n in untouched)
        # The base stays the base, whatever the tile.
        assert resized(tile).frozen_sha256() == bundle.frozen_sha256()


def test_fitted_positions_interpolate(bundle):
    architecture = dataclasses.replace(bundle.architecture, tile_size=128)
    ramp = torch.arange(8.0).view(1, 8, 1, 1).expand(1, 8, 8, 32).contiguous()
    table = torch.arange(-7.0, 8.0)[:, None].expand(15, 16).contiguous()
    tensors = dict(bundle.tensors) | {"encoder.pos_embed": ramp}
    tensors |= dict.fromkeys(position_names(architecture)[1:], table)
    fitted = fit_positions(tensors, architecture)
    finer = fitted["encoder.pos_embed"]
    assert finer.shape == (1, 16, 16, 32)
    expected = torch.arange(4.0, 12.0) / 2 - 0.25
    torch.testing.assert_close(finer[0, 4:12, 3, 5], expected, atol=0.05, rtol=0)
    relative = fitted["encoder.blocks.1.attn.rel_pos_h"]
    assert relative.shape == (31, 16)
    torch.testing.assert_close(relative, -relative.flip(0))
    assert (relative.diff(dim=0) >= 0).all()


# Hashes and adapters


def test_hash_sees_names_shapes_types_and_values_but_not_the_order():
    a, b = torch.arange(6.0), torch.ones(2)
    one = tensors_sha256({"a": a, "b": b})
    assert one == tensors_sha256({"b": b, "a": a.clone()})
    assert one == tensors_sha256({"a": a.repeat_interleave(2)[::2], "b": b})
    others = [
        {"a": a, "c": b},
        {"a": a.view(2, 3), "b": b},
        {"a": a.half(), "b": b},
        {"a": a + 1e-6, "b": b},
        {"a": a},
    ]
    assert len({one, *(tensors_sha256(o) for o in others)}) == len(others) + 1
    # Written down, so that adapters find their base with later versions too.
    assert tensors_sha256({"x": torch.tensor([[1.0, 2.0]])}) == (
        "41e4808215ee7261c185de14c72ce9a7e31fac05e344b1021a9522be1b8dbc47"
    )


def adapters_of(bundle, base_name="base.safetensors", hint=""):
    """Fine-tuned elsewhere: the trained tensors are not those of the base."""
    reference = BaseReference(bundle.frozen_sha256(), base_name, hint)
    trained = trainable_names(bundle.architecture)
    tuned = {n: t + 1 if n in trained else t for n, t in bundle.tensors.items()}
    full = ModelBundle(bundle.header, tuned)
    return full, full.adapters_only(reference)


def test_adapters_hold_what_is_trained_and_join_their_base(bundle, tmp_path):
    full, adapters = adapters_of(bundle)
    again = ModelBundle.load(adapters.save(tmp_path / "a.safetensors"))
    assert again.kind == "adapters"
    assert set(again.tensors) == trainable_names(bundle.architecture)
    frozen = {n: t for n, t in bundle.tensors.items() if n not in again.tensors}
    joined = again.with_base(frozen)
    assert joined.kind == "full"
    assert same(joined.tensors, full.tensors)
    with pytest.raises(ModelError, match="not the weights that the adapters were trained on"):
        again.with_base({n: t + 1e-3 for n, t in frozen.items()})
    for forbidden in (again.build, again.frozen_sha256):
        with pytest.raises(ModelError, match="adapters"):
            forbidden()


@pytest.mark.parametrize("place", ["beside", "checkout", "cache", "hint", "relative hint"])
@pytest.mark.parametrize("name", ["base.safetensors", "renamed.safetensors"])
def test_base_is_found_wherever_it_may_be(bundle, tmp_path, places, place, name):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    hint = {"hint": str(elsewhere / name), "relative hint": f"../elsewhere/{name}"}.get(place, "")
    full, adapters = adapters_of(bundle, hint=hint)
    path = adapters.save(home / "region.safetensors")
    # Others that lie about: another base, garbage, other adapters.
    random_bundle(K3, seed=5).save(home / "another.safetensors")
    (home / "base.safetensors").write_bytes(b"garbage")
    adapters.save(home / "more.safetensors")
    folder = {"beside": home, **places}.get(place, elsewhere)
    bundle.save(folder / name, overwrite=True)
    assert same(store.load_full(path).tensors, full.tensors)


def test_missing_base_says_what_to_get(bundle, tmp_path, places):
    for name, says in (
        ("base.safetensors", r"put base\.safetensors beside it"),
        ("sam_vit_b_01ec64.pth", "cwsam-geo models download sam_vit_b"),
    ):
        path = adapters_of(bundle, name)[1].save(tmp_path / "region.safetensors", overwrite=True)
        with pytest.raises(ModelError, match=rf"region\.safetensors: .*{says}"):
            store.load_full(path)


def test_base_that_lies_about_itself_is_not_taken(bundle, tmp_path, places):
    _, adapters = adapters_of(bundle)
    path = adapters.save(tmp_path / "region.safetensors")
    other = random_bundle(K3, seed=5)
    lying = dataclasses.replace(other.header, frozen_sha256=bundle.frozen_sha256())
    safetensors.torch.save_file(
        dict(other.tensors), tmp_path / "base.safetensors", {"cwsam_geo": lying.to_json()}
    )
    with pytest.raises(ModelError, match="adapters only"):
        store.load_full(path)


# Names


def test_models_are_found_by_path_and_name(bundle, tmp_path, places):
    path = bundle.save(places["checkout"] / "world.safetensors")
    shutil.copy(path, places["cache"] / "world.safetensors")
    shutil.copy(path, places["cache"] / "mine.safetensors")
    assert store.find_model(path) == path
    assert store.find_model("world") == path
    assert store.find_model("world.safetensors") == path
    assert store.find_model("mine") == places["cache"] / "mine.safetensors"
    with pytest.raises(ModelError, match=r"moon: no such model file.*known: mine, world"):
        store.find_model("moon")
    with pytest.raises(ModelError, match="a folder"):
        store.find_model(tmp_path)


@pytest.mark.parametrize("name", ["sam_vit_b", "vit_l", "sam_vit_h_4b8939.pth"])
def test_sams_checkpoints_are_said_to_be_bases(bundle, places, name):
    bundle.save(places["checkout"] / "world.safetensors")
    official = find_checkpoint(name).name
    says = rf"{name}: .*no classes.*finetune --init {official}.*map with .*: world"
    with pytest.raises(ModelError, match=says):
        store.find_model(name)
    path = bundle.save(places["cache"] / f"{official}.safetensors")
    assert store.find_model(official) == path


@pytest.fixture
def locked(monkeypatch):
    """Makes folders look as if this user may not enter them; root, who may, sees the same."""

    def lock(folder):
        see = os.stat

        def refuse(path, *args, **options):
            if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(str(folder)):
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
            return see(path, *args, **options)

        monkeypatch.setattr(os, "stat", refuse)

    return lock


def test_a_home_that_may_not_be_entered_is_left_out(bundle, tmp_path, places, locked):
    path = bundle.save(places["checkout"] / "world.safetensors")
    bundle.save(places["cache"] / "mine.safetensors")
    locked(tmp_path / "cache")
    assert store.known_models() == {"world": path}
    assert store.find_model("world") == path
    assert store.load_full("world").legend == K3
    with pytest.raises(ModelError, match=r"mine: no such model file.*known: world"):
        store.find_model("mine")


def test_a_model_that_may_not_be_seen_is_named_by_its_path(bundle, tmp_path, places, locked):
    bundle.save(places["checkout"] / "world.safetensors")
    locked(tmp_path / "secret")
    with pytest.raises(ModelError, match=r"secret/m.safetensors: no permission.*: world\)"):
        store.find_model(tmp_path / "secret" / "m.safetensors")


def test_a_current_folder_that_may_not_be_entered_hides_no_model_by_name(
    bundle, places, locked, monkeypatch
):
    path = bundle.save(places["checkout"] / "world.safetensors")
    monkeypatch.chdir(places["cache"])
    locked("world")  # a name is looked for in the current folder first
    assert store.find_model("world") == path


def test_a_user_without_a_home_has_the_other_models(bundle, places, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    path = bundle.save(places["checkout"] / "world.safetensors")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", staticmethod(no_home))
    assert store.user_weights() is None
    assert store.find_model("world") == path
    with pytest.raises(ModelError, match="known: world"):
        store.find_model("moon")


def test_a_former_name_finds_the_model_and_says_its_name(bundle, places, monkeypatch):
    monkeypatch.setattr(store, "FORMER_NAMES", {"globe": "world"})
    path = bundle.save(places["checkout"] / "world.safetensors")
    assert store.find_model("globe") == store.find_model("globe.safetensors") == path
    assert store.renamed("globe", path) == "the model globe is called world now"
    assert store.renamed("world", path) is None
    assert store.renamed(path, path) is None
    # A model of the user that has the name itself comes first, and nothing is said of it.
    other = bundle.save(places["cache"] / "globe.safetensors")
    assert store.find_model("globe") == other
    assert store.renamed("globe", other) is None
    # Of a bundled model that took the name over, the user is told who had it.
    heir = bundle.save(places["checkout"] / "globe.safetensors")
    assert store.find_model("globe") == heir
    assert store.renamed("globe", heir) == (
        "globe is another model now; the one that had this name before is called world"
    )
    assert store.renamed(heir, heir) is None
    with pytest.raises(ModelError, match=r"known: globe, world\)"):
        store.find_model("moon")


def test_without_any_model_the_error_says_so(places):
    with pytest.raises(ModelError, match="known: none"):
        store.find_model("moon")


def test_gray_bundle_of_the_authors_preprocessing_loads(tmp_path):
    path = gray_bundle(K3).save(tmp_path / "gray.safetensors")
    assert ModelBundle.load(path).preprocess.scaling == "amplitude8"
