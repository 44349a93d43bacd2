"""Pictures for reports, drawn with matplotlib, which is an optional dependency."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cwsam_geo.atomic import atomic_output
from cwsam_geo.errors import UsageError

_LONGEST_NAME = 24
"""Characters of a class name that fit beside an axis; longer names are cut."""

_MOST_NUMBERS = 24
"""Classes up to which every cell shows its number; in larger matrices cells are too small."""


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of a size in inches, which needs no display.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "pictures need matplotlib, which is not installed: pip install 'cwsam-geo[report]'"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def write_confusion_png(
    path: str | os.PathLike[str],
    names: Sequence[str],
    matrix: ArrayLike,
    title: str,
    overwrite: bool = False,
) -> None:
    """Draws a confusion matrix with every row scaled to 100 per cent of its reference class.

    Args:
        path: The PNG file.
        names: Class names, K of them.
        matrix: Counts or proportions, shape (K, K); rows reference, columns map.
        title: Line above the picture.
        overwrite: Whether to replace an existing file.

    Raises:
        UsageError: matplotlib is not installed, or see ``check_output``.
        OutputError: The file cannot be written.
    """
    counts = np.asarray(matrix, np.float64)
    sums = counts.sum(1, keepdims=True)
    # Rows without any reference are NaN and stay blank.
    share = np.divide(counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)
    k = len(names)
    side = min(3.0 + 0.55 * k, 30.0)
    figure = new_figure(side + 1.0, side)
    axes = figure.add_subplot()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    labels = [n if len(n) <= _LONGEST_NAME else f"{n[: _LONGEST_NAME - 1]}…" for n in names]
    # In matplotlib a dollar sign starts a formula.
    labels = [n.replace("$", r"\$") for n in labels]
    axes.set_xticks(range(k), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(k), labels)
    axes.set(xlabel="map", ylabel="reference")
    axes.set_title(title.replace("$", r"\$"), fontsize=10)
    if k <= _MOST_NUMBERS:
        # Smaller shares would be printed as 0.0.
        for i, j in np.argwhere(share >= 0.0005):
            color = "white" if share[i, j] > 0.55 else "black"
            text = f"{100 * share[i, j]:.1f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
    figure.colorbar(image, label="share of the reference class", shrink=0.8)
    with atomic_output(path, overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
