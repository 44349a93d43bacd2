"""The metadata of a model bundle: everything but its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from cwsam_geo import __version__
from cwsam_geo.errors import LegendError, ModelError
from cwsam_geo.legend import Legend
from cwsam_geo.model.build import Architecture
from cwsam_geo.model.tensors import expected_shapes, trainable_names
from cwsam_geo.preprocess import PreprocessSpec

Kind = Literal["full", "adapters"]
"""Whether a bundle holds all tensors or only those that fine-tuning trains."""

KINDS: tuple[Kind, ...] = get_args(Kind)
FORMAT_VERSION = 1
"""Version of the metadata's layout; bundles with another version are refused."""


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

    Raises:
        ModelError: The attributes are inconsistent.
    """

    kind: Kind
    architecture: Architecture
    preprocess: PreprocessSpec
    legend: Legend
    provenance: Mapping[str, Any]
    base: BaseReference | None = None
    frozen_sha256: str | None = None

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

    def tensor_names(self) -> frozenset[str]:
        """Returns the names of the tensors that the bundle must hold."""
        if self.kind == "adapters":
            return trainable_names(self.architecture)
        return frozenset(expected_shapes(self.architecture))

    def to_json(self) -> str:
        """Returns the metadata as JSON text."""
        return json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "kind": self.kind,
                "architecture": self.architecture.to_dict(),
                "preprocess": self.preprocess.to_dict(),
                "legend": {"classes": self.legend.to_list(), "ignore": self.legend.ignore},
                "provenance": dict(self.provenance),
                "base": asdict(self.base) if self.base else None,
                "frozen_sha256": self.frozen_sha256,
            },
            ensure_ascii=False,
        )

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
        parts = ("kind", "architecture", "preprocess", "legend", "provenance", "base")
        if set(data) != {*parts, "frozen_sha256"}:
            wrong = sorted(set(data) ^ {*parts, "frozen_sha256"})
            raise ModelError(f"model bundle: unexpected or missing fields {wrong}")
        try:
            legend, base = data["legend"], data["base"]
            return cls(
                kind=data["kind"],
                architecture=Architecture.from_dict(data["architecture"]),
                preprocess=PreprocessSpec.from_dict(data["preprocess"]),
                legend=Legend.from_list(legend["classes"], "legend", legend["ignore"]),
                provenance=dict(data["provenance"]),
                base=None if base is None else BaseReference(**base),
                frozen_sha256=data["frozen_sha256"],
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
