"""Finds models: bundles by name, and the base weights of adapters.

Folders and files that this user may not enter or see are left out, as if they were not there:
``os.path.isfile`` and ``isdir`` answer False for them, where ``Path`` raises PermissionError.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from cwsam_geo.errors import ModelError
from cwsam_geo.model.bundles.bundle import BaseReference, ModelBundle, read_header
from cwsam_geo.model.bundles.tensors import trainable_names
from cwsam_geo.model.upstream.convert import sam_frozen_tensors
from cwsam_geo.model.upstream.published import CHECKPOINT_SUFFIXES, CHECKPOINTS, named_checkpoint

SUFFIX = ".safetensors"

FORMER_NAMES = {"s1-landcover": "s1-water"}
"""Names that bundled models had before. A model that has such a name now comes first."""


def packaged_weights() -> Path:
    """Returns the folder of the models that are installed with the package."""
    return Path(__file__).parents[1] / "weights"


def checkout_weights() -> Path | None:
    """Returns ``weights/`` of the checkout that the package runs from; None if installed."""
    root = Path(__file__).parents[2]
    return root / "weights" if os.path.isfile(root / "pyproject.toml") else None


def user_weights() -> Path | None:
    """Returns the user's model folder: ``cwsam-geo`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    None for a user without a home, such as a number without a name in a container.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return Path(cache) / "cwsam-geo"
    try:
        return Path.home() / ".cache" / "cwsam-geo"
    except RuntimeError:
        return None


def weight_folders() -> list[Path]:
    """Returns the existing folders that are searched for models, in order of search."""
    folders = packaged_weights(), checkout_weights(), user_weights()
    return [folder for folder in folders if folder is not None and os.path.isdir(folder)]


def known_models() -> dict[str, Path]:
    """Returns the bundles in ``weight_folders`` by name; the first of a name counts."""
    bundles: dict[str, Path] = {}
    for folder in weight_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            bundles.setdefault(path.stem, path)
    return bundles


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Finds the file of a model by its path, or by its name in ``weight_folders``.

    Raises:
        ModelError: There is no such model; the message lists the names of all models.
    """
    path = Path(name_or_path)
    text = os.fspath(name_or_path)
    if os.path.isfile(path):
        if not os.access(path, os.R_OK):
            raise ModelError(f"{text}: no permission to read it")
        return path
    bundles = known_models()
    name = text.removesuffix(SUFFIX)
    if name not in bundles:
        name = FORMER_NAMES.get(name, name)
    if name in bundles:
        return bundles[name]
    if os.path.isdir(path):
        raise ModelError(f"{text}: a folder, not a model; give the .safetensors file in it")
    known = ", ".join(sorted(bundles)) or "none"
    base = named_checkpoint(text)
    if base is not None:
        raise ModelError(
            f"{text}: is a checkpoint of SAM, a base that knows no classes; fine-tune it "
            f"(cwsam-geo finetune --init {base.name}), or map with a model (known: {known})"
        )
    if _hidden(path):
        raise ModelError(f"{text}: no permission to read it (models that you can use: {known})")
    raise ModelError(f"{text}: no such model file, and no model of that name (known: {known})")


def renamed(name_or_path: str | os.PathLike[str], found: Path) -> str | None:
    """Returns a remark on a model whose name is, or was, that of another one, or None.

    Args:
        name_or_path: What the user asked for.
        found: The file that ``find_model`` found for it.
    """
    name = os.fspath(name_or_path).removesuffix(SUFFIX)
    now = FORMER_NAMES.get(name)
    if now is None or os.path.isfile(name_or_path):
        return None
    if now == found.stem:
        return f"the model {name} is called {now} now"
    if found.parent in (packaged_weights(), checkout_weights()):
        return f"{name} is another model now; the one that had this name before is called {now}"
    return None


def _hidden(path: Path) -> bool:
    """True if a path with a folder in it lies where this user may not look."""
    try:
        path.stat()
    except PermissionError:
        # A bare name is a model's name, even in a folder that may not be entered.
        return len(path.parts) > 1 or path.suffix == SUFFIX
    except (OSError, ValueError):
        return False
    return False


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """Finds the file of a model bundle, like ``find_model``.

    Raises:
        ModelError: There is no such model, or the file is a checkpoint.
    """
    path = find_model(name_or_path)
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        raise ModelError(f"{path}: a checkpoint, not a model bundle; run cwsam-geo convert on it")
    return path


def load_full(name_or_path: str | os.PathLike[str]) -> ModelBundle:
    """Loads a bundle with all its tensors; for adapters, finds and checks the base.

    The base may be a full bundle or SAM's own checkpoint. It is searched for beside the adapters,
    in ``weight_folders``, and at its path when the adapters were trained.

    Raises:
        ModelError: The model or its base is missing or damaged; the message says what to get.
    """
    path = find_bundle(name_or_path)
    bundle = ModelBundle.load(path)
    base = bundle.header.base
    if base is None:
        return bundle
    for candidate in _candidates(path, base):
        # Any file in these folders is tried: unreadable ones and other bases are skipped.
        with contextlib.suppress(ModelError, OSError):
            return bundle.with_base(_frozen_tensors(candidate, base))
    raise ModelError(_no_base(path, base))


def _candidates(adapters: Path, base: BaseReference) -> Iterator[Path]:
    folders = [adapters.parent, *weight_folders()]
    hint = Path(base.hint)
    # The most likely paths first: by name, at the recorded path, then any bundle.
    paths = [folder / base.name for folder in folders] if base.name else []
    if base.hint:
        paths += [hint, adapters.parent / hint]
    for folder in folders:
        paths += sorted(folder.glob(f"*{SUFFIX}"))
    seen: set[Path] = set()
    for path in paths:
        if path not in seen and os.path.isfile(path) and path != adapters:
            seen.add(path)
            yield path


def _frozen_tensors(path: Path, base: BaseReference) -> Mapping[str, Tensor]:
    if path.suffix != SUFFIX:
        return sam_frozen_tensors(path)
    # The header holds the hash, so the tensors of other bases need not be read.
    if read_header(path).frozen_sha256 != base.sha256:
        raise ModelError(f"{path}: another base")
    bundle = ModelBundle.load(path)
    trainable = trainable_names(bundle.architecture)
    return {name: t for name, t in bundle.tensors.items() if name not in trainable}


def _no_base(path: Path, base: BaseReference) -> str:
    official = next((c for c in CHECKPOINTS.values() if c.file_name == base.name), None)
    advice = (
        f"run: cwsam-geo models download {official.name}"
        if official
        else f"put {base.name} beside it"
    )
    return (
        f"{path}: holds adapters only; their base {base.name} (sha256 {base.sha256[:12]}...) is "
        f"neither beside them nor in {_places()}; {advice}"
    )


def _places() -> str:
    folders = checkout_weights(), user_weights()
    return " or ".join(str(f) for f in folders if f is not None) or "the package"
