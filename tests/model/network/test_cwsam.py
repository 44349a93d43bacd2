"""The network: the authors' numbers, SAM's numbers, batches, padding, training."""

import dataclasses
import importlib
import json
import sys

import numpy as np
import pytest
import torch
from golden import (
    FUSAR_1,
    TINY_CHECKPOINT,
    images,
    numbers,
    relative_error,
    vit_b_folder,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MICRO

from cwsam_geo.errors import ModelError
from cwsam_geo.model.network import sam
from cwsam_geo.model.network.adapters import TrainableModule, low_pass
from cwsam_geo.model.network.architecture import BACKBONES, Architecture
from cwsam_geo.model.network.attention import Attention
from cwsam_geo.model.network.cwsam import Cwsam
from cwsam_geo.model.network.encoder import Block
from cwsam_geo.model.upstream.convert import convert

QUIRKS = {"scrambled_prompt": True, "attend_padding": True, "classes_fastest": True}
MAX_ERROR = 1e-5
# Nine tokens a side and windows of four: the last windows of each row reach over the edge.
RAGGED = dataclasses.replace(MICRO, tile_size=72)


def random_model(architecture, seed=0):
    """A model whose every tensor is random: adapters and relative positions too."""
    torch.manual_seed(seed)
    model = Cwsam(architecture).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def random_images(architecture, batch, seed=1):
    generator = torch.Generator().manual_seed(seed)
    size = architecture.tile_size
    return torch.randn(batch, 3, size, size, generator=generator)


# The authors' numbers


@torch.inference_mode()
def test_tiny_model_gives_the_authors_numbers():
    golden = numbers()
    model = convert(TINY_CHECKPOINT, FUSAR_1).bundle.build()
    inputs = images(golden["amplitude8"])
    embedding = model.encoder(inputs)
    errors = {
        "low_frequency": relative_error(low_pass(inputs)[:1, :1], golden["low_frequency"]),
        "image_embedding": relative_error(embedding, golden["image_embedding"]),
        "low_res_logits": relative_error(model(inputs), golden["low_res_logits"]),
    }
    assert max(errors.values()) <= MAX_ERROR, errors


@torch.inference_mode()
def test_tiny_logits_come_to_the_authors_full_resolution():
    from cwsam_geo.model.runtime.torch_ops import TorchOps

    golden = numbers()
    model = convert(TINY_CHECKPOINT, FUSAR_1).bundle.build()
    logits = model(images(golden["amplitude8"][:1]))
    full = TorchOps(torch.device("cpu")).upsample(logits[0], 4)
    assert relative_error(full, golden["logits_image0"][0]) <= MAX_ERROR


@pytest.mark.slow
@torch.inference_mode()
def test_vit_b_gives_the_authors_numbers(tmp_path):
    folder = vit_b_folder()
    if not (folder / "vit_b_io.safetensors").is_file():
        pytest.skip("the ViT-B numbers are not here (set CWSAM_GEO_GOLDEN to their folder)")
    spec = importlib.util.spec_from_file_location("weights_rule", folder / "weights_rule.py")
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    shapes = json.loads((folder / "vit_b_shapes.json").read_text())
    checkpoint = tmp_path / "vit_b.pth"
    torch.save(rule.golden_state_dict(shapes, salt="golden:"), checkpoint)
    bundle = convert(checkpoint, FUSAR_1).bundle
    assert bundle.architecture.backbone == BACKBONES["vit_b"]
    model, golden = bundle.build(), numbers(folder / "vit_b_io.safetensors")
    inputs = images(golden["amplitude8"])
    embedding = model.encoder(inputs)
    low = low_pass(inputs)[..., ::16, ::16]
    errors = {
        "low_frequency": relative_error(low, golden["low_frequency_every16"]),
        "image_embedding": relative_error(
            embedding[..., ::8, ::8], golden["image_embedding_every8"]
        ),
        "low_res_logits": relative_error(model.decoder(embedding), golden["low_res_logits"]),
    }
    assert max(errors.values()) <= MAX_ERROR, errors


@pytest.mark.parametrize("quirk", QUIRKS)
@torch.inference_mode()
def test_every_quirk_is_needed_for_the_authors_numbers(quirk):
    golden = numbers()
    bundle = convert(TINY_CHECKPOINT, FUSAR_1).bundle
    without = dataclasses.replace(bundle.architecture, **{quirk: False})
    header = dataclasses.replace(bundle.header, architecture=without)
    model = dataclasses.replace(bundle, header=header).build()
    logits = model(images(golden["amplitude8"]))
    assert relative_error(logits, golden["low_res_logits"]) > 1e-3


# SAM


@torch.inference_mode()
def test_encoder_with_fresh_adapters_is_sams():
    architecture = Architecture(RAGGED, 3, RAGGED.tile_size, attend_padding=True)
    modeling = sys.modules[sam._PRIVATE]
    theirs = modeling.ImageEncoderViT(
        img_size=72,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        out_chans=32,
        norm_layer=lambda dim: torch.nn.LayerNorm(dim, eps=1e-6),
        use_rel_pos=True,
        window_size=4,
        global_attn_indexes=(1,),
    ).eval()
    for parameter in theirs.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    torch.manual_seed(0)
    ours = Cwsam(architecture).encoder.eval()
    state = {**ours.state_dict(), **theirs.state_dict()}
    assert len(state) == len(ours.state_dict())
    ours.load_state_dict(state)
    inputs = random_images(architecture, 2)
    assert relative_error(ours(inputs), theirs(inputs)) < 1e-6


def test_sams_blocks_are_loaded_without_its_package():
    # Its __init__ would need torchvision.
    assert "segment_anything" not in sys.modules
    assert sys.modules[sam._PRIVATE].__name__ == sam._PRIVATE


def test_missing_segment_anything_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, sam._PRIVATE)
    with pytest.raises(ModelError, match="pip install segment-anything"):
        sam._load_modeling()


