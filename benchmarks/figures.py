"""Rows of everything.py's table, read from what the single benchmarks wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A row of the table; what does not apply is empty.

    Attributes:
        benchmark: Which benchmark.
        case: What was measured.
        device: Where.
        seconds: How long it took.
        rate: How much in a second.
        memory: Peak memory.
        remarks: All else.
    """

    benchmark: str
    case: str
    device: str = "CPU"
    seconds: str = ""
    rate: str = ""
    memory: str = ""
    remarks: str = ""

    def cells(self) -> str:
        """As a line of Markdown."""
        values = (
            self.benchmark,
            self.case,
            self.device,
            self.seconds,
            self.rate,
            self.memory,
            self.remarks,
        )
        return f"| {' | '.join(value.replace('|', '/') for value in values)} |"


HEAD = """| benchmark | case | device | seconds | rate | peak memory | remarks |
|---|---|---|---:|---:|---:|---|"""

Reader = Callable[[Path], Iterable[Figure]]
"""Figures of a file: JSON, or lines of JSON."""


def number(value: Any, digits: int = 3) -> str:
    """A few digits, or a dash where there is no number."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return "-"
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def percent(value: Any) -> str:
    """A share, or a dash."""
    return f"{number(100 * value)} %" if isinstance(value, (int, float)) else "-"


def megabytes(value: Any) -> str:
    """Memory with its unit."""
    return f"{number(value)} MB"


def content(path: Path) -> Any:
    """The JSON in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def model_figures(path: Path) -> Iterable[Figure]:
    """Of model.py: a tile at a time."""
    for row in content(path)["rows"]:
        memory = row.get("memory", "")
        remarks = {
            " x restated": number(row.get("speedup")),
            " of the matrix product's rate": percent(row.get("ceiling_share")),
            " relative error": number(row.get("error")),
        }
        seconds = row.get("seconds")
        yield Figure(
            "model only",
            f"{row['backbone']}, {row['network']}, memory {memory}, batch {row.get('batch', '-')}",
            "GPU" if memory == "cuda" else "CPU",
            f"{number(seconds)} a tile",
            f"{number(1 / seconds if seconds else None)} tiles/s",
            megabytes(row.get("peak_mb")),
            ", ".join(v + k for k, v in remarks.items() if v not in ("-", "- %")),
        )


def predict_figures(what: str, device: str = "CPU") -> Reader:
    """Of predict.py: whole runs, and strips against tiles."""

    def read(path: Path) -> Iterable[Figure]:
        results = content(path)
        name = Path(results["model"]).stem
        for run in results["predict"]:
            fed = run["tiles"] - run["empty_tiles"]
            yield Figure(
                what,
                f"{name}, {run['megapixels']:.3g} Mpx" + precision_of(results),
                device,
                number(run["wall"]),
                f"{number(fed / run['wall'])} tiles/s, "
                f"{number(run['megapixels'] * 1e6 / run['wall'])} px/s",
                megabytes(run["peak_mb"]),
                f"{percent(run['outside_model'])} outside the model",
            )
        for strips in results["strips"]:
            yield Figure(
                "reading",
                f"one-line strips against tiles, {strips['compress']}",
                remarks=f"{number(strips['ratio'])} times as long (limit 1.5)",
            )

    return read


def precision_of(results: Mapping[str, Any]) -> str:
    """The precision that predict was told, for a row's name."""
    options = list(results.get("options", ()))
    if "--precision" not in options[:-1]:
        return ""
    return f", {options[options.index('--precision') + 1]}"


def geotiff_figures(path: Path) -> Iterable[Figure]:
    """Of geotiff.py."""
    for row in content(path)["rows"]:
        yield Figure(
            f"GeoTIFF {row['what']}",
            f"{row['layout']}, {row['compress']}, threads: {row['threads']}",
            seconds=number(row["wall"]),
            rate=f"{number(row['megapixels'] / row['wall'])} Mpx/s",
            remarks=f"{number(row['cpu'])} CPU s, {percent(row['in_threads'])} in GDAL's threads",
        )


def seam_figures(path: Path) -> Iterable[Figure]:
    """Of seams.py."""
    results = content(path)
    for row in results["rows"]:
        yield Figure(
            "seams",
            f"{results['model']}, overlap {row['overlap']}, {row['blend']}",
            remarks=f"{number(row['cost'])} x the tiles, {percent(row['differs'])} of the pixels "
            f"differ, step {number(row['step'])}",
        )


def vectorize_figures(path: Path) -> Iterable[Figure]:
    """Of vectorize.py."""
    for row in content(path)["rows"]:
        yield Figure(
            "vectorize",
            f"{row['megapixels']:.3g} Mpx, {row['side']}",
            seconds=number(row["seconds"]),
            rate=f"{number(row['megapixels'] / row['seconds'])} Mpx/s",
            memory=megabytes(row["megabytes"]),
            remarks=f"{row['polygons']:,} polygons, {number(row['cpu'])} CPU s",
        )


def training_figures(path: Path) -> Iterable[Figure]:
    """Of training.py, which prints a line of JSON for each setting."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        case = f"{row['backbone']}, {row['tile_size']} px, {row['precision']}"
        case += ", checkpointing" if row["checkpointing"] else ""
        if "failed" in row:
            yield Figure("training", case, remarks=f"failed ({row['failed']})")
            continue
        yield Figure(
            "training",
            case,
            "GPU" if row["device"].startswith("cuda") else "CPU",
            f"{number(1 / row['tiles_per_second'])} a tile",
            f"{number(row['tiles_per_second'])} tiles/s",
            f"{number(1000 * row['peak_gb'])} MB",
        )


def accuracy_figures(what: str, names: Mapping[str, str]) -> Reader:
    """Of floods.py and airsar.py, which print JSON.

    Args:
        what: Name of the benchmark.
        names: Keys of the figures, and what to call them.
    """

    def read(path: Path) -> Iterable[Figure]:
        results = content(path)
        found = ", ".join(f"{name} {number(results[key])}" for key, name in names.items())
        verdict = "passed" if results["passed"] else "FAILED"
        yield Figure("accuracy", what, remarks=f"{found}: {verdict}")

    return read
