"""A small checkpoint in the form of SAM's."""

import sys

import torch

from cwsam_geo.model.network import sam


def sam_state(dim=32, grid=8, patch=16, window=4, depth=2, decoder=32, seed=0):
    """A checkpoint as SAM's own code saves it, but small."""
    torch.manual_seed(seed)
    modeling = sys.modules[sam._PRIVATE]
    size = (grid * patch, grid * patch)
    model = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=size[0], patch_size=patch, embed_dim=dim, depth=depth, num_heads=2,
            out_chans=decoder, use_rel_pos=True, window_size=window, global_attn_indexes=(1,),
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=decoder, image_embedding_size=(grid, grid), input_image_size=size,
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=decoder, mlp_dim=64, num_heads=8
            ),
            transformer_dim=decoder,
        ),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )  # fmt: skip
    return model.state_dict()
