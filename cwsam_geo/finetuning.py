"""Fine-tuning: a region's configuration to a model bundle with its report.

Not called ``finetune``: ``cwsam_geo.finetune`` is the function.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cwsam_geo.errors import UsageError
from cwsam_geo.metrics import Scores
from cwsam_geo.model.device import resolve_precision
from cwsam_geo.model.header import Kind
from cwsam_geo.train.config import InputOptions, RegionConfig
from cwsam_geo.train.job import FinetuneOptions, Job
from cwsam_geo.train.loop import Event
from cwsam_geo.train.outputs import OutputPaths, can_draw
from cwsam_geo.train.prepare import region_data
from cwsam_geo.train.processes import join_processes
from cwsam_geo.train.region_file import load_region
from cwsam_geo.train.start import find_start

_NO_PICTURES = (
    "no pictures were drawn: matplotlib is not installed (pip install 'cwsam-geo[report]')"
)


@dataclass(frozen=True)
class FinetuneResult:
    """What ``finetune`` did.

    Attributes:
        bundle: The model.
        files: What else was written.
        kind: ``adapters`` or ``full``.
        epoch: The epoch whose weights the model has, from 1.
        epochs: Epochs that were trained.
        miou: Validation mIoU of that epoch.
        test_miou: mIoU on the test areas; None where there are none.
        seconds: Time of this run, the part before a resume not included.
    """

    bundle: Path
    files: tuple[Path, ...]
    kind: Kind
    epoch: int
    epochs: int
    miou: float
    test_miou: float | None
    seconds: float


def finetune(
    region: RegionConfig | str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: FinetuneOptions | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> FinetuneResult:
    """Trains a model for a region and writes it as a bundle, with a report beside it.

    The bundle has the weights of the epoch with the highest mIoU on the validation areas, or of
    the last one, as the recipe says. Under ``torchrun`` all processes call this, and the first one
    writes.

    Args:
        region: The configuration, or the path of a ``region.yaml``.
        output: The bundle to write, ``*.safetensors``; see ``OutputPaths`` for its companions.
        options: How outputs are treated.
        on_event: Called with mappings whose ``event`` is ``decision``, ``warning``, ``start``,
            ``progress``, ``epoch`` or ``done``; in the first process only.

    Returns:
        Scores and files.

    Raises:
        CwsamGeoError: With one line that says what is wrong and what to do.
        MemoryError: A batch does not fit into memory.
    """
    began = time.perf_counter()
    options = options or FinetuneOptions()
    config = region if isinstance(region, RegionConfig) else load_region(Path(region))
    paths = OutputPaths.beside(output)
    paths.check(options.overwrite, options.resume, options.tensorboard)
    processes = join_processes(config.machine.device)
    precision = resolve_precision(config.machine.precision, processes.device)
    tell = on_event if processes.rank == 0 else _silent
    _spare_inputs(paths, [config.init, *_files_of(config)])
    start = find_start(config.init, config.legend, config.tiles.tile_size, config.recipe.seed)
    _spare_inputs(paths, [start.base.hint] if start.base else [])
    model = start.build(config.recipe.scope)
    for text in start.remarks:
        tell({"event": "decision", "text": text})
    # A model that goes on keeps the scale that its weights know, unless told otherwise.
    base = start.preprocess if config.inputs == InputOptions() else None
    with region_data(config, base, lambda text: tell({"event": "warning", "text": text})) as data:
        job = Job(config, start, data, processes, precision, paths, options)
        training, tensors = job.train(model, tell)
        training = replace(training, run={**training.run, "seconds": _since(began)})
    files: list[Path] = []
    if processes.rank == 0:
        files = job.write(training, tensors)
        if not can_draw():
            tell({"event": "warning", "text": _NO_PICTURES})
    processes.wait()
    result = FinetuneResult(
        bundle=paths.bundle,
        files=tuple(files),
        kind=job.kind,
        epoch=training.best.epoch,
        epochs=len(training.history),
        miou=training.best.miou,
        test_miou=None
        if training.test_matrix is None
        else Scores.of(training.test_matrix, training.ignore).miou,
        seconds=_since(began),
    )
    tell({"event": "done", **_plain(result)})
    return result


def _files_of(config: RegionConfig) -> list[str]:
    return [file for scene in config.scenes for file in (*scene.pair.scene, scene.pair.labels)]


def _spare_inputs(paths: OutputPaths, inputs: Iterable[str]) -> None:
    """No output is a file that is read.

    Raises:
        UsageError: One is.
    """
    taken = {os.path.realpath(file): file for file in inputs if file}
    for path in vars(paths).values():
        if os.path.realpath(path) in taken:
            raise UsageError(f"{path}: is read for this training; choose another output")


def _plain(result: FinetuneResult) -> dict[str, Any]:
    return {
        **asdict(result),
        "bundle": str(result.bundle),
        "files": [str(file) for file in result.files],
    }


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def _silent(event: Event) -> None:
    """Processes other than the first say nothing."""
