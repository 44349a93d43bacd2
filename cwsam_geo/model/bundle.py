"""Model bundles: one safetensors file with weights, architecture, preprocessing and legend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from cwsam_geo.errors import CwsamGeoError, ModelError, OutputError
from cwsam_geo.io.atomic import atomic_output
from cwsam_geo.legend import Legend
from cwsam_geo.model.build import Architecture, Cwsam
from cwsam_geo.model.header import BaseReference, BundleHeader, Kind
from cwsam_geo.model.tensors import (
    assemble,
    check_finite,
    check_tensors,
    tensors_sha256,
    trainable_names,
)
from cwsam_geo.preprocess import PreprocessSpec

_METADATA_KEY = "cwsam_geo"
"""Key of the bundle's header in the metadata of a safetensors file."""


@dataclass(frozen=True)
class ModelBundle:
    """A model with everything needed to use it.

    Attributes:
        header: Architecture, preprocessing, legend and provenance.
        tensors: Tensors by name: all of them in a ``full`` bundle, the trained ones in an
            ``adapters`` bundle. The encoder's positions may be for another tile size than the
            architecture's; ``build`` interpolates them.

    Raises:
        ModelError: The tensors are not exactly those that the header requires.
    """

    header: BundleHeader
    tensors: Mapping[str, Tensor]

    @classmethod
    def from_model(cls, model: Cwsam, header: BundleHeader) -> ModelBundle:
        """Makes a full bundle from copies of a model's tensors on the CPU.

        Args:
            model: The model, on any device.
            header: Metadata with kind ``full``.
        """
        return cls(header, {n: t.detach().cpu().clone() for n, t in model.state_dict().items()})

    def __post_init__(self) -> None:
        check_tensors(self.tensors, self.header.architecture, self.header.tensor_names())

    @property
    def architecture(self) -> Architecture:
        """Sizes and options."""
        return self.header.architecture

    @property
    def preprocess(self) -> PreprocessSpec:
        """From a scene's bands to the model's input."""
        return self.header.preprocess

    @property
    def legend(self) -> Legend:
        """The classes, in the order of the model's channels."""
        return self.header.legend

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Training data, metrics, licence and so on."""
        return self.header.provenance

    @property
    def kind(self) -> Kind:
        """``full`` or ``adapters``."""
        return self.header.kind

    @property
    def base(self) -> BaseReference | None:
        """The base that an adapters bundle needs; None for a full bundle."""
        return self.header.base

    def frozen_sha256(self) -> str:
        """Hash of the frozen tensors, by which adapters identify their base.

        Raises:
            ModelError: The bundle holds adapters only.
        """
        if self.kind == "adapters":
            raise ModelError("an adapters bundle holds no base weights")
        trainable = trainable_names(self.architecture)
        return tensors_sha256({n: t for n, t in self.tensors.items() if n not in trainable})

    def build(self) -> Cwsam:
        """Makes the model in float32 on the CPU, with positions interpolated to its tile size.

        Raises:
            ModelError: The bundle holds adapters only; see ``with_base``.
        """
        if self.kind == "adapters":
            raise ModelError("an adapters bundle needs its base weights to make a model")
        return assemble(self.tensors, self.architecture)

    def with_base(self, frozen: Mapping[str, Tensor]) -> ModelBundle:
        """Combines an adapters bundle with the frozen tensors of its base into a full bundle.

        Raises:
            ModelError: The adapters were trained on other weights, or the bundle is already full.
        """
        base = self.header.base
        if base is None:
            raise ModelError("a full model needs no base")
        sha256 = tensors_sha256(frozen)
        if sha256 != base.sha256:
            raise ModelError(
                f"these are not the weights that the adapters were trained on ({base.name}, "
                f"sha256 {base.sha256[:12]}...; found {sha256[:12]}...)"
            )
        header = replace(self.header, kind="full", base=None, frozen_sha256=sha256)
        return ModelBundle(header, {**frozen, **self.tensors})

    def adapters_only(self, base: BaseReference) -> ModelBundle:
        """Returns a bundle of the trained tensors only, which refers to ``base`` for the rest."""
        names = trainable_names(self.architecture)
        header = replace(self.header, kind="adapters", base=base, frozen_sha256=None)
        return ModelBundle(header, {name: self.tensors[name] for name in names})

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Writes the bundle, whole or not at all, and returns its path.

        The path should end in ``.safetensors``, so that ``find_model`` can find it by name.

        Raises:
            UsageError: The file exists and ``overwrite`` is False.
            OutputError: The folder is missing or cannot be written to, or the disk is full.
        """
        header = self.header
        if self.kind == "full":
            header = replace(header, frozen_sha256=self.frozen_sha256())
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.tensors.items()}
        with atomic_output(path, overwrite) as temporary:
            # A single key: safetensors writes several in an order that varies between runs.
            metadata = {_METADATA_KEY: header.to_json()}
            try:
                safetensors.torch.save_file(tensors, temporary, metadata)
            except safetensors.SafetensorError as error:
                is_full = "no space" in str(error).lower()
                why = "the disk is full" if is_full else f"it could not be written: {error}"
                raise OutputError(f"{path}: {why}; free some space or write elsewhere") from None
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ModelBundle:
        """Reads a bundle as stored in the file; ``load_full`` also finds the base of adapters.

        Raises:
            ModelError: The file is missing, damaged, or not a bundle; the message names it.
        """
        header = read_header(path)
        try:
            tensors = safetensors.torch.load_file(path)
            bundle = cls(header, tensors)
            check_finite(tensors)
            return bundle
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            raise _unreadable(path, error) from None
        except CwsamGeoError as error:
            raise ModelError(f"{path}: {error}") from None


def read_header(path: str | os.PathLike[str]) -> BundleHeader:
    """Reads a bundle's metadata without its tensors.

    Raises:
        ModelError: The file is missing, damaged, or not a bundle; the message names it.
    """
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if _METADATA_KEY not in metadata:
        raise ModelError(
            f"{path}: a safetensors file, but no model bundle of cwsam-geo (make one with "
            "cwsam-geo convert)"
        )
    try:
        return BundleHeader.from_json(metadata[_METADATA_KEY])
    except CwsamGeoError as error:
        raise ModelError(f"{path}: {error}") from None


def _unreadable(path: str | os.PathLike[str], error: BaseException) -> ModelError:
    return ModelError(
        f"{path}: not a readable model bundle, perhaps cut short or of another format ({error}); "
        "get it again"
    )
