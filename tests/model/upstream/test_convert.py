"""Upstream checkpoints become bundles: every key accounted for, nothing unpickled."""

import json
import pickle
import sys
import zipfile

import pytest
import torch
from doubles import legend
from golden import FUSAR_1, TINY_CHECKPOINT, images, numbers, relative_error
from safetensors.torch import save_file
from sam_checkpoint import sam_state

from cwsam_geo.cli.main import describe, main
from cwsam_geo.core.preprocess import amplitude8_spec
from cwsam_geo.errors import ModelError
from cwsam_geo.model import store
from cwsam_geo.model.bundles.bundle import BaseReference, ModelBundle
from cwsam_geo.model.bundles.tensors import tensors_sha256, trainable_names
from cwsam_geo.model.network import sam
from cwsam_geo.model.network.architecture import BACKBONES
from cwsam_geo.model.runtime.predictor import load_model
from cwsam_geo.model.upstream.checkpoint import infer_backbone
from cwsam_geo.model.upstream.convert import ConvertOptions, convert, sam_frozen_tensors

LEGEND_YAML = "classes:\n" + "".join(
    f'  - {{code: {e.code}, name: {e.name}, color: "{e.color}"}}\n' for e in FUSAR_1.entries
)


@pytest.fixture(scope="module")
def tiny():
    return torch.load(TINY_CHECKPOINT, weights_only=True)


@pytest.fixture
def saved(tmp_path):
    def save(content, name="model.pth", **how):
        torch.save(content, tmp_path / name, **how)
        return tmp_path / name

    return save


# CWSAM


def test_every_key_of_an_authors_checkpoint_is_accounted_for(tiny):
    conversion = convert(TINY_CHECKPOINT, FUSAR_1)
    dropped = [key for keys in conversion.dropped.values() for key in keys]
    assert sorted([*conversion.kept, *dropped]) == sorted(tiny)
    assert conversion.source == "cwsam"
    assert conversion.fresh == ()
    assert {why: len(keys) for why, keys in conversion.dropped.items()} == {
        "adapter that never runs": 16,
        "class weights of the training loss": 1,
        "masks 2 to 4, never used for classes": 18,
        "score of a mask's quality, not used for classes": 6,
    }
    for theirs, ours in conversion.kept.items():
        assert torch.equal(conversion.bundle.tensors[ours], tiny[theirs])