def test_backbones_have_sams_sizes():
    sizes = {
        "vit_b": (768, 12, 12, (2, 5, 8, 11)),
        "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
        "vit_h": (1280, 32, 16, (7, 15, 23, 31)),
    }
    for name, size in sizes.items():
        b = BACKBONES[name]
        assert (b.dim, b.depth, b.heads, b.global_blocks) == size
        assert (b.patch_size, b.window, b.decoder_dim, b.tile_size) == (16, 14, 256, 1024)
        assert Architecture(b, 5, 1024).stride == 4
    assert Architecture(BACKBONES["small"], 5, 256).stride == 2


# Batches, classes, sizes


@settings(max_examples=10, deadline=None)
@given(
    classes=st.sampled_from([2, 3, 17, 255]),
    tokens=st.integers(1, 9),
    quirks=st.fixed_dictionaries({name: st.booleans() for name in QUIRKS}),
)
@torch.inference_mode()
def test_three_tiles_at_once_equal_the_three_singly(classes, tokens, quirks):
    architecture = Architecture(MICRO, classes, 8 * tokens, **quirks)
    model, inputs = random_model(architecture), random_images(architecture, 3)
    together = model(inputs)
    assert together.shape == (3, classes, 4 * tokens, 4 * tokens)
    singly = torch.cat([model(image[None]) for image in inputs])
    assert relative_error(together, singly) < 1e-5
    assert not torch.allclose(together[0], together[1], rtol=1e-3)


@torch.inference_mode()
def test_small_backbone_with_random_weights_is_the_same_in_a_batch():
    architecture = Architecture(BACKBONES["small"], 6, 256)
    model, inputs = random_model(architecture), random_images(architecture, 3)
    together = model(inputs)
    assert together.shape == (3, 6, 128, 128)
    assert relative_error(together, torch.cat([model(i[None]) for i in inputs])) < 1e-5


@torch.inference_mode()
def test_classes_do_not_depend_on_the_order_of_the_convolutions_channels():
    ours = Architecture(MICRO, 5, 64)
    model = random_model(ours)
    other = Cwsam(dataclasses.replace(ours, classes_fastest=True)).eval()
    state = model.state_dict()
    for name in ("weight", "bias"):
        key = f"decoder.class_upscaling.3.{name}"
        state[key] = state[key].unflatten(0, (5, 4)).transpose(0, 1).flatten(0, 1)
    other.load_state_dict(state)
    inputs = random_images(ours, 2)
    assert relative_error(other(inputs), model(inputs)) < 1e-6


@torch.inference_mode()
def test_prompt_reads_each_token_unless_it_is_scrambled():
    for scrambled in (False, True):
        architecture = Architecture(MICRO, 3, 64, scrambled_prompt=scrambled)
        prompt = random_model(architecture).encoder.prompt
        tokens, inputs = torch.randn(1, 8, 8, 32), torch.zeros(1, 3, 64, 64)
        changed = tokens.clone()
        changed[0, 2, 3] += 1
        difference = prompt.features(inputs, changed) - prompt.features(inputs, tokens)
        places = difference.abs().amax(-1)[0].gt(0).nonzero().tolist()
        assert (places == [[2, 3]]) is not scrambled


