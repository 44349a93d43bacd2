"""Reads upstream's ``.pth`` files, which are pickles, without running any code in them."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cwsam_geo.errors import ModelError

_WRAPPERS = ("model", "state_dict", "model_state_dict", "net")
"""Keys under which training code commonly stores the state dict."""

_MODULE = "module."
"""Prefix that ``DataParallel`` adds to the name of every tensor."""

_BEGINNINGS = (b"PK", b"\x80")
"""First bytes of the zip archives that torch writes, and of the bare pickles of older torch."""


@dataclass(frozen=True)
class CheckpointFile:
    """The contents of a checkpoint.

    Attributes:
        tensors: The state dict, with upstream's names, on the CPU.
        beside: Keys of the file's other contents, such as epoch and optimizer state.
    """

    tensors: Mapping[str, Tensor]
    beside: list[str]


def read_checkpoint(path: str | os.PathLike[str]) -> CheckpointFile:
    """Reads a state dict, which may be nested in a dict or have the prefix ``module.``.

    Raises:
        ModelError: The file is missing or damaged, holds Python objects, or has no state dict.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{path}: no such file")
    with file.open("rb") as opened:
        head = opened.read(512)
    if not head.startswith(_BEGINNINGS):
        raise ModelError(f"{path}: {_what_it_is(head)}")
    return _unwrapped(_load(file), file)


def _what_it_is(head: bytes) -> str:
    """Says what a file is that does not begin like a checkpoint, and what the user can do."""
    if not head:
        return "is empty (0 bytes); get the file again"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, not a checkpoint; download the file itself"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; get the file (git lfs pull)"
    # safetensors: 8 bytes with the header's length, then the header as JSON.
    if head[8:9] == b"{":
        return "a safetensors file, no PyTorch checkpoint; model bundles need no conversion"
    is_text = all(c in b"\t\n\r" or 32 <= c < 127 for c in head)
    hint = " (it looks like text)" if is_text else ""
    return f"no PyTorch checkpoint{hint}; give the .pth file that torch.save wrote"


def _load(file: Path) -> Any:
    # torch can memory-map its zip archives, but not the older pickles.
    is_zip = zipfile.is_zipfile(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # torch raises many unrelated types on damaged files
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        if "Unsupported" in str(error) or "weights only" in str(error).lower():
            raise ModelError(
                f"{file}: not a plain file of weights (it is damaged, or holds Python objects, "
                "which are not loaded because they could run code)"
            ) from None
        raise ModelError(
            f"{file}: not a readable checkpoint, perhaps cut short ({type(error).__name__}: "
            f"{first_line[:160]})"
        ) from None


def _unwrapped(content: Any, file: Path) -> CheckpointFile:
    other_keys: list[str] = []
    if isinstance(content, Mapping):
        wrapper = next((w for w in _WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if wrapper:
            other_keys = sorted(str(key) for key in content if key != wrapper)
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{file}: holds no state dict (tensors by name)")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(f"{file}: holds no state dict: {name!r} is no tensor")
        if value.layout != torch.strided:
            raise ModelError(f"{file}: tensor {name} is not a plain dense tensor")
    if all(name.startswith(_MODULE) for name in content):
        content = {name.removeprefix(_MODULE): value for name, value in content.items()}
    return CheckpointFile(dict(content), other_keys)
