"""Models ready for use: devices, precisions, batches, and arithmetic on their logits."""

import numpy as np
import pytest
import torch
from doubles import ArraySource, legend
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MICRO, SMALL, random_bundle
from numpy_ops import NumpyOps

import cwsam_geo
from cwsam_geo.cli.main import describe
from cwsam_geo.core.preprocess import SceneBands
from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.io.raster_sink import RasterLayout, raster_sink
from cwsam_geo.model import device as device_module
from cwsam_geo.model import store
from cwsam_geo.model.device import (
    auto_batch_size,
    fused_tile_bytes,
    resolve_device,
    resolve_precision,
    tile_bytes,
)
from cwsam_geo.model.network.architecture import BACKBONES, Architecture
from cwsam_geo.model.runtime import predictor as predictor_module
from cwsam_geo.model.runtime import transfer
from cwsam_geo.model.runtime.predictor import LoadedModel, TorchPredictor, load_model
from cwsam_geo.model.runtime.torch_ops import TorchOps
from cwsam_geo.prediction.pipeline import MapSettings, Sinks, map_scene

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
K3 = legend(3)


@pytest.fixture(scope="module")
def bundle():
    return random_bundle(K3)


def batch(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3, 64, 64)).astype(np.float32)


# load_model


def test_loaded_model_is_a_module_that_knows_its_bundle(bundle, tmp_path, monkeypatch):
    path = bundle.save(tmp_path / "mine.safetensors")
    model = cwsam_geo.load_model(path)
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    assert (model.legend, model.preprocess) == (bundle.legend, bundle.preprocess)
    assert (model.architecture, model.provenance) == (bundle.architecture, bundle.provenance)
    logits = model(torch.from_numpy(batch(2)))
    assert (logits.shape, logits.dtype) == ((2, 3, 32, 32), torch.float32)
    assert logits.requires_grad
    monkeypatch.setattr(store, "checkout_weights", lambda: tmp_path)
    again = load_model("mine")(torch.from_numpy(batch(2)))
    assert torch.equal(again, logits)


def test_loading_refuses_what_is_not_there(bundle, tmp_path):
    path = bundle.save(tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="moon"):
        load_model("moon")
    with pytest.raises(UsageError, match="precision fp8"):
        load_model(path, precision="fp8")
    with pytest.raises(ModelError, match=r"\(B, 3, 64, 64\)"):
        load_model(path)(torch.zeros(1, 3, 32, 32))


