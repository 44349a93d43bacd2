"""Attention in blocks and with a fused kernel: the numbers and gradients of all pairs at once."""

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from cwsam_geo.model.network import attention as module
from cwsam_geo.model.network.attention import Attention

MAX_ERROR = 1e-5


def all_pairs(q, k, v, by_row, by_column, is_token):
    """The textbook way: a tensor of the scores of all pairs."""
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(3)
    if is_token is not None:
        bias = bias.masked_fill(~is_token[:, None, None, :], -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)


def outcome(attend, inputs, is_token):
    """Output, and the gradients of the inputs."""
    inputs = [t.clone().requires_grad_() for t in inputs]
    out = attend(*inputs, is_token)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    heads=st.integers(1, 3),
    block=st.sampled_from([1, 50, 400, 1 << 20]),
    masked=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=60)
def test_numbers_and_gradients_of_all_pairs(batch, height, width, heads, block, masked, seed):
    torch.manual_seed(seed)
    tokens = height * width
    shapes = [(batch, heads, tokens, c) for c in (8, 8, 8, height, width)]
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    is_token = None
    if masked:
        is_token = torch.rand(batch, tokens) < 0.6
        is_token[:, 0] = True
    expected = outcome(all_pairs, inputs, is_token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        blocked = outcome(module._attend_in_blocks, inputs, is_token)
    fused = outcome(module._attend_fused, inputs, is_token)
    for ours in (blocked, fused):
        for tensor, reference in zip(ours, expected, strict=True):
            torch.testing.assert_close(tensor, reference, rtol=MAX_ERROR, atol=1e-9)


def test_training_makes_no_tensor_of_all_pairs():
    torch.manual_seed(0)
    attention = Attention(32, 2, 40)
    tokens = torch.randn(1, 40, 40, 32, requires_grad=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        attention(tokens).square().sum().backward()
    pairs = 4 * 2 * 1600**2  # bytes of the scores of both heads
    assert max(event.cpu_memory_usage for event in profile.events()) < pairs / 4


def test_checkpointing_and_autocast_reach_the_same_gradients():
    torch.manual_seed(0)
    attention = Attention(32, 2, 6)
    tokens = torch.randn(2, 6, 6, 32)
    with torch.autocast("cpu", torch.bfloat16):
        rough = attention(tokens)
        again = torch.utils.checkpoint.checkpoint(attention, tokens, use_reentrant=False)
    assert torch.equal(rough, again)
    gradients = []
    for out in (rough, again, attention(tokens)):
        attention.zero_grad()
        out.float().square().sum().backward()
        gradients.append(attention.qkv.weight.grad.clone())
    assert torch.equal(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2], rtol=0.05, atol=0.02)