def test_sizes_are_inferred_and_the_quirks_are_on():
    bundle = convert(TINY_CHECKPOINT, FUSAR_1).bundle
    b, a = bundle.architecture.backbone, bundle.architecture
    assert (b.name, b.dim, b.depth, b.heads, b.patch_size) == ("custom", 64, 4, 2, 16)
    assert (b.window, b.global_blocks, b.decoder_dim, b.decoder_mlp_dim) == (7, (1, 3), 32, 2048)
    assert (a.tile_size, a.num_classes, a.stride) == (256, 5, 4)
    assert (a.scrambled_prompt, a.attend_padding, a.classes_fastest) == (True, True, True)
    assert bundle.preprocess == amplitude8_spec(256)
    assert bundle.provenance["trained"] is True
    assert bundle.provenance["converted_from"] == TINY_CHECKPOINT.name


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_sams_backbones_are_recognised(name):
    b = BACKBONES[name]
    empty = torch.zeros(1)
    state = {
        "image_encoder.pos_embed": empty.expand(1, 64, 64, b.dim),
        "image_encoder.patch_embed.proj.weight": empty.expand(b.dim, 3, 16, 16),
        "image_encoder.neck.0.weight": empty.expand(256, b.dim, 1, 1),
        "mask_decoder.transformer.layers.0.mlp.lin1.weight": empty.expand(2048, 256),
    }
    for i in range(b.depth):
        rows = 127 if i in b.global_blocks else 27
        table = empty.expand(rows, b.dim // b.heads)
        state[f"image_encoder.blocks.{i}.attn.rel_pos_h"] = table
    assert infer_backbone(state) == b


@torch.inference_mode()
def test_converted_file_gives_the_authors_logits(tmp_path):
    path = tmp_path / "tiny.safetensors"
    convert(TINY_CHECKPOINT, FUSAR_1).bundle.save(path)
    golden = numbers()
    logits = load_model(path)(images(golden["amplitude8"]))
    assert relative_error(logits, golden["low_res_logits"]) <= 1e-5


@torch.inference_mode()
def test_another_tile_size_can_be_asked_for(tmp_path):
    options = ConvertOptions(tile_size=128, name="mine")
    bundle = convert(TINY_CHECKPOINT, FUSAR_1, options).bundle
    assert (bundle.architecture.tile_size, bundle.preprocess.tile_size) == (128, 128)
    assert bundle.provenance["name"] == "mine"
    assert bundle.build()(torch.zeros(1, 3, 128, 128)).shape == (1, 5, 32, 32)
    with pytest.raises(ModelError, match="multiple of 16"):
        convert(TINY_CHECKPOINT, FUSAR_1, ConvertOptions(tile_size=100))


@pytest.mark.parametrize("wrap", ["model", "state_dict", "module", "both", "legacy"])
def test_wrapped_state_dicts(tiny, saved, wrap):
    inner = {f"module.{k}": v for k, v in tiny.items()} if wrap in ("module", "both") else tiny
    how = {"_use_new_zipfile_serialization": False} if wrap == "legacy" else {}
    whole = inner if wrap in ("module", "legacy") else {"state_dict": inner, "epoch": 3, "lr": 0.1}
    if wrap == "model":
        whole = {"model": inner, "optimizer": {"state": {}}}
    conversion = convert(saved(whole, **how), FUSAR_1)
    assert tensors_sha256(conversion.bundle.tensors) == tensors_sha256(
        convert(TINY_CHECKPOINT, FUSAR_1).bundle.tensors
    )
    beside = conversion.dropped.get("not weights, but beside them in the file", ())
    expected = {"model": ("optimizer",), "state_dict": ("epoch", "lr"), "both": ("epoch", "lr")}
    assert beside == expected.get(wrap, ())


def test_unknown_and_missing_keys_are_named(tiny, saved):
    more = {**tiny, "image_encoder.blocks.0.Extra_Adapter.weight": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"unknown tensor: image_encoder\.blocks\.0\.Ext"):
        convert(saved(more), FUSAR_1)
    key = "mask_decoder.cls_upscaling.0.weight"
    with pytest.raises(ModelError, match=rf"lacks 1 tensor: {key}"):
        convert(saved({k: v for k, v in tiny.items() if k != key}), FUSAR_1)
    for key in ("mask_decoder.cls_upscaling.3.bias", "image_encoder.neck.0.weight"):
        with pytest.raises(ModelError, match=f"no tensor {key}"):
            convert(saved({k: v for k, v in tiny.items() if k != key}), FUSAR_1)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("image_encoder.pos_embed", (16, 64)),
        ("image_encoder.pos_embed", (1, 16, 15, 64)),
        ("image_encoder.blocks.0.attn.rel_pos_h", (9, 32)),
        ("image_encoder.blocks.0.attn.rel_pos_h", (13, 0)),
        ("image_encoder.blocks.0.attn.rel_pos_w", (12, 32)),
        ("image_encoder.neck.0.weight", (4, 64, 1, 1)),
        ("mask_decoder.cls_upscaling.3.bias", (24,)),
        ("mask_decoder.mask_tokens.weight", (3, 32)),
        ("no_mask_embed.weight", ()),
    ],
)
def test_odd_shapes_are_one_clear_error(tiny, saved, key, shape):
    path = saved({**tiny, key: torch.zeros(shape)})
    with pytest.raises(ModelError, match=r"model\.pth: "):
        convert(path, FUSAR_1)


def test_legend_must_have_as_many_classes():
    with pytest.raises(ModelError, match="the checkpoint has 5 classes, but the legend 3"):
        convert(TINY_CHECKPOINT, legend(3))


# SAM


