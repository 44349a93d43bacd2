import pytest
import torch
from doubles import legend
from models import random_bundle
from sam_checkpoint import sam_state

from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.finetuning.start import find_start
from cwsam_geo.model import store
from cwsam_geo.model.bundles.bundle import BaseReference, ModelBundle
from cwsam_geo.model.bundles.tensors import tensors_sha256, trainable_names
from cwsam_geo.model.network.architecture import BACKBONES
from cwsam_geo.model.upstream.convert import sam_frozen_tensors
from cwsam_geo.model.upstream.published import CHECKPOINTS

HEAD = "decoder.class_upscaling.3"


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "cwsam-geo").mkdir(parents=True)


def named(*names):
    colors = [[0, 0, i] for i in range(len(names))]
    entries = zip(names, colors, strict=True)
    return Legend.from_list(
        [{"code": i, "name": n, "color": c} for i, (n, c) in enumerate(entries)]
    )


def test_a_backbone_starts_from_random_weights_that_the_seed_decides():
    starts = [find_start("small", legend(4), 64, seed) for seed in (0, 0, 1)]
    hashes = [tensors_sha256(s.tensors) for s in starts]
    assert hashes[0] == hashes[1] != hashes[2]
    assert starts[0].base is None
    model = starts[0].build("full")
    assert (model.architecture.backbone, model.architecture.tile_size) == (BACKBONES["small"], 64)
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(UsageError, match=r"--scope full"):
        starts[0].build("adapters")


def test_sams_checkpoint_starts_adapters_on_its_frozen_tensors(tmp_path):
    path = tmp_path / "sam_small.pth"
    torch.save(sam_state(), path)
    start = find_start(str(path), legend(3), 64, 0)
    assert start.base == BaseReference(
        tensors_sha256(sam_frozen_tensors(path)), "sam_small.pth", str(path)
    )
    model = start.build("adapters")
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(
        trainable_names(model.architecture)
    )
    assert start.preprocess is None
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 16, 16)


def test_sams_official_checkpoint_is_found_by_name_or_its_download_is_named():
    checkpoint = CHECKPOINTS["sam_vit_b"]
    with pytest.raises(ModelError, match="cwsam-geo models download sam_vit_b"):
        find_start("sam_vit_b", legend(3), 64, 0)
    torch.save(sam_state(), store.user_weights() / checkpoint.file_name)
    start = find_start("sam_vit_b", legend(3), 64, 0)
    assert (start.base.name, start.base.hint) == (checkpoint.file_name, checkpoint.url)


def test_a_bundle_keeps_everything_where_the_classes_are_the_same(tmp_path):
    bundle = random_bundle(legend(4))
    path = bundle.save(tmp_path / "model.safetensors")
    start = find_start(str(path), legend(4), 64, 0)
    assert tensors_sha256(start.tensors) == tensors_sha256(bundle.tensors)
    assert start.base.sha256 == bundle.frozen_sha256()
    assert start.preprocess == bundle.preprocess
    other_size = find_start(str(path), legend(4), 32, 0).build("full")
    assert other_size(torch.zeros(1, 3, 32, 32)).shape == (1, 4, 16, 16)


@pytest.mark.parametrize("classes_fastest", [False, True])
def test_classes_of_the_same_name_keep_their_logits(tmp_path, classes_fastest):
    from dataclasses import replace

    bundle = random_bundle(named("water", "trees", "crops"))
    architecture = replace(bundle.architecture, classes_fastest=classes_fastest)
    bundle = ModelBundle(replace(bundle.header, architecture=architecture), bundle.tensors)
    path = bundle.save(tmp_path / "model.safetensors")
    start = find_start(str(path), named("built", "crops", "water", "ice"), 64, 0)
    assert "it keeps the weights of the classes crops, water" in start.remarks[0]
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before, after = bundle.build()(images), start.build("full").eval()(images)
    torch.testing.assert_close(after[:, [1, 2]], before[:, [2, 0]])
    changed = {
        n for n, t in start.tensors.items()
        if t.shape != bundle.tensors[n].shape or not torch.equal(t, bundle.tensors[n])
    }  # fmt: skip
    assert changed == {f"{HEAD}.weight", f"{HEAD}.bias"}


def test_an_untrained_bundle_lends_no_classes_and_no_preprocessing(tmp_path):
    path = random_bundle(named("water", "trees"), trained=False).save(tmp_path / "m.safetensors")
    start = find_start(str(path), named("water", "ice"), 64, 0)
    assert "its classes are new" in start.remarks[0]
    assert start.preprocess is None


def test_adapters_on_adapters_need_the_first_base(tmp_path):
    full = random_bundle(legend(3))
    full.save(tmp_path / "base.safetensors")
    base = BaseReference(full.frozen_sha256(), "base.safetensors")
    path = full.adapters_only(base).save(tmp_path / "adapters.safetensors")
    assert find_start(str(path), legend(3), 64, 0).base == base


def test_what_is_not_there_or_is_the_authors_own_is_one_clear_error(tmp_path):
    from golden import TINY_CHECKPOINT

    with pytest.raises(ModelError, match="no such model"):
        find_start("nowhere", legend(3), 64, 0)
    with pytest.raises(ModelError, match="cwsam-geo convert"):
        find_start(str(TINY_CHECKPOINT), legend(5), 64, 0)


def test_tiles_that_are_no_whole_patches_are_a_mistake_of_the_region(tmp_path):
    path = random_bundle(legend(2), backbone=BACKBONES["tiny"]).save(tmp_path / "m.safetensors")
    for init in ("tiny", path):
        with pytest.raises(UsageError, match=r"tile_size 63: .* a multiple of 8, such as 64"):
            find_start(init, legend(2), 63, 0)
