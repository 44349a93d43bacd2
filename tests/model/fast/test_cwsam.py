"""The fast path gives the plain model's numbers, whatever the geometry, options and operators."""

import dataclasses
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from doubles import legend
from golden import FUSAR_1, TINY_CHECKPOINT, images, numbers, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MICRO, SMALL, random_bundle

from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.model.device import check_compile, resolve_precision, tune_allocator
from cwsam_geo.model.fast.arithmetic import Arithmetic, choose_arithmetic, onednn_works
from cwsam_geo.model.fast.attention import RelativePositions
from cwsam_geo.model.fast.cwsam import FastCwsam, accelerate
from cwsam_geo.model.fast.encoder import LowPass
from cwsam_geo.model.fast.layout import TokenLayout
from cwsam_geo.model.network.adapters import low_pass
from cwsam_geo.model.network.architecture import BACKBONES, Architecture
from cwsam_geo.model.network.attention import Attention
from cwsam_geo.model.network.cwsam import Cwsam
from cwsam_geo.model.runtime.predictor import LoadedModel, load_model
from cwsam_geo.model.upstream.convert import convert

MAX_ERROR = 1e-5
MIN_AGREEMENT = 0.9999
AUTOCAST_FACTOR = 2.0
CPU = torch.device("cpu")
KERNELS = ("blocked", "folded", "flex")

# Windows that reach over the edge, that fit, and one that is larger than the tile.
RAGGED = dataclasses.replace(MICRO, dim=64, heads=2, depth=3, window=6, tile_size=128)
WIDE_WINDOW = dataclasses.replace(MICRO, window=14)
# SAM's own grid: 64 tokens a side, padded to 70 by windows of 14, in a narrow and flat model.
SAM_GRID = dataclasses.replace(
    MICRO, dim=96, heads=3, patch_size=16, window=14, tile_size=1024, decoder_mlp_dim=64
)


