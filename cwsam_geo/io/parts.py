"""The open files of a scene, and which of their bands are selected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cwsam_geo.errors import UsageError
from cwsam_geo.grid import Window
from cwsam_geo.io.bands import Band, Nodata, alpha_bands, data_bands, describe_bands
from cwsam_geo.io.opening import is_remote, reason, shown


@dataclass(frozen=True)
class Part:
    """One open file of a scene.

    Attributes:
        dataset: The open rasterio dataset.
        path: What it was opened from.
        bands: Its selected bands, all stored as one type.
        alpha: Numbers of the alpha bands that tell where they are data.
    """

    dataset: Any
    path: str
    bands: tuple[Band, ...]
    alpha: tuple[int, ...] = ()


def selected_parts(
    datasets: Sequence[Any], files: Sequence[str], bidx: Sequence[int] | None, nodata: Nodata
) -> tuple[list[Part], list[int]]:
    """The parts of a scene, and the number of each of their bands.

    Args:
        datasets: Its open files.
        files: What they were opened from.
        bidx: Bands to take, from 1, over all files, or None for all but alpha bands.
        nodata: What the user says of nodata.

    Raises:
        UsageError: ``bidx`` names a band that is not there, or one twice.
    """
    every = [
        (d, f, i)
        for d, f in zip(datasets, files, strict=True)
        for i in (data_bands(d) if bidx is None or len(files) > 1 else d.indexes)
    ]
    wanted = range(1, len(every) + 1) if bidx is None else bidx
    wrong = [b for b in wanted if not 1 <= b <= len(every)]
    if wrong or not wanted:
        raise UsageError(
            f"{shown(files[0])}: no band {wrong[0] if wrong else ''} (-b): "
            f"there are bands 1 to {len(every)}"
        )
    if len(set(wanted)) != len(list(wanted)):
        raise UsageError(f"a band is given twice in -b {','.join(map(str, wanted))}")
    selected = [every[b - 1] for b in wanted]
    parts = [
        Part(
            dataset,
            file,
            describe_bands(dataset, file, indexes, nodata),
            alpha_bands(dataset, [i for d, _, i in selected if d is dataset], nodata),
        )
        for dataset, file, indexes in _runs(selected)
    ]
    # Without a choice an alpha band is left out, but counts.
    numbers = list(wanted) if len(files) > 1 else [every[b - 1][2] for b in wanted]
    return parts, numbers


def _runs(selected: Iterable[tuple[Any, str, int]]) -> list[tuple[Any, str, list[int]]]:
    """Bands that are read together: neighbours of one file, stored as one type."""
    runs: list[tuple[Any, str, list[int]]] = []
    for dataset, file, index in selected:
        types = dataset.dtypes
        if runs and runs[-1][0] is dataset and types[runs[-1][2][-1] - 1] == types[index - 1]:
            runs[-1][2].append(index)
        else:
            runs.append((dataset, file, [index]))
    return runs


def stored_type(parts: Sequence[Part]) -> str:
    """Numpy's name of the type that holds all that the parts store."""
    kinds = {part.dataset.dtypes[b.index - 1] for part in parts for b in part.bands}
    plain = ["complex64" if k.startswith("complex_int") else k for k in kinds]
    return str(np.result_type(*plain))


def unreadable(path: str, window: Window, error: BaseException) -> str:
    """The message where a file cannot be read, and what to do."""
    rows = f"rows {window.row} to {window.bottom - 1}"
    advice = (
        "check the network and try again"
        if is_remote(path)
        else "the file is damaged or incomplete: get it again"
    )
    return f"{shown(path)}: cannot read {rows} ({reason(error, path)}); {advice}"
