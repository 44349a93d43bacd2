"""Model bundles: one safetensors file with weights, architecture, preprocessing and legend."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors
import safetensors.torch
from torch import Tensor

from cwsam_geo._version import __version__
from cwsam_geo.atomic import atomic_output
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.pixel_size import PixelSizes
from cwsam_geo.core.preprocess import PreprocessSpec
from cwsam_geo.core.temperatures import Temperatures
from cwsam_geo.core.wrong_files import HEAD, wrong_download
from cwsam_geo.errors import CwsamGeoError, LegendError, ModelError, OutputError
from cwsam_geo.model.bundles.tensors import (
    assemble,
    check_finite,
    check_tensors,
    expected_shapes,
    tensors_sha256,
    trainable_names,
)
from cwsam_geo.model.network.architecture import Architecture
from cwsam_geo.model.network.cwsam import Cwsam

BundleKind = Literal["full", "adapters"]
"""Whether a bundle holds all tensors or only those that fine-tuning trains."""

FORMAT_VERSION = 1
"""Version of the metadata's layout; bundles with another version are refused."""

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
    def temperatures(self) -> Temperatures:
        """What divides the logits before the softmax."""
        return self.header.temperatures

    @property
    def kind(self) -> BundleKind:
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
    with contextlib.suppress(OSError), open(path, "rb") as file:
        wrong = wrong_download(file.read(HEAD))
        if wrong:
            return ModelError(f"{path}: {wrong}")
    return ModelError(
        f"{path}: not a readable model bundle, perhaps cut short or of another format ({error}); "
        "get it again"
    )


KINDS: tuple[BundleKind, ...] = get_args(BundleKind)


@dataclass(frozen=True)
class BaseReference:
    """The weights that an adapters bundle was trained on.

    Attributes:
        sha256: ``frozen_sha256`` of the base.
        name: Its file name, such as ``sam_vit_b_01ec64.pth``.
        hint: Path or URL of the base when the adapters were trained.

    Raises:
        ModelError: An attribute is not a string.
    """

    sha256: str
    name: str
    hint: str = ""

    def __post_init__(self) -> None:
        if not all(isinstance(v, str) for v in (self.sha256, self.name, self.hint)):
            raise ModelError("model bundle: the base's sha256, name and hint must be text")


@dataclass(frozen=True)
class BundleHeader:
    """Everything in a bundle but its tensors.

    Attributes:
        preprocess: From a scene's bands to the model's input.
        legend: The classes, in the order of the model's channels.
        provenance: Free-form JSON values: training data, metrics, licence and so on. ``trained``
            is required and says whether the adapters have been trained; ``created_by`` names the
            version that wrote the bundle.
        base: The base that an adapters bundle needs; None for a full bundle.
        frozen_sha256: Hash of the frozen tensors of a full bundle; None for adapters.
        temperatures: What divides the logits before the softmax, so that confidence means accuracy;
            it changes no class. Bundles that do not state any have 1.

    Raises:
        ModelError: The attributes are inconsistent.
    """

    kind: BundleKind
    architecture: Architecture
    preprocess: PreprocessSpec
    legend: Legend
    provenance: Mapping[str, Any]
    base: BaseReference | None = None
    frozen_sha256: str | None = None
    temperatures: Temperatures = field(default_factory=Temperatures)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"model bundle: kind {self.kind!r} is none of {KINDS}")
        if (self.kind == "adapters") != (self.base is not None):
            raise ModelError("model bundle: adapters need a base, and a full model has none")
        if len(self.legend) != self.architecture.num_classes:
            raise ModelError(
                f"the legend has {len(self.legend)} classes, but the model "
                f"{self.architecture.num_classes}"
            )
        if self.preprocess.tile_size != self.architecture.tile_size:
            raise ModelError(
                f"preprocessing makes tiles of {self.preprocess.tile_size} px, but the model "
                f"takes {self.architecture.tile_size} px"
            )
        if not isinstance(self.provenance.get("trained"), bool):
            raise ModelError("model bundle: provenance must say whether it is trained")

    @property
    def pixel_sizes(self) -> PixelSizes | None:
        """Pixel sizes of the training scenes; None if the bundle does not state them."""
        data = self.provenance.get("data")
        return PixelSizes.from_json(data.get("pixel_size_m")) if isinstance(data, Mapping) else None

    def tensor_names(self) -> frozenset[str]:
        """Returns the names of the tensors that the bundle must hold."""
        if self.kind == "adapters":
            return trainable_names(self.architecture)
        return frozenset(expected_shapes(self.architecture))

    def to_json(self) -> str:
        """Returns the metadata as JSON text."""
        content: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "architecture": self.architecture.to_dict(),
            "preprocess": self.preprocess.to_dict(),
            "legend": {"classes": self.legend.to_list(), "ignore": self.legend.ignore},
            "provenance": dict(self.provenance),
            "base": asdict(self.base) if self.base else None,
            "frozen_sha256": self.frozen_sha256,
        }
        if self.temperatures != Temperatures():
            # Older versions refuse fields that they do not know, and need none for 1.
            content["temperature"] = self.temperatures.to_json()
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> BundleHeader:
        """Reads the output of ``to_json``.

        Raises:
            ModelError: The text is malformed or has an unknown format version.
        """
        data = _parsed(text)
        # The version comes first: another one may have other fields.
        version = data.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ModelError(
                f"bundle format {version!r} is not known (this cwsam-geo {__version__} reads "
                f"{FORMAT_VERSION}); upgrade cwsam-geo"
            )
        data.setdefault("temperature", 1.0)
        parts = ("kind", "architecture", "preprocess", "legend", "provenance", "base")
        if set(data) != {*parts, "frozen_sha256", "temperature"}:
            wrong = sorted(set(data) ^ {*parts, "frozen_sha256", "temperature"})
            raise ModelError(f"model bundle: unexpected or missing fields {wrong}")
        try:
            legend, base = data["legend"], data["base"]
            preprocess = PreprocessSpec.from_dict(data["preprocess"])
            return cls(
                kind=data["kind"],
                architecture=Architecture.from_dict(data["architecture"]),
                preprocess=preprocess,
                legend=Legend.from_list(legend["classes"], "legend", legend["ignore"]),
                provenance=dict(data["provenance"]),
                base=None if base is None else BaseReference(**base),
                frozen_sha256=data["frozen_sha256"],
                temperatures=Temperatures.from_json(data["temperature"], preprocess.bands),
            )
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError(f"model bundle: malformed metadata ({error})") from None
        except LegendError as error:
            raise ModelError(f"model bundle: {error}") from None


def _parsed(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError("model bundle: its metadata is not JSON") from None
    if not isinstance(data, dict):
        raise ModelError("model bundle: its metadata is not an object")
    return data
