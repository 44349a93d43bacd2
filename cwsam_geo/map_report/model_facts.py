"""What a report tells of the model that made a map."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cwsam_geo.core.counting import how_many
from cwsam_geo.errors import CwsamGeoError

_CARD = ".md"
"""Suffix of a model's card, beside its bundle."""

_LARGEST_CARD = 200_000
"""Bytes of a card that are shown; cards have a few thousand."""


def model_facts(
    named: Mapping[str, Any] | None, given: str | os.PathLike[str] | None
) -> dict[str, Any]:
    """Facts and card of a model, for the page.

    Args:
        named: File name and hash of the model in the map's tags, or None.
        given: Path or name of the model, or None to look for the one that the map names.

    Returns:
        ``facts`` (names and values) and ``card`` (Markdown, or empty). Without the model's file,
        the facts say which it is.
    """
    path, header = _found(named, given)
    facts = [("Model", str((named or {}).get("file") or (path.name if path else "not known")))]
    if path is None or header is None:
        if named and "sha256" in named:
            facts.append(("SHA-256", str(named["sha256"])))
        facts.append(("Card", "the model's file was not found, so its card is not shown"))
        return {"facts": facts, "card": ""}
    facts += list(_of_header(header))
    if named and "sha256" in named:
        facts.append(("SHA-256", str(named["sha256"])))
    return {"facts": facts, "card": _card(path)}


def _found(
    named: Mapping[str, Any] | None, given: str | os.PathLike[str] | None
) -> tuple[Path | None, Any]:
    # Imported only when needed: bundles need torch, which takes seconds.
    from cwsam_geo.model.bundles.bundle import read_header
    from cwsam_geo.model.store import find_model
    from cwsam_geo.model.upstream.download import file_sha256

    wanted = given if given is not None else Path(str((named or {}).get("file", ""))).stem
    if not wanted:
        return None, None
    try:
        path = find_model(wanted)
        header = read_header(path)
    except (CwsamGeoError, OSError):
        if given is not None:
            raise
        return None, None
    # Another model may have the same name.
    if given is None and named and file_sha256(path) != named.get("sha256"):
        return None, None
    return path, header


def _of_header(header: Any) -> Iterator[tuple[str, str]]:
    spec, provenance = header.preprocess, header.provenance
    architecture = header.architecture
    yield (
        "Network",
        f"CWSAM, backbone {architecture.backbone.name}, tiles of {architecture.tile_size} px",
    )
    yield "Classes", ", ".join(header.legend.names)
    optional = spec.optional_bands
    yield (
        "Input",
        ", ".join(spec.bands) + (f" ({', '.join(optional)} may be absent)" if optional else ""),
    )
    data = provenance.get("data") or {}
    if "scene_count" in data:
        yield "Trained on", how_many(data["scene_count"], "scene")
    if "training_pixels" in data:
        pixels = [f"{name} {n:,}" for name, n in data["training_pixels"].items()]
        yield "Labelled pixels", ", ".join(pixels)
    for name, key in (("validation areas", "validation"), ("test areas", "test")):
        scores = ((provenance.get("metrics") or {}).get(key) or {}).get("overall") or {}
        if scores.get("miou") is not None:
            yield (
                f"Accuracy on {name}",
                f"mIoU {scores['miou']:.3f}, overall accuracy {scores['overall_accuracy']:.3f}, on "
                "areas kept out of training",
            )
    yield "Confidence", header.temperatures.text
    if provenance.get("licence"):
        yield "Licence", str(provenance["licence"])


def _card(path: Path) -> str:
    card = path.with_suffix(_CARD)
    if not card.is_file() or card.stat().st_size > _LARGEST_CARD:
        return ""
    return card.read_text(encoding="utf-8", errors="replace")


def setting_rows(settings: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Settings of a run, from the map's tags, as names and values; those not set are left out."""
    rows = []
    for key, value in (settings or {}).items():
        if value is None or value is False or value == {}:
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict):
            text = ", ".join(f"{k}: {v}" for k, v in value.items())
        elif value is True:
            text = "yes"
        rows.append((key.replace("_", " ").capitalize(), text))
    return rows