def test_bf16_on_the_cpu_is_close_and_gives_float32(bundle):
    images = torch.from_numpy(batch(2))
    with torch.inference_mode():
        exact = LoadedModel(bundle, CPU, "fp32")(images)
        rough = LoadedModel(bundle, CPU, "bf16")(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert (rough - exact).norm() < 0.1 * exact.norm()


# TorchPredictor


def test_predictor_takes_batches_of_tiles(bundle):
    predictor = TorchPredictor(LoadedModel(bundle, CPU, "fp32"))
    assert (predictor.tile_size, predictor.stride, predictor.num_classes) == (64, 2, 3)
    assert (predictor.device, predictor.precision) == (CPU, "fp32")
    logits = predictor(batch(3))
    assert (logits.shape, logits.dtype) == ((3, 3, 32, 32), torch.float32)
    assert not logits.requires_grad
    singly = torch.cat([predictor(tile[None]) for tile in batch(3)])
    torch.testing.assert_close(logits, singly, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits, predictor(np.asfortranarray(batch(3))), atol=1e-4, rtol=1e-4)
    # As the blender uses them, outside of the predictor's inference mode.
    total = predictor.ops.zeros((3, 32, 32))
    total += logits[0] * predictor.ops.constant(np.ones((32, 32), np.float32))
    torch.testing.assert_close(total, logits[0].clone())


def test_tta_is_the_mean_over_four_views(bundle):
    model = LoadedModel(bundle, CPU, "fp32")
    plain, tta = TorchPredictor(model), TorchPredictor(model, tta=True)
    tiles, half = batch(2), bundle.architecture.backbone.patch_size // 2
    total, count = torch.zeros(2, 3, 32, 32), torch.zeros(32, 32)
    for axes, down, right in (((), 0, 0), ((3,), 0, half), ((2,), half, 0), ((2, 3), half, half)):
        moved = np.pad(tiles, ((0, 0), (0, 0), (down, 0), (right, 0)), "edge")[..., :64, :64]
        logits = plain(np.flip(moved, axes)).flip(axes)[..., down // 2 :, right // 2 :]
        total[..., : 32 - down // 2, : 32 - right // 2] += logits
        count[: 32 - down // 2, : 32 - right // 2] += 1
    torch.testing.assert_close(tta(tiles), total / count, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(total / count, plain(tiles), atol=1e-2)


def test_numbers_beyond_the_precision_are_an_error_not_class_zero(bundle):
    predictor = TorchPredictor(LoadedModel(bundle, CPU, "fp32"))
    with pytest.raises(ModelError, match="use --precision fp32"):
        predictor(batch(1) * np.float32(np.inf))


@pytest.mark.parametrize("bad_tile", [0, 5, 8])
def test_a_device_that_notices_them_late_leaves_no_map(bundle, monkeypatch, tmp_path, bad_tile):
    """Whichever batch it is, and though everything has been written when it comes out."""

    class Late(transfer.Fetched):
        ready = False

    model = LoadedModel(bundle, CPU, "fp32", "fast")
    forward, calls = model.forward, []

    def fail_once(images):
        calls.append(len(images))
        logits = forward(images)
        return logits * np.nan if len(calls) == bad_tile + 1 else logits

    monkeypatch.setattr(model, "forward", fail_once)
    monkeypatch.setattr(predictor_module, "Fetched", Late)
    source = ArraySource(np.random.default_rng(0).gamma(4, 0.02, (2, 190, 190)))
    job = MapSettings(bundle.preprocess, K3, SceneBands("power", (0, 1)), 0)

    def write():
        with raster_sink(tmp_path / "map.tif", source.grid, RasterLayout()) as sink:
            map_scene(source, TorchPredictor(model), job, Sinks(sink))

    with pytest.raises(ModelError, match="use --precision fp32"):
        write()
    assert len(calls) == 9
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    ],
)
def test_out_of_memory_is_pythons_own(bundle, monkeypatch, error):
    predictor = TorchPredictor(LoadedModel(bundle, CPU, "fp32"))

    def fail(images):
        raise error

    monkeypatch.setattr(predictor.model, "forward", fail)
    assert describe(error) == describe(MemoryError())
    with pytest.raises(MemoryError, match="out of memory on cpu") as caught:
        predictor(batch(1))
    # The failed attempt's tensors must not be kept alive by its traceback.
    assert caught.value.__context__ is None


def test_real_lack_of_memory_and_other_errors(bundle, monkeypatch):
    predictor = TorchPredictor(LoadedModel(bundle, CPU, "fp32"))
    forward = predictor.model.forward
    monkeypatch.setattr(predictor.model, "forward", lambda i: torch.empty(1 << 60))
    with pytest.raises(MemoryError):
        predictor(batch(1))
    monkeypatch.setattr(predictor.model, "forward", lambda i: i @ torch.zeros(3, 3))
    with pytest.raises(RuntimeError, match="shape"):
        predictor(batch(1))
    monkeypatch.setattr(predictor.model, "forward", forward)
    assert predictor(batch(1)).shape == (1, 3, 32, 32)


# TorchOps


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 6),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    stride=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_torch_ops_are_numpys(classes, height, width, stride, seed):
    logits = np.random.default_rng(seed).normal(size=(classes, height, width), scale=3)
    logits = logits.astype(np.float32)
    ours, yardstick = TorchOps(CPU), NumpyOps()
    tensor = ours.constant(logits)
    fine = ours.upsample(tensor, stride)
    np.testing.assert_allclose(fine.numpy(), yardstick.upsample(logits, stride), atol=1e-5)
    for confidence in (False, True):
        for probabilities in (False, True):
            got = ours.decide(tensor, confidence, probabilities)()
            expected = yardstick.decide(logits, confidence, probabilities)()
            np.testing.assert_array_equal(got.channels, expected.channels)
            for ours_is, numpys in (
                (got.confidence, expected.confidence),
                (got.probabilities, expected.probabilities),
            ):
                assert (ours_is is None) == (numpys is None)
                if numpys is not None:
                    assert ours_is.dtype == np.uint8
                    assert np.abs(ours_is.astype(int) - numpys).max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    stride=st.sampled_from([1, 2, 4, 8]),
    rows=st.tuples(st.integers(0, 20), st.integers(2, 20)),
    cols=st.tuples(st.integers(0, 150), st.integers(2, 150)),
    seed=st.integers(0, 99),
)
def test_a_piece_is_interpolated_like_the_whole_to_the_last_bit(stride, rows, cols, seed):
    """torch has several loops for it, which round differently, and chooses by size."""
    ops = TorchOps(CPU)
    logits = torch.randn(3, 40, 300, generator=torch.Generator().manual_seed(seed))
    (top, height), (left, width) = rows, cols
    piece = ops.upsample(logits[:, top : top + height, left : left + width], stride)
    whole = ops.upsample(logits, stride)[
        :, top * stride : (top + height) * stride, left * stride : (left + width) * stride
    ]
    # Half a stride along each side needs logits beyond the piece.
    half = stride // 2
    inner = slice(half, height * stride - half), slice(half, width * stride - half)
    assert torch.equal(piece[(slice(None), *inner)], whole[(slice(None), *inner)])


@pytest.mark.parametrize("classes", [2, 3])
def test_the_first_of_equal_logits_wins(classes):
    logits = torch.tensor([1.0, 0.0]).expand(classes, 4, 2)
    for probabilities in (False, True):
        decision = TorchOps(CPU).decide(logits, probabilities, probabilities)()
        assert (decision.channels == 0).all()
        assert decision.channels.dtype == np.uint8


def test_decisions_of_255_classes_and_huge_logits():
    logits = torch.zeros(255, 1, 2)
    logits[254, 0, 0] = 1e30
    logits[0, 0, 1] = 300.0
    decision = TorchOps(CPU).decide(logits, True, True)()
    assert decision.channels.tolist() == [[254, 0]]
    assert decision.confidence.tolist() == [[100, 100]]
    assert decision.probabilities[:, 0, 0].tolist() == [0] * 254 + [100]


# Devices and precisions


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count, capability=(9, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return pretend


def test_devices(gpus, monkeypatch):
    gpus(0)
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    for name in ("cuda", "cuda:0", "cuda:7"):
        with pytest.raises(UsageError, match=f"{name}: torch finds no CUDA device"):
            resolve_device(name)
    with pytest.raises(UsageError, match="no Apple GPU"):
        resolve_device("mps")
    for name in ("gpu", "meta", "cuda:x", "", "cpu:cpu", "xpu"):
        with pytest.raises(UsageError, match="not one of"):
            resolve_device(name)
    gpus(2)
    assert resolve_device("auto") == resolve_device("cuda") == CUDA
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="0 to 1 only"):
        resolve_device("cuda:2")
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == resolve_device("mps").type == "mps"


def test_precisions(gpus):
    gpus(1)
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    assert resolve_precision("auto", CUDA) == "bf16"
    assert resolve_precision("fp16", CUDA) == "fp16"
    assert resolve_precision("auto", torch.device("mps")) == "fp32"
    with pytest.raises(UsageError, match="fp16: is for GPUs"):
        resolve_precision("fp16", CPU)
    with pytest.raises(UsageError, match="not one of auto, fp32"):
        resolve_precision("int8", CPU)
    gpus(1, capability=(7, 5))
    assert resolve_precision("auto", CUDA) == "fp16"
    with pytest.raises(UsageError, match="use fp16 or fp32"):
        resolve_precision("bf16", CUDA)


def test_batch_sizes_follow_the_tiles_and_the_memory(monkeypatch):
    vit_b = Architecture(BACKBONES["vit_b"], 10, 1024)
    small = Architecture(SMALL, 10, 256)
    assert auto_batch_size(vit_b, CPU) == 1
    assert auto_batch_size(small, CPU) == 4
    assert auto_batch_size(Architecture(SMALL, 10, 128), CPU) == 16
    free = {}
    monkeypatch.setattr(device_module.torch.cuda, "mem_get_info", lambda d: (free["now"], 0))
    for gigabytes in (0, 4, 16, 80, 140):
        free["now"] = gigabytes << 30
        for architecture in (vit_b, small):
            n = auto_batch_size(architecture, CUDA)
            assert 1 <= n <= 64
            assert n == 1 or n * fused_tile_bytes(architecture) < free["now"] / 2
            assert n * architecture.tile_size**2 <= 16 * 1024**2
    assert auto_batch_size(vit_b, CUDA) == 16
    assert auto_batch_size(small, CUDA) == 64
    # As torch's profiler measured them on a CPU, to a tenth.
    measured = {
        ("vit_b", 10): 244e6,
        ("vit_b", 40): 748e6,
        ("vit_h", 10): 290e6,
        ("small", 10): 15e6,
    }
    for (name, classes), size in measured.items():
        backbone = BACKBONES[name]
        estimate = fused_tile_bytes(Architecture(backbone, classes, backbone.tile_size))
        assert 0.9 * size < estimate < 1.1 * size
    assert tile_bytes(vit_b) > 12 * 4096**2 * 4
    assert tile_bytes(Architecture(MICRO, 255, 64)) > tile_bytes(Architecture(MICRO, 2, 64)) > 0
