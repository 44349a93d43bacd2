import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cwsam_geo.core.metrics import Scores, confusion_matrix
from cwsam_geo.errors import UsageError
from cwsam_geo.finetuning.targets.losses import (
    LOSSES,
    WEIGHT_CAP,
    SegmentationLoss,
    auto_weights,
    parse_loss,
    upsampled,
)

K = 3
ONE_EACH = np.vstack([np.zeros((1, K), bool), np.eye(K, dtype=bool)])
"""Row 0 says nothing, row i is class i - 1."""
WITH_PAIR = np.vstack([ONE_EACH, [[True, True, False], [True, True, True]]])
"""Row 4 is class 0 or 1, row 5 is any class."""

logits_of = arrays(np.float32, (2, K, 4, 4), elements=st.floats(-8, 8, width=32)).map(
    torch.from_numpy
)


def labels_of(rows):
    return arrays(np.int64, (2, 4, 4), elements=st.integers(0, rows - 1)).map(torch.from_numpy)


def loss_of(name="ce", sets=ONE_EACH, weights=(1.0,) * K):
    return SegmentationLoss(name, sets, weights)


@settings(deadline=None)
@given(logits_of, labels_of(4), st.tuples(*[st.floats(0.1, 5)] * K))
def test_cross_entropy_is_torchs_where_labels_are_single_classes(logits, labels, weights):
    expected = F.cross_entropy(logits, labels - 1, torch.tensor(weights), ignore_index=-1)
    # The table with a set of classes takes the other way through the code.
    for sets in (ONE_EACH, WITH_PAIR):
        found = loss_of(sets=sets, weights=weights)(logits, labels)
        if (labels > 0).any():
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        else:
            assert found == 0


@settings(deadline=None)
@given(logits_of)
def test_a_set_of_classes_costs_minus_log_of_their_summed_probability(logits):
    labels = torch.full((2, 4, 4), 4)
    probability = logits.softmax(1)
    expected = -(probability[:, 0] + probability[:, 1]).log().mean()
    found = loss_of(sets=WITH_PAIR)(logits, labels)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@settings(deadline=None)
@given(logits_of, labels_of(6))
def test_gce_is_at_most_cross_entropy(logits, labels):
    """(1 - p^q) / q <= -log p for q from 0 to 1."""
    plain = loss_of("ce", WITH_PAIR)(logits, labels)
    robust = loss_of("gce", WITH_PAIR)(logits, labels)
    assert 0 <= robust <= plain + 1e-6


def test_gce_of_known_probabilities():
    logits = torch.tensor([0.5, 0.3, 0.2]).log()[None, :, None, None].expand(1, K, 1, 2)
    labels = torch.tensor([[[1, 4]]])
    expected = ((1 - 0.5**0.7) / 0.7 + (1 - 0.8**0.7) / 0.7) / 2
    assert float(loss_of("gce", WITH_PAIR)(logits, labels)) == pytest.approx(expected, rel=1e-5)


def test_a_pixel_with_several_classes_has_their_mean_weight():
    logits = torch.zeros(1, K, 1, 2)
    labels = torch.tensor([[[4, 3]]])
    found = loss_of(sets=WITH_PAIR, weights=(1.0, 3.0, 6.0))(logits, labels)
    expected = (2 * -np.log(2 / 3) + 6 * -np.log(1 / 3)) / 8
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [*LOSSES, "ce+dice+lovasz"])
@pytest.mark.parametrize("row", [0, 5], ids=["no class", "any class"])
def test_a_batch_without_labels_costs_nothing_and_moves_nothing(name, row):
    logits = torch.randn(2, K, 2, 2, requires_grad=True)
    loss = loss_of(name, WITH_PAIR)(logits, torch.full((2, 8, 8), row))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@settings(deadline=None)
@given(logits_of, labels_of(6), st.sampled_from([*LOSSES, "focal+dice"]))
def test_losses_and_gradients_are_finite_and_unlabelled_pixels_get_none(logits, labels, name):
    logits = (logits * 20).requires_grad_()
    loss = loss_of(name, WITH_PAIR)(logits, labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss >= -1e-6
    assert torch.isfinite(logits.grad).all()
    silent = (labels == 0) | (labels == 5)
    assert (logits.grad.permute(0, 2, 3, 1)[silent] == 0).all()


@settings(deadline=None)
@given(labels_of(4).filter(lambda v: bool((v > 0).any())), st.sampled_from(list(LOSSES)))
def test_a_sure_and_right_answer_costs_nothing_and_a_wrong_one_more(labels, name):
    right = 40 * F.one_hot((labels - 1).clamp(min=0), K).permute(0, 3, 1, 2).float()
    loss = loss_of(name)
    assert float(loss(right, labels)) < 0.1
    assert float(loss(right.roll(1, dims=1), labels)) > 0.4


@settings(deadline=None)
@given(labels_of(4).filter(lambda v: bool((v > 0).any())), labels_of(3))
def test_lovasz_of_a_sure_answer_is_one_minus_mean_iou(labels, mapped):
    sure = 60 * F.one_hot(mapped, K).permute(0, 3, 1, 2).float()
    reference = labels.numpy() - 1
    matrix = confusion_matrix(reference, mapped.numpy(), K, reference >= 0)
    scores = Scores.of(matrix)
    expected = 1 - scores.iou[scores.support > 0].mean()
    assert float(loss_of("lovasz")(sure, labels)) == pytest.approx(expected, abs=1e-4)


def test_sums_add_up_and_focal_counts_easy_pixels_less():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, K, 8, 8), torch.randint(0, 4, (2, 8, 8))
    one, two = loss_of("ce")(logits, labels), loss_of("dice")(logits, labels)
    torch.testing.assert_close(loss_of("ce+dice")(logits, labels), one + two)
    assert loss_of("focal")(logits, labels) < one


def test_logits_are_brought_to_the_labels_resolution():
    logits, labels = torch.randn(1, K, 4, 4), torch.randint(1, 4, (1, 16, 16))
    fine = F.interpolate(logits, (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss_of()(logits, labels), loss_of()(fine, labels))
    assert upsampled(logits.bfloat16(), (16, 16)).dtype == torch.float32


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=8).filter(any))
def test_automatic_weights_are_capped_inverse_frequencies(pixels):
    weights = auto_weights(pixels)
    present = [n for n in pixels if n]
    average = sum(present) / len(present)
    for weight, n in zip(weights, pixels, strict=True):
        expected = min(average / n, WEIGHT_CAP) if n else 1
        assert weight == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "mse", "ce+ce", "ce+", "CE"])
def test_unknown_losses_are_refused_with_the_known_ones(text):
    with pytest.raises(UsageError, match="lovasz"):
        parse_loss(text)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, -1.0, 1.0), (1.0, float("nan"), 1.0)])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(UsageError, match="class weights"):
        loss_of(weights=weights)