def random_model(backbone, classes=5, quirks=True, seed=0, texture_dim=0):
    """Every tensor random, and none so large that softmax picks a single token."""
    torch.manual_seed(seed)
    options = dict.fromkeys(("scrambled_prompt", "attend_padding", "classes_fastest"), quirks)
    options["texture_dim"] = texture_dim
    model = Cwsam(Architecture(backbone, classes, backbone.tile_size, **options)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
            elif parameter.ndim == 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
            elif parameter.any():
                continue
            else:  # adapters and prompts start as zero
                parameter.copy_(0.5 * parameter.shape[1] ** -0.5 * torch.randn_like(parameter))
    return model


def random_images(model, batch, seed=1):
    generator = torch.Generator().manual_seed(seed)
    size = model.architecture.tile_size
    return torch.randn(batch, 3, size, size, generator=generator)


def agreement(ours, theirs):
    """Share of pixels of the tile with the same class."""
    classes = [F.interpolate(t, scale_factor=4, mode="bilinear").argmax(1) for t in (ours, theirs)]
    return float((classes[0] == classes[1]).float().mean())


def check_float32(model, batch):
    inputs = random_images(model, batch)
    exact = model(inputs)
    fast = accelerate(model, "fp32")(inputs)
    assert fast.shape == exact.shape
    assert fast.dtype == torch.float32
    assert relative_error(fast, exact) <= MAX_ERROR
    assert agreement(fast, exact) >= MIN_AGREEMENT


def check_bfloat16(model, batch):
    inputs = random_images(model, batch)
    exact = model(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        plain = model(inputs).float()
    fast = accelerate(model, "bf16")(inputs)
    assert fast.dtype == torch.float32
    assert relative_error(fast, exact) <= AUTOCAST_FACTOR * relative_error(plain, exact)


CHECKS = pytest.mark.parametrize("check", [check_float32, check_bfloat16], ids=["fp32", "bf16"])
# Emulated, the products in bf16 of these sizes take minutes.
LARGE_CHECKS = pytest.mark.parametrize(
    "check",
    [
        pytest.param(check_float32, id="fp32"),
        pytest.param(check_bfloat16, id="bf16", marks=pytest.mark.native_bf16),
    ],
)


# The same numbers


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("quirks", [True, False], ids=["quirks", "own"])
@pytest.mark.parametrize("backbone", [RAGGED, WIDE_WINDOW], ids=["ragged", "wide_window"])
@CHECKS
@torch.inference_mode()
def test_numbers_of_the_plain_model(backbone, quirks, batch, check):
    """Small enough for a processor that only emulates bf16."""
    check(random_model(backbone, quirks=quirks), batch)


@CHECKS
@torch.inference_mode()
def test_numbers_with_a_texture_head(check):
    check(random_model(RAGGED, quirks=False, texture_dim=16), 2)


@pytest.mark.parametrize(("quirks", "batch"), [(True, 1), (False, 3)])
@LARGE_CHECKS
@torch.inference_mode()
def test_numbers_of_the_small_model(quirks, batch, check):
    check(random_model(SMALL, classes=10, quirks=quirks), batch)


@pytest.mark.parametrize("quirks", [True, False], ids=["quirks", "own"])
@LARGE_CHECKS
@torch.inference_mode()
def test_numbers_on_sams_grid(quirks, check):
    check(random_model(SAM_GRID, classes=2, quirks=quirks), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth", "global_blocks"),
    [("vit_b", 12, (2, 5, 8, 11)), ("vit_l", 2, (1,)), ("vit_h", 2, (1,))],
)
@LARGE_CHECKS
@torch.inference_mode()
def test_numbers_of_sams_backbones(name, depth, global_blocks, check):
    backbone = dataclasses.replace(BACKBONES[name], depth=depth, global_blocks=global_blocks)
    check(random_model(backbone, classes=10), 1)


@torch.inference_mode()
def test_numbers_of_the_authors():
    golden = numbers()
    model = convert(TINY_CHECKPOINT, FUSAR_1).bundle.build()
    logits = accelerate(model, "fp32")(images(golden["amplitude8"]))
    assert relative_error(logits, golden["low_res_logits"]) <= MAX_ERROR


@pytest.mark.parametrize("onednn", [True, False], ids=["onednn", "torch"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.filterwarnings("ignore:flex_attention called without")
@torch.inference_mode()
def test_every_way_to_compute_gives_the_same_numbers(kernel, onednn):
    """Those of GPUs too, on the CPU."""
    if onednn and not onednn_works(torch.float32):
        pytest.skip("this torch has no oneDNN operators")
    for quirks in (True, False):
        model = random_model(RAGGED, quirks=quirks)
        inputs = random_images(model, 2)
        fast = FastCwsam(model, Arithmetic(torch.float32, onednn, kernel))
        assert relative_error(fast(inputs), model(inputs)) <= MAX_ERROR


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_torch_compile_sees_the_whole_as_one_graph(kernel):
    model = random_model(WIDE_WINDOW)
    inputs = random_images(model, 2)
    fast = FastCwsam(model, Arithmetic(torch.float32, False, kernel))
    compiled = torch.compile(fast, backend="aot_eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        assert relative_error(compiled(inputs), model(inputs)) <= MAX_ERROR


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@torch.inference_mode()
def test_numbers_on_a_gpu(compiled):
    model = random_model(SMALL)
    inputs = random_images(model, 3)
    exact = model(inputs)
    model, inputs = model.cuda(), inputs.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        plain = model(inputs).float().cpu()
    fast = accelerate(model, "bf16", compile=compiled)(inputs).cpu()
    assert relative_error(fast, exact) <= AUTOCAST_FACTOR * relative_error(plain, exact)


# What it is used for


def test_the_plain_model_stays_as_it_is():
    model = random_model(WIDE_WINDOW).train()
    model.freeze()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    for precision in ("fp32", "bf16"):
        logits = accelerate(model, precision)(random_images(model, 1))
        assert not logits.requires_grad
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_images_of_another_size_are_refused():
    fast = accelerate(random_model(WIDE_WINDOW), "fp32")
    with pytest.raises(ModelError, match=r"\(B, 3, 64, 64\), not \(1, 3, 32, 32\)"):
        fast(torch.zeros(1, 3, 32, 32))


@torch.inference_mode()
def test_an_image_does_not_depend_on_the_rest_of_its_batch():
    model = random_model(RAGGED)
    fast = accelerate(model, "fp32")
    inputs = random_images(model, 3)
    together = fast(inputs)
    for i in range(3):
        assert relative_error(together[i], fast(inputs[i : i + 1])[0]) <= MAX_ERROR


@torch.inference_mode()
def test_no_tensor_of_all_pairs_on_sams_grid():
    """Scores of a whole head would be 64 MB; nothing of that size may be made."""
    model = random_model(SAM_GRID, classes=2)
    fast = accelerate(model, "fp32")
    inputs = random_images(model, 1)
    with torch.profiler.profile(profile_memory=True) as profile:
        fast(inputs)
    pairs = 4 * SAM_GRID.heads * 4096**2
    assert max(event.cpu_memory_usage for event in profile.events()) < pairs / 6


def test_arithmetic_is_chosen_by_device():
    cuda = torch.device("cuda")
    assert choose_arithmetic(CPU, "bf16").kernel == "blocked"
    assert choose_arithmetic(CPU, "fp32") == Arithmetic(
        torch.float32, onednn_works(torch.float32), "blocked"
    )
    assert choose_arithmetic(cuda, "bf16") == Arithmetic(torch.bfloat16, False, "folded")
    assert choose_arithmetic(cuda, "fp16", compiled=True) == Arithmetic(
        torch.float16, False, "flex"
    )


# The parts


@given(grid=st.integers(1, 12), window=st.integers(1, 14), batch=st.integers(1, 3))
def test_tokens_by_windows_and_back(grid, window, batch):
    raster = torch.arange(batch * grid * grid * 6.0).view(batch, grid, grid, 6)
    layout = TokenLayout(grid, window)
    tokens = layout.to_windows(raster)
    assert torch.equal(layout.to_raster(tokens), raster)
    heads = layout.to_heads(tokens, 2)
    expected = raster.view(batch, grid * grid, 3, 2, 1).permute(2, 0, 3, 1, 4)
    assert torch.equal(heads, expected)
    for group, part in zip(layout.groups, layout.split(tokens), strict=True):
        assert part.shape == (batch * group.windows, group.height * group.width, 6)
        # Each run is one window: its rows and columns lie within it.
        first = part[:, 0, 0] // 6
        last = part[:, -1, 0] // 6
        assert torch.all(last - first == (group.height - 1) * grid + group.width - 1)


@given(size=st.integers(1, 20).map(lambda n: 4 * n), batch=st.integers(1, 2))
@settings(max_examples=30)
def test_low_pass(size, batch):
    generator = torch.Generator().manual_seed(size)
    inputs = torch.randn(batch, 3, size, size, generator=generator) + 0.5
    torch.testing.assert_close(LowPass(size, CPU)(inputs), low_pass(inputs), rtol=0, atol=2e-6)


@given(side=st.integers(1, 7), data=st.data())
@settings(max_examples=30)
def test_relative_positions(side, data):
    height, width = data.draw(st.integers(1, side)), data.draw(st.integers(1, side))
    torch.manual_seed(side)
    attention = Attention(8, 2, side)
    attention.rel_pos_h.data.normal_()
    attention.rel_pos_w.data.normal_()
    arithmetic = choose_arithmetic(CPU, "fp32")
    positions = RelativePositions(attention, 0.5, arithmetic)
    q = torch.randn(3, 2, side, side, 4)
    rows, columns = attention.positions(q.flatten(2, 3), side, side)
    expected = rows[..., :, None] + columns[..., None, :]
    expected = expected.view(3, 2, *4 * [side])
    some = q[:, :, :height, :width].flatten(2, 3)
    by_row, by_column = positions(0.5 * some, height, width)
    bias = by_row[..., None] + by_column[..., None, :]
    torch.testing.assert_close(bias, expected[:, :, :height, :width], rtol=1e-5, atol=1e-5)
    scores = positions.with_queries(0.5 * some, height, width) @ positions.with_keys(
        torch.zeros(3, 2, side**2, 4), side, side
    ).transpose(-2, -1)
    torch.testing.assert_close(scores, bias.flatten(4).flatten(2, 3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", [RAGGED, WIDE_WINDOW, SAM_GRID])
@torch.inference_mode()
def test_fused_attention_gets_channels_it_can_take(backbone, monkeypatch):
    """CUDA's kernels take multiples of eight; with anything else they fall back to all pairs."""
    channels = set()
    fused = F.scaled_dot_product_attention

    def watch(q, k, v, **options):
        channels.update(t.shape[-1] for t in (q, k, v))
        return fused(q, k, v, **options)

    model = random_model(dataclasses.replace(backbone, depth=2, global_blocks=(1,)), classes=2)
    fast = FastCwsam(model, Arithmetic(torch.bfloat16, False, "folded"))
    monkeypatch.setattr(F, "scaled_dot_product_attention", watch)
    fast.encoder(random_images(model, 1))
    assert channels
    assert not any(c % 8 for c in channels)


FAULTS = """
import resource, torch
from cwsam_geo.model.device import tune_allocator
print(int(tune_allocator()))
faults = []
for _ in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del_me = torch.ones(64 << 20)
    del del_me
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


def test_large_tensors_reuse_memory():
    """Once 256 MB have been taken, the system has nothing to map when they are taken again.

    Under memory pressure a kernel may reclaim the idle pages now and then: the best of some turns
    counts. Untuned, every turn has 65,536 faults.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("glibc only")
    out = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    ).stdout
    tuned, faults = map(int, out.split())
    if not tuned:
        pytest.skip("this C library is not glibc")
    assert faults < 100


def test_tuning_elsewhere_does_nothing(monkeypatch):
    tune_allocator.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tune_allocator() is False
    tune_allocator.cache_clear()


# Loaded models


@pytest.fixture(scope="module")
def bundle():
    return random_bundle(legend(3))


def test_loaded_model_is_fast_without_gradients_and_plain_with_them(bundle):
    model = LoadedModel(bundle, CPU, "fp32")
    inputs = torch.randn(2, 3, 64, 64)
    with_gradients = model(inputs)
    assert with_gradients.requires_grad
    with torch.no_grad():
        fast = model(inputs)
        assert torch.equal(fast, accelerate(model.cwsam, "fp32")(inputs))
    assert not fast.requires_grad
    assert relative_error(fast, with_gradients.detach()) <= MAX_ERROR


def test_fast_network_follows_the_weights(bundle):
    model = LoadedModel(bundle, CPU, "fp32")
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(inputs)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    model(inputs).square().mean().backward()
    optimizer.step()
    with torch.inference_mode():
        after = model(inputs)
        assert relative_error(after, before) > 1e-3
        assert relative_error(after, model.cwsam(inputs)) <= MAX_ERROR


def test_one_network_alone(bundle, tmp_path):
    path = bundle.save(tmp_path / "m.safetensors")
    inputs = torch.randn(1, 3, 64, 64)
    plain = load_model(path, network="plain")
    fast = load_model(path, network="fast")
    assert fast.cwsam is None
    assert not list(fast.parameters())
    with torch.inference_mode():
        assert torch.equal(plain(inputs), plain.cwsam(inputs))
        assert relative_error(fast(inputs), plain(inputs)) <= MAX_ERROR
    assert not fast(inputs).requires_grad
    assert fast.device == plain.device == CPU


def test_models_loaded_in_inference_mode_work(bundle):
    with torch.inference_mode():
        model = LoadedModel(bundle, CPU, "bf16")
        inputs = torch.randn(1, 3, 64, 64)
        assert torch.equal(model(inputs), model(inputs))


@pytest.mark.parametrize("native", [True, False])
def test_automatic_precision_is_what_the_processor_multiplies(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert resolve_precision("auto", CPU, fast=True) == ("bf16" if native else "fp32")
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_precision("fp32", CPU, fast=True) == "fp32"
    assert resolve_precision("auto", torch.device("mps"), fast=True) == "fp32"
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert resolve_precision("auto", CPU, fast=True) == "fp32"


def test_compiling_is_for_gpus():
    check_compile(torch.device("cuda", 0))
    with pytest.raises(UsageError, match="--compile: is for CUDA devices"):
        check_compile(CPU)
