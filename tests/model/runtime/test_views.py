"""Views of a tile: what does not depend on patches and mirrors stays as it is."""

import torch
import torch.nn.functional as F

from cwsam_geo.model.runtime.views import mean_logits

STRIDE, PATCH, TILE = 2, 8, 32


def test_a_model_without_patches_has_the_same_logits_in_every_view():
    images = torch.randn(2, 3, TILE, TILE, generator=torch.Generator().manual_seed(0))

    def model(x):
        return F.avg_pool2d(x, STRIDE)

    torch.testing.assert_close(mean_logits(model, images, STRIDE), model(images))


def test_the_edges_of_patches_are_averaged_out():
    ramp = torch.arange(TILE, dtype=torch.float32).expand(1, 1, TILE, TILE).contiguous()

    def model(x):
        # One value for each patch: stairs along the ramp, whose steps are patches.
        return F.interpolate(F.avg_pool2d(x, PATCH), scale_factor=PATCH // STRIDE)

    def steps(logits):
        return (logits[..., 1:] - logits[..., :-1]).abs().max()

    assert steps(model(ramp)) == PATCH
    assert steps(mean_logits(model, ramp, STRIDE)[..., : -PATCH // STRIDE]) == PATCH / 2