def test_sam_becomes_a_base_with_fresh_adapters(saved):
    state = sam_state()
    conversion = convert(saved(state), legend(7))
    bundle = conversion.bundle
    assert conversion.source == "sam"
    assert bundle.kind == "full"
    assert bundle.provenance["trained"] is False
    dropped = [key for keys in conversion.dropped.values() for key in keys]
    assert sorted([*conversion.kept, *dropped]) == sorted(state)
    assert set(conversion.kept.values()) | set(conversion.fresh) == set(bundle.tensors)
    assert not set(conversion.kept.values()) & set(conversion.fresh)
    # SAM's own positional encoding and no-mask embedding, which the authors' code lost.
    for ours, theirs in (
        ("decoder.position.positional_encoding_gaussian_matrix",
         "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
        ("decoder.no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
    ):  # fmt: skip
        assert torch.equal(bundle.tensors[ours], state[theirs])
    assert (bundle.architecture.scrambled_prompt, bundle.architecture.classes_fastest) == (
        False,
        False,
    )


@torch.inference_mode()
def test_base_has_sams_image_embedding(saved):
    state = sam_state()
    model = convert(saved(state), legend(3)).bundle.build()
    theirs = sys.modules[sam._PRIVATE].ImageEncoderViT(
        img_size=128, patch_size=16, embed_dim=32, depth=2, num_heads=2, out_chans=32,
        norm_layer=lambda dim: torch.nn.LayerNorm(dim, eps=1e-6),
        use_rel_pos=True, window_size=4, global_attn_indexes=(1,),
    ).eval()  # fmt: skip
    prefix = "image_encoder."
    theirs.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
    inputs = torch.randn(2, 3, 128, 128)
    assert relative_error(model.encoder(inputs), theirs(inputs)) < 1e-6


def test_the_same_seed_gives_the_same_base(saved):
    path = saved(sam_state())
    before = torch.random.get_rng_state()
    one = convert(path, legend(3)).bundle
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert tensors_sha256(convert(path, legend(3)).bundle.tensors) == tensors_sha256(one.tensors)
    other = convert(path, legend(3), ConvertOptions(seed=1)).bundle
    assert tensors_sha256(other.tensors) != tensors_sha256(one.tensors)
    assert other.frozen_sha256() == one.frozen_sha256()


def test_adapters_find_sams_checkpoint_as_their_base(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = saved(sam_state(), "sam_small.pth")
    options = ConvertOptions(tile_size=64)
    base = convert(path, legend(3), options).bundle
    frozen = sam_frozen_tensors(path)
    assert tensors_sha256(frozen) == base.frozen_sha256()
    assert set(frozen) == set(base.tensors) - trainable_names(base.architecture)
    adapters = base.adapters_only(BaseReference(base.frozen_sha256(), path.name))
    region = adapters.save(tmp_path / "region.safetensors")
    full = store.load_full(region)
    assert tensors_sha256(full.tensors) == tensors_sha256(base.tensors)
    # Another base of the same name, and a CWSAM checkpoint, do not serve.
    saved(sam_state(seed=1), "sam_small.pth")
    with pytest.raises(ModelError, match=r"put sam_small\.pth beside it"):
        store.load_full(region)
    path.write_bytes(TINY_CHECKPOINT.read_bytes())
    with pytest.raises(ModelError, match=r"put sam_small\.pth beside it"):
        store.load_full(region)
    with pytest.raises(ModelError, match="not a checkpoint of SAM"):
        sam_frozen_tensors(path)


# Files that are not what they seem


class _Evil:
    def __reduce__(self):
        return (exec, ("open('ran', 'w').close()",))


def evil(path):
    path.write_bytes(pickle.dumps({"model": _Evil()}))


def evil_zip(path):
    torch.save({"image_encoder.pos_embed": _Evil()}, path)


def cut(path):
    path.write_bytes(TINY_CHECKPOINT.read_bytes()[:-5000])


def cut_legacy(path):
    state = torch.load(TINY_CHECKPOINT, weights_only=True)
    torch.save(state, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-5000])


def flipped(path):
    data = bytearray(TINY_CHECKPOINT.read_bytes())
    for i in range(200, 2000):
        data[i] ^= 0x5A
    path.write_bytes(data)


def foreign_zip(path):
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("a.txt", "hello")


DAMAGES = {
    "evil": (evil, "not a plain file of weights"),
    "evil-zip": (evil_zip, "not a plain file of weights"),
    "cut": (cut, "not a"),
    "cut-legacy": (cut_legacy, "not a readable checkpoint"),
    "flipped": (flipped, "not a"),
    "zip": (foreign_zip, "not a readable checkpoint"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "html": (lambda p: p.write_bytes(b"\n<!DOCTYPE html><html>"), "a web page"),
    "lfs": (lambda p: p.write_bytes(b"version https://git-lfs" * 40), "git lfs pull"),
    "text": (lambda p: p.write_text("epoch 1\n" * 9), "no PyTorch checkpoint .*text"),
    "bytes": (lambda p: p.write_bytes(bytes(range(1, 99))), r"no PyTorch checkpoint; give"),
    "bundle": (lambda p: save_file({"a": torch.zeros(1)}, p), "a safetensors file"),
    "list": (lambda p: torch.save([1, 2], p), "no state dict"),
    "numbers": (lambda p: torch.save({"a": 1}, p), "'a' is no tensor"),
    "number-keys": (lambda p: torch.save({1: torch.zeros(1)}, p), "1 is no tensor"),
    "nothing": (lambda p: torch.save({}, p), "no state dict"),
    "sparse": (lambda p: torch.save({"a": torch.zeros(3, 3).to_sparse()}, p), "plain dense"),
    "other": (lambda p: torch.save({"fc.weight": torch.zeros(1)}, p), "neither a CWSAM nor a SAM"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_bad_files_are_one_clear_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage, says = DAMAGES[name]
    path = tmp_path / "in.pth"
    damage(path)
    with pytest.raises(ModelError, match=rf"in\.pth: .*{says}") as caught:
        convert(path, FUSAR_1)
    line, code = describe(caught.value)
    assert "\n" not in line
    assert code == 1
    assert not (tmp_path / "ran").exists()


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"no\.pth: no such file"):
        convert(tmp_path / "no.pth", FUSAR_1)


# The command


@pytest.fixture
def command_line(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


def test_command_writes_a_bundle_and_an_account(tmp_path, command_line):
    (tmp_path / "legend.yaml").write_text(LEGEND_YAML)
    path = tmp_path / "m.safetensors"
    arguments = ["convert", TINY_CHECKPOINT, "-o", path, "--legend", tmp_path / "legend.yaml"]
    code, out, err = command_line(*arguments)
    assert (code, err) == (0, "")
    assert "5 classes, tiles of 256 px" in out
    assert "16  adapter that never runs" in out
    assert "Depth_Adapter" not in out
    assert ModelBundle.load(path).legend == FUSAR_1
    code, _, err = command_line(*arguments)
    assert code == 2
    assert "--overwrite" in err
    more = ("--overwrite", "--json", "--tile-size", 128, "--name", "x")
    event = json.loads(command_line(*arguments, *more)[1])
    assert (event["event"], event["tile_size"]) == ("converted", 128)
    again = ModelBundle.load(path)
    assert sorted(event["kept"].values()) == sorted(again.tensors)
    assert again.provenance["name"] == "x"
    _, out, _ = command_line(*arguments, "--overwrite", "--verbose")
    assert "image_encoder.blocks.0.Depth_Adapter.D_fc1.weight" in out


def test_command_says_that_a_base_is_not_trained(tmp_path, command_line, saved):
    (tmp_path / "legend.yaml").write_text(LEGEND_YAML)
    path = tmp_path / "base.safetensors"
    code, out, _ = command_line(
        "convert", saved(sam_state()), "-o", path, "--legend", tmp_path / "legend.yaml"
    )
    assert code == 0
    assert "not trained yet" in out
    assert ModelBundle.load(path).provenance["trained"] is False


def test_command_does_not_replace_the_checkpoint(tmp_path, command_line, saved):
    (tmp_path / "legend.yaml").write_text(LEGEND_YAML)
    checkpoint, link = saved(sam_state()), tmp_path / "link.safetensors"
    link.symlink_to(checkpoint)
    before = checkpoint.read_bytes()
    for output in (checkpoint, link):
        code, _, err = command_line(
            *("convert", checkpoint, "-o", output, "--overwrite"),
            *("--legend", tmp_path / "legend.yaml"),
        )
        assert code == 2
        assert f"{output}: is the checkpoint too" in err
    assert checkpoint.read_bytes() == before


def test_command_refuses_in_one_line_and_writes_nothing(tmp_path, command_line):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(LEGEND_YAML)
    bad.write_text("classes: 3\n")
    html = tmp_path / "page.pth"
    html.write_text("<html></html>")
    out = tmp_path / "m.safetensors"
    for source, names, says in (
        (TINY_CHECKPOINT, bad, "classes must be a list"),
        (TINY_CHECKPOINT, tmp_path / "no.yaml", "no.yaml"),
        (html, good, "a web page"),
        (tmp_path / "no.pth", good, "no such file"),
    ):
        code, _, err = command_line("convert", source, "-o", out, "--legend", names)
        assert code == 1
        assert says in err
        assert len(err.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.yaml", "good.yaml", "page.pth"]
