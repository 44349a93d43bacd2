"""Trains a model for a region: the function behind ``cwsam-geo finetune``.

The module is not called ``finetune``: the function is exported as ``cwsam_geo.finetune``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cwsam_geo.atomic import check_apart, check_output
from cwsam_geo.core.metrics import Scores
from cwsam_geo.finetuning.data.prepare import region_data
from cwsam_geo.finetuning.options import FinetuneOptions
from cwsam_geo.finetuning.region.config import InputOptions, RegionConfig
from cwsam_geo.finetuning.region.region_file import load_region
from cwsam_geo.finetuning.region.wording import errors_in_words_of, in_words_of
from cwsam_geo.finetuning.report.files import OutputPaths, can_draw
from cwsam_geo.finetuning.run import TrainingRun
from cwsam_geo.finetuning.start import find_start
from cwsam_geo.finetuning.training.loop import Event
from cwsam_geo.finetuning.training.processes import join_processes
from cwsam_geo.model.bundles.bundle import BundleKind
from cwsam_geo.model.device import precision_warning, resolve_precision

_NO_PICTURES = (
    "no pictures were drawn: matplotlib is not installed (pip install 'cwsam-geo[report]')"
)


@dataclass(frozen=True)
class FinetuneResult:
    """Result of ``finetune``.

    Attributes:
        bundle: Path of the model bundle.
        files: The other files that were written.
        kind: ``adapters`` or ``full``; the tensors that the bundle contains.
        epoch: Epoch whose weights the bundle contains, from 1.
        epochs: Number of epochs trained.
        miou: mIoU on the validation areas after ``epoch``, 0 to 1.
        test_miou: mIoU on the test areas, 0 to 1; None if the region has none.
        seconds: Duration of this run, without the part before a resume.
    """

    bundle: Path
    files: tuple[Path, ...]
    kind: BundleKind
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

    The bundle contains the weights of the epoch with the highest mIoU on the validation areas, or
    of the last epoch, depending on the recipe. Under ``torchrun`` every process calls this
    function, and the process of rank 0 writes the files.

    Args:
        region: The configuration, or the path of a ``region.yaml``.
        output: The bundle to write, ``*.safetensors``; ``OutputPaths`` lists the files beside it.
        options: Whether to overwrite, to resume, and to write TensorBoard events.
        on_event: Called with mappings whose ``event`` is ``decision``, ``warning``, ``start``,
            ``estimate``, ``progress``, ``epoch`` or ``done``; in the process of rank 0 only.

    Raises:
        CwsamGeoError: The configuration, a file or an option is wrong. The message is one line
            that says what to do.
        MemoryError: A batch does not fit into memory.
    """
    began = time.perf_counter()
    options = options or FinetuneOptions()
    config = region if isinstance(region, RegionConfig) else load_region(Path(region))
    paths = OutputPaths.beside(output)
    # Fail before hours of work: outputs in the way, no device, an output that is also an input.
    paths.check(options.overwrite, options.resume, options.tensorboard)
    processes = join_processes(config.machine.device)
    precision = resolve_precision(config.machine.precision, processes.device)
    emit = on_event if processes.rank == 0 else _silent
    if options.report is not None:
        check_output(options.report, options.overwrite or options.resume)
    targets = [*vars(paths).values(), *([options.report] if options.report is not None else [])]
    _spare_inputs(targets, [config.init, *_files_of(config)])
    start = find_start(config.init, config.legend, config.tiles.tile_size, config.recipe.seed)
    # The frozen base of an adapters bundle is a file of its own; its path is known only now.
    _spare_inputs(targets, [start.base.hint] if start.base else [])
    model = start.build(config.recipe.scope)
    for text in start.remarks:
        emit({"event": "decision", "text": text})
    # A trained model keeps the preprocessing of its weights, unless the region sets its own.
    base = start.preprocess if config.inputs == InputOptions() else None

    def warn(text: str) -> None:
        emit({"event": "warning", "text": in_words_of(text, config.label)})

    slow = precision_warning(precision, processes.device)
    if slow is not None:
        warn(slow)
    with errors_in_words_of(config.label), region_data(config, base, warn) as data:
        job = TrainingRun(config, start, data, processes, precision, paths, options)
        training, tensors = job.train(model, emit)
        training = replace(training, run={**training.run, "seconds": _since(began)})
    files: list[Path] = []
    if processes.rank == 0:
        files = job.write(training, tensors)
        if not can_draw():
            emit({"event": "warning", "text": _NO_PICTURES})
    processes.wait()  # no process ends before the files are written
    result = FinetuneResult(
        bundle=paths.bundle,
        files=tuple(files),
        kind=job.kind,
        epoch=training.best.epoch,
        epochs=len(training.history),
        miou=training.best.miou,
        test_miou=None
        if training.test is None
        else Scores.of(training.test.matrix, training.ignore).miou,
        seconds=_since(began),
    )
    emit({"event": "done", **_plain(result)})
    return result


def _files_of(config: RegionConfig) -> list[str]:
    return [file for scene in config.scenes for file in (*scene.pair.scene, scene.pair.labels)]


def _spare_inputs(targets: Sequence[str | os.PathLike[str]], inputs: Iterable[str]) -> None:
    """Refuses outputs that are also inputs of the training.

    Raises:
        UsageError: An output is an input, also through a symbolic link.
    """
    check_apart(targets, {file: "an input of this training" for file in inputs if file})


def _plain(result: FinetuneResult) -> dict[str, Any]:
    return {
        **asdict(result),
        "bundle": str(result.bundle),
        "files": [str(file) for file in result.files],
    }


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def _silent(event: Event) -> None:
    """Listener of the processes other than rank 0, which report nothing."""
