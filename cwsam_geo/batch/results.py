"""What became of the scenes of a batch, and the table that tells it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cwsam_geo._version import __version__
from cwsam_geo.atomic import atomic_output, check_output
from cwsam_geo.errors import UsageError
from cwsam_geo.prediction.preparation import MapRequest

Status = Literal["mapped", "finished", "outside", "failed", "interrupted", "not started"]
"""``finished`` scenes have been mapped before, from the same input with the same settings;
``outside`` are those that the part to map (``--bounds``, ``--aoi``) does not touch."""

WITH_MAP: tuple[Status, ...] = ("mapped", "finished")

_KEY = "cwsam_geo_batch"
"""Key by which a summary in JSON is recognised."""

_COLUMNS = (
    *("scene", "status", "output", "confidence", "probabilities", "vectors"),
    *("report", "areas", "stac"),
    *("pixels", "seconds", "model_seconds", "error"),
)


@dataclass(frozen=True)
class SceneResult:
    """What became of one scene.

    Attributes:
        scene: Path or paths of the scene, without secrets.
        error: Why it failed, on one line.
        pixels: Number of pixels by class name, nodata included; empty unless mapped in this run.
        seconds: Time of mapping, without the preparation.
        model_seconds: Time that the model computed on its device.
    """

    scene: str
    request: MapRequest
    status: Status
    error: str | None = None
    pixels: Mapping[str, int] | None = None
    seconds: float | None = None
    model_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        outputs, shown = self.request.outputs, self.request.uploads.shown
        names = ("confidence", "probabilities", "vectors", "report", "areas", "stac")
        paths = {"output": self.request.output, **{n: getattr(outputs, n) for n in names}}
        return {
            "scene": self.scene,
            "status": self.status,
            **{name: None if path is None else shown(path) for name, path in paths.items()},
            "pixels": None if self.pixels is None else dict(self.pixels),
            "seconds": self.seconds,
            "model_seconds": self.model_seconds,
            "error": self.error,
        }


@dataclass(frozen=True)
class BatchResult:
    """What became of all scenes, in the order in which they were given.

    Attributes:
        seconds: Time of the whole batch.
        mosaic: The mosaic of all maps; None if none was made.
    """

    scenes: tuple[SceneResult, ...]
    seconds: float
    mosaic: Path | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Number of scenes by status; only statuses that occur."""
        statuses = [result.status for result in self.scenes]
        return {status: statuses.count(status) for status in dict.fromkeys(statuses)}

    @property
    def complete(self) -> bool:
        """Whether every scene has its map, but for those outside the part to map."""
        met = set(self.counts)
        return met <= {*WITH_MAP, "outside"} and not met.isdisjoint(WITH_MAP)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            _KEY: __version__,
            "counts": self.counts,
            "seconds": round(self.seconds, 3),
            "mosaic": None if self.mosaic is None else os.fspath(self.mosaic),
            "scenes": [result.to_dict() for result in self.scenes],
        }

    def write(self, path: Path) -> None:
        """Writes the table as ``.csv`` or ``.json``, in place of an earlier one.

        Raises:
            OutputError: It cannot be written.
        """
        with atomic_output(path, overwrite=True) as temporary:
            if path.suffix.lower() == ".json":
                text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1)
                temporary.write_text(text, encoding="utf-8")
                return
            with temporary.open("w", encoding="utf-8", newline="") as file:
                rows = [result.to_dict() for result in self.scenes]
                writer = csv.writer(file)
                classes = _classes(rows)
                writer.writerow([*_COLUMNS, *(f"pixels {name}" for name in classes)])
                writer.writerows(_row(row, classes) for row in rows)


def check_summary(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Checks that the table can be written: over an earlier table, but over no other file.

    Raises:
        UsageError: The suffix is unknown, or a file is there that is no such table.
        OutputError: See ``check_output``.
    """
    target = Path(path)
    if target.suffix.lower() not in (".csv", ".json"):
        raise UsageError(f"{target}: the summary is a table; name it *.csv or *.json")
    return check_output(target, overwrite or _is_summary(target))


def _is_summary(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            head = file.read(200)
    except (OSError, ValueError):
        return False
    return head.startswith(",".join(_COLUMNS)) or f'"{_KEY}"' in head


def _classes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["pixels"] or ()))


def _row(row: Mapping[str, Any], classes: Iterable[str]) -> list[Any]:
    pixels = row["pixels"]
    total = None if pixels is None else sum(pixels.values())
    values = [total if column == "pixels" else row[column] for column in _COLUMNS]
    counts = [None if pixels is None else pixels.get(name, 0) for name in classes]
    return ["" if value is None else value for value in (*values, *counts)]
