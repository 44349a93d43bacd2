"""Nobody waits for a device but where its results are read; on a CPU all is there at once."""

import time

import numpy as np
import pytest
import torch

from cwsam_geo.model.runtime.transfer import Fetched, LateCheck, Stopwatch, Uploads, pinned

CPU = torch.device("cpu")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Later:
    """An answer that comes when it is told to."""

    def __init__(self, yes):
        self.yes, self.ready, self.waited = yes, False, False

    def numpy(self):
        self.waited = not self.ready
        return np.array(self.yes)


def test_a_check_does_not_wait_for_answers_that_are_to_come():
    check, first, second = LateCheck(), Later(True), Later(False)
    check.add(first)
    check.add(second)
    assert check.passed(wait=False)
    first.ready = True
    assert check.passed(wait=False)
    assert not first.waited
    second.ready = True
    assert not check.passed(wait=False)
    assert not second.waited


def test_at_the_end_a_check_waits_for_all():
    check, answers = LateCheck(), [Later(True), Later(True)]
    for answer in answers:
        check.add(answer)
    assert check.passed(wait=True)
    assert all(a.waited for a in answers)
    assert check.passed(wait=True)
    check.add(Later(False))
    assert not check.passed(wait=True)


def test_a_stopwatch_counts_what_succeeds():
    watch = Stopwatch(CPU)
    with watch.running():
        time.sleep(0.02)
    once = watch.seconds()
    assert once >= 0.02

    def fail():
        with watch.running():
            time.sleep(0.02)
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert watch.seconds() == once
    with watch.running():
        time.sleep(0.02)
    assert watch.seconds() >= once + 0.02


def test_on_a_cpu_tensors_are_where_they_are_needed():
    tensor = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    fetched = Fetched(tensor)
    assert fetched.ready
    np.testing.assert_array_equal(fetched.numpy(), tensor.numpy())
    assert Uploads(CPU)(tensor) is tensor
    host = pinned((2, 3), torch.bool, CPU)
    assert (tuple(host.shape), host.dtype) == ((2, 3), torch.bool)


def test_memory_that_cannot_be_pinned_is_plain():
    """Torch without a GPU cannot pin; with one this shows that pinning works."""
    host = pinned((4,), torch.float32, torch.device("cuda"))
    assert host.device.type == "cpu"
    assert host.is_pinned() == torch.cuda.is_available()
    assert host.numpy().shape == (4,)


@pytest.mark.gpu
@on_gpu
def test_there_and_back_on_a_gpu():
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    uploads = Uploads(device)
    for seed in range(20):
        host = pinned((1 << 20,), torch.float32, device)
        host.copy_(torch.full((1 << 20,), float(seed)))
        there = uploads(host)
        del host  # its memory may be handed out again only when the copy is done
        fetched = Fetched((there * 2).to(torch.uint8))
        assert (fetched.numpy() == 2 * seed).all()
        assert fetched.ready


@pytest.mark.gpu
@on_gpu
def test_a_stopwatch_measures_the_gpu_not_the_launch():
    device = torch.device("cuda", 0)
    watch, values = Stopwatch(device), torch.randn(8192, 8192, device=device)
    torch.cuda.synchronize()
    started = time.perf_counter()
    with watch.running():
        for _ in range(20):
            values @ values
    launched = time.perf_counter() - started
    assert watch.seconds() > launched
