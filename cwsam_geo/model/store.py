"""Where models are kept, and finding them: bundles by name, and the base of adapters."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from cwsam_geo.errors import ModelError
from cwsam_geo.model.bundle import ModelBundle, read_header
from cwsam_geo.model.checkpoints import CHECKPOINTS, named_checkpoint
from cwsam_geo.model.convert import sam_frozen_tensors
from cwsam_geo.model.header import BaseReference
from cwsam_geo.model.tensors import trainable_names

SUFFIX = ".safetensors"


def packaged_weights() -> Path:
    """Folder of the models that are installed with the package."""
    return Path(__file__).parents[1] / "weights"


def checkout_weights() -> Path | None:
    """``weights/`` of the checkout that this package runs from, or None if it is installed."""
    root = Path(__file__).parents[2]
    return root / "weights" if (root / "pyproject.toml").is_file() else None


def user_weights() -> Path:
    """The user's folder for models: ``cwsam-geo`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cwsam-geo"


def weight_folders() -> list[Path]:
    """The folders that models are looked for in, in this order."""
    checkout = checkout_weights()
    folders = [packaged_weights(), *([checkout] if checkout else []), user_weights()]
    return [folder for folder in folders if folder.is_dir()]


def known_models() -> dict[str, Path]:
    """Bundles in ``weight_folders``, by name; of two with one name the first found."""
    known: dict[str, Path] = {}
    for folder in weight_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            known.setdefault(path.stem, path)
    return known


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a model.

    Args:
        name_or_path: A path, or the name of a bundle in one of ``weight_folders``.

    Raises:
        ModelError: There is none; the message lists those that are known.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    text = os.fspath(name_or_path)
    known = known_models()
    name = text.removesuffix(SUFFIX)
    if name in known:
        return known[name]
    if path.is_dir():
        raise ModelError(f"{text}: a folder, not a model; give the .safetensors file in it")
    listed = ", ".join(sorted(known)) or "none"
    base = named_checkpoint(text)
    if base is not None:
        raise ModelError(
            f"{text}: is a checkpoint of SAM, a base that knows no classes; fine-tune it "
            f"(cwsam-geo finetune --init {base.name}), or map with a model (known: {listed})"
        )
    raise ModelError(f"{text}: no such model file, and no model of that name (known: {listed})")


def load_full(name_or_path: str | os.PathLike[str]) -> ModelBundle:
    """A bundle with all its tensors: for adapters, the base is found and checked.

    The base is looked for beside the adapters, in ``weight_folders``, and where it was when the
    adapters were trained; as a full bundle or as SAM's own checkpoint.

    Args:
        name_or_path: See ``find_model``.

    Raises:
        ModelError: The model or its base is missing or damaged; the message says what to get.
    """
    path = find_model(name_or_path)
    if path.suffix.lower() in {".pth", ".pt", ".ckpt"}:
        raise ModelError(f"{path}: a checkpoint, not a model bundle; run cwsam-geo convert on it")
    bundle = ModelBundle.load(path)
    base = bundle.header.base
    if base is None:
        return bundle
    for candidate in _candidates(path, base):
        # A candidate that cannot be read, or is another base, just happens to lie there.
        with contextlib.suppress(ModelError):
            return bundle.with_base(_frozen_tensors(candidate, base))
    raise ModelError(_no_base(path, base))


def _candidates(adapters: Path, base: BaseReference) -> Iterator[Path]:
    folders = [adapters.parent, *weight_folders()]
    hint = Path(base.hint)
    places = [folder / base.name for folder in folders] if base.name else []
    if base.hint:
        places += [hint, adapters.parent / hint]
    for folder in folders:
        places += sorted(folder.glob(f"*{SUFFIX}"))
    seen: set[Path] = set()
    for place in places:
        if place not in seen and place.is_file() and place != adapters:
            seen.add(place)
            yield place


def _frozen_tensors(path: Path, base: BaseReference) -> Mapping[str, Tensor]:
    if path.suffix != SUFFIX:
        return sam_frozen_tensors(path)
    if read_header(path).frozen_sha256 != base.sha256:
        raise ModelError(f"{path}: another base")
    bundle = ModelBundle.load(path)
    trained = trainable_names(bundle.architecture)
    return {name: t for name, t in bundle.tensors.items() if name not in trained}


def _no_base(path: Path, base: BaseReference) -> str:
    official = next((c for c in CHECKPOINTS.values() if c.file_name == base.name), None)
    get = (
        f"run: cwsam-geo models download {official.name}"
        if official
        else f"put {base.name} beside it"
    )
    return (
        f"{path}: holds adapters only; their base {base.name} (sha256 {base.sha256[:12]}...) is "
        f"neither beside them nor in {_places()}; {get}"
    )


def _places() -> str:
    checkout = checkout_weights()
    return " or ".join(str(f) for f in ([checkout] if checkout else []) + [user_weights()])
