"""The complete CWSAM network, its architecture options and its backbone sizes."""

from __future__ import annotations

from torch import Tensor, nn

from cwsam_geo.errors import ModelError
from cwsam_geo.model.network.adapters import TrainableModule
from cwsam_geo.model.network.architecture import Architecture
from cwsam_geo.model.network.decoder import ClassWiseDecoder
from cwsam_geo.model.network.encoder import Encoder
from cwsam_geo.model.network.texture import TextureHead


class Cwsam(nn.Module):
    """CWSAM: SAM's encoder with adapters and low-frequency prompts, and a class-wise decoder.

    From "ClassWise-SAM-Adapter" (arXiv 2401.02326). Freshly initialised adapters and prompts add
    zero, so training starts from the embeddings of SAM's encoder.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = Encoder(architecture)
        self.decoder = ClassWiseDecoder(architecture)
        self.texture = TextureHead(architecture) if architecture.texture_dim else None

    def forward(self, images: Tensor) -> Tensor:
        """Computes the logits of preprocessed images.

        Args:
            images: Shape (B, 3, T, T) with T the architecture's tile size, float32.

        Returns:
            Logits, shape (B, K, T / stride, T / stride).

        Raises:
            ModelError: The images have another shape.
        """
        size = self.architecture.tile_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ModelError(
                f"the model takes images of shape (B, 3, {size}, {size}), not {tuple(images.shape)}"
            )
        logits: Tensor = self.decoder(self.encoder(images))
        return logits if self.texture is None else logits + self.texture(images)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the parameters that fine-tuning trains, by their name in ``state_dict``.

        These are the parameters of all ``TrainableModule`` modules: the adapters, the low-frequency
        prompt and the decoder with its no-mask embedding. SAM's encoder and the positional
        encoding stay frozen.
        """
        return {
            f"{where}.{name}": parameter
            for where, module in self.named_modules()
            if isinstance(module, TrainableModule)
            for name, parameter in module.named_parameters()
        }

    def freeze(self) -> None:
        """Enables gradients for ``trainable_parameters`` only."""
        self.requires_grad_(False)
        for parameter in self.trainable_parameters().values():
            parameter.requires_grad_(True)

    def frozen_tensors(self) -> dict[str, Tensor]:
        """Returns the rest of ``state_dict``: the base weights that different adapters share."""
        trainable = self.trainable_parameters()
        return {name: t for name, t in self.state_dict().items() if name not in trainable}
