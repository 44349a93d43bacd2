"""What a device can do, and what is said when it cannot."""

import pytest
import torch

from cwsam_geo.model import device as module
from cwsam_geo.model.device import precision_warning

CPU = torch.device("cpu")


@pytest.fixture
def emulating(monkeypatch):
    monkeypatch.setattr(module, "cpu_multiplies_bf16", lambda: False)
    return monkeypatch


def test_an_emulated_precision_is_warned_of(emulating):
    emulating.setattr(module, "_EMULATED", 0.0)
    warning = precision_warning("bf16", CPU)
    assert "only emulates bf16" in warning
    assert "--precision fp32" in warning


def test_a_precision_that_is_fast_all_the_same_is_not_warned_of(emulating):
    emulating.setattr(module, "_EMULATED", 1e9)
    assert precision_warning("bf16", CPU) is None


def test_nothing_is_measured_where_the_processor_has_the_instructions(monkeypatch):
    monkeypatch.setattr(module, "_EMULATED", 0.0)
    monkeypatch.setattr(module, "cpu_multiplies_bf16", lambda: True)
    assert precision_warning("bf16", CPU) is None
    assert precision_warning("bf16", torch.device("cuda")) is None


def test_float32_is_never_warned_of(emulating):
    emulating.setattr(module, "_EMULATED", 0.0)
    assert precision_warning("fp32", CPU) is None