def test_images_of_another_size_are_refused():
    model = random_model(Architecture(MICRO, 3, 64))
    for shape in ((1, 3, 72, 72), (3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 32)):
        with pytest.raises(ModelError, match=r"\(B, 3, 64, 64\)"):
            model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_classes": 1}, "2 to 255 classes"),
        ({"num_classes": 256}, "2 to 255 classes"),
        ({"tile_size": 60}, "multiple of 8"),
        ({"tile_size": 0}, "multiple of 8"),
        ({"tile_size": 8 * 10**6}, "multiple of 8"),
    ],
)
def test_architecture_refuses_what_cannot_be(change, says):
    with pytest.raises(ModelError, match=says):
        Architecture(**{"backbone": MICRO, "num_classes": 3, "tile_size": 64, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 10**9},
        {"dim": 40},
        {"heads": 3},
        {"depth": 0},
        {"depth": "2"},
        {"global_blocks": (2,)},
        {"decoder_dim": 24},
        {"patch_size": 6},
    ],
)
def test_backbone_refuses_what_cannot_be(change):
    with pytest.raises(ModelError, match=next(iter(change))):
        dataclasses.replace(MICRO, **change)


# Attention and frequencies, against their definitions


def naive_attention(attention, tokens, tokens_are, size):
    """Attention of one window, from its definition."""
    height, width, dim = tokens.shape
    n = attention.heads
    qkv = attention.qkv(tokens.reshape(-1, dim)).reshape(height * width, 3, n, dim // n)
    q, k, v = qkv.unbind(1)
    places = [(y, x) for y in range(height) for x in range(width)]
    out = torch.zeros(height * width, n, dim // n)
    for i, (y, x) in enumerate(places):
        seen = [j for j in range(len(places)) if tokens_are[j]]
        for head in range(n):
            scores = torch.stack(
                [
                    q[i, head] @ k[j, head] * (dim // n) ** -0.5
                    + q[i, head] @ attention.rel_pos_h[y - places[j][0] + size - 1]
                    + q[i, head] @ attention.rel_pos_w[x - places[j][1] + size - 1]
                    for j in seen
                ]
            )
            out[i, head] = scores.softmax(0) @ v[seen, head]
    return attention.proj(out.reshape(height, width, dim))


@torch.inference_mode()
def test_attention_is_as_defined_and_sees_no_padding():
    torch.manual_seed(0)
    attention = Attention(8, 2, 3)
    attention.rel_pos_h.normal_()
    attention.rel_pos_w.normal_()
    tokens = torch.randn(1, 3, 3, 8)
    for seen in ([True] * 9, [True, True, False] * 2 + [False] * 3):
        got = attention(tokens, torch.tensor([seen]))
        torch.testing.assert_close(got[0], naive_attention(attention, tokens[0], seen, 3))
    torch.testing.assert_close(attention(tokens), attention(tokens, torch.ones(1, 9).bool()))


@torch.inference_mode()
def test_padding_of_windows_changes_nothing_unless_the_quirk_is_on():
    """Window by window without any padding gives the same numbers."""
    architecture = Architecture(RAGGED, 3, RAGGED.tile_size)
    block = random_model(architecture).encoder.blocks[0]
    tokens = torch.randn(1, 9, 9, 32)
    attended = block._attend(tokens)
    for top in range(0, 9, 4):
        for left in range(0, 9, 4):
            part = tokens[0, top : top + 4, left : left + 4]
            alone = naive_attention(block.attn, part, [True] * part[..., 0].numel(), 4)
            torch.testing.assert_close(attended[0, top : top + 4, left : left + 4], alone)
    block.attend_padding = True
    quirky = block._attend(tokens)
    assert not torch.allclose(quirky[0, 8], attended[0, 8], atol=1e-3)
    torch.testing.assert_close(quirky[0, :8, :8], attended[0, :8, :8])


@torch.inference_mode()
def test_padded_tokens_hidden_values_have_no_influence():
    architecture = Architecture(RAGGED, 3, RAGGED.tile_size)
    block: Block = random_model(architecture).encoder.blocks[0]
    tokens = torch.randn(2, 9, 9, 32)
    before = block(tokens)
    assert torch.isfinite(before).all()
    # Padding is zeros, whose keys and values are the bias: a huge one must not be seen.
    block.attn.qkv.weight.zero_()
    block.attn.qkv.bias[32:64].zero_()
    block.attn.qkv.bias[64:] = 1
    attended = block._attend(tokens)
    torch.testing.assert_close(attended, attended[:, :1, :1].expand_as(attended))


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_low_pass_keeps_a_centred_square_of_the_spectrum(height, width, seed):
    image = np.random.default_rng(seed).normal(size=(1, 2, height, width)).astype(np.float32)
    half = int(np.sqrt(height * width / 4) // 2)
    spectrum = np.fft.fftshift(np.fft.fft2(image), axes=(-2, -1))
    mask = np.zeros((height, width))
    rows = slice(max(height // 2 - half, 0), height // 2 + half)
    columns = slice(max(width // 2 - half, 0), width // 2 + half)
    mask[rows, columns] = 1
    low = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum * mask, axes=(-2, -1))).real)
    np.testing.assert_allclose(low_pass(torch.from_numpy(image)).numpy(), low, atol=1e-5)


# Training


def trained_names(backbone):
    two = ("weight", "bias")
    names = {f"encoder.prompt.{n}" for n in ("image_embed.proj", "token_embed", "shared")}
    for i in range(backbone.depth):
        names.add(f"encoder.prompt.block_layers.{i}")
        for adapter in ("attention_adapter", "mlp_adapter"):
            names |= {f"encoder.blocks.{i}.{adapter}.{end}" for end in ("down", "up")}
    for layer in ("layers.0.", "layers.1."):
        where = f"decoder.transformer.{layer}"
        names |= {f"{where}norm{i}" for i in (1, 2, 3, 4)}
        names |= {f"{where}mlp.lin1", f"{where}mlp.lin2"}
    attentions = ["final_attn_token_to_image"] + [
        f"layers.{i}.{a}"
        for i in (0, 1)
        for a in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
    ]
    projections = ("q_proj", "k_proj", "v_proj", "out_proj")
    names |= {f"decoder.transformer.{a}.{p}" for a in attentions for p in projections}
    names.add("decoder.transformer.norm_final_attn")
    names |= {f"decoder.{part}.{i}" for part in ("upscaling", "class_upscaling") for i in (0, 1, 3)}
    names |= {f"decoder.hypernetwork.layers.{i}" for i in (0, 1, 2)}
    embeddings = {f"decoder.{e}.weight" for e in ("no_mask_embed", "iou_token", "mask_tokens")}
    return {f"{name}.{end}" for name in names for end in two} | embeddings


@pytest.mark.parametrize("backbone", [MICRO, BACKBONES["small"]], ids=["micro", "small"])
def test_what_is_trained_is_what_the_paper_trains(backbone):
    model = Cwsam(Architecture(backbone, 3, backbone.tile_size))
    names = trained_names(backbone)
    assert set(model.trainable_parameters()) == names
    model.freeze()
    assert {n for n, p in model.named_parameters() if p.requires_grad} == names
    assert set(model.frozen_tensors()) == set(model.state_dict()) - names
    assert "decoder.position.positional_encoding_gaussian_matrix" in model.frozen_tensors()
    assert any(isinstance(module, TrainableModule) for module in model.modules())


def gradients(model, inputs):
    model.zero_grad()
    weights = torch.randn(model(inputs[:1]).shape, generator=torch.Generator().manual_seed(3))
    (model(inputs) * weights).mean().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("quirks", [{}, QUIRKS], ids=["own", "authors"])
def test_gradients_reach_everything_that_is_trained_and_nothing_else(quirks):
    architecture = Architecture(RAGGED, 3, RAGGED.tile_size, **quirks)
    model = random_model(architecture)
    model.freeze()
    inputs = random_images(architecture, 2)
    plain = gradients(model, inputs)
    assert set(plain) == set(model.trainable_parameters())
    # A bias added to all keys alike cancels in the softmax.
    zero = {n for n, g in plain.items() if not g.abs().max() > 1e-7}
    assert all(n.endswith("k_proj.bias") for n in zero), zero
    model.encoder.checkpointing = True
    for name, gradient in gradients(model, inputs).items():
        torch.testing.assert_close(gradient, plain[name], msg=name)


def test_everything_can_be_trained_from_scratch():
    architecture = Architecture(MICRO, 3, 64)
    model = random_model(architecture)
    assert set(gradients(model, random_images(architecture, 2))) == {
        name for name, _ in model.named_parameters()
    }


def test_a_few_steps_of_training_fit_a_pattern():
    architecture = Architecture(MICRO, 2, 64)
    torch.manual_seed(0)
    model = Cwsam(architecture)
    model.freeze()
    inputs = torch.zeros(1, 3, 64, 64)
    inputs[..., 32:] = 1
    target = torch.zeros(1, 32, 32, dtype=torch.long)
    target[..., 16:] = 1
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quirks", [{}, QUIRKS], ids=["own", "authors"])
def test_half_precision_is_close_and_trains(dtype, quirks):
    architecture = Architecture(RAGGED, 3, RAGGED.tile_size, **quirks)
    model, inputs = random_model(architecture), random_images(architecture, 2)
    with torch.no_grad():
        exact = model(inputs)
    with torch.autocast("cpu", dtype):
        logits = model(inputs)
    assert relative_error(logits.detach(), exact) < 0.1
    logits.float().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
