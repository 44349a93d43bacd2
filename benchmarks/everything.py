"""Runs all benchmarks and prints one table.

    python benchmarks/everything.py --folder benchmark-results
    python benchmarks/everything.py --folder benchmark-results --quick
    python benchmarks/everything.py --folder benchmark-results --only model,geotiff --resume

The benchmarks run one after the other, in processes of their own; what each wrote and printed
stands in the folder (NAME.json, NAME.txt, NAME.log), the table too (table.md). A benchmark that
fails is a row that says so, the others go on, and the exit code is 1. ``--quick`` only shows that
everything runs: tiny models and scenes, whose figures mean nothing. With ``--data`` floods.py and
airsar.py train and are scored too. What needs a GPU is a row ``not run`` where there is none. The
whole takes hours; ``--resume`` takes what is in the folder already.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from figures import (
    HEAD,
    Figure,
    Reader,
    accuracy_figures,
    geotiff_figures,
    model_figures,
    predict_figures,
    seam_figures,
    training_figures,
    vectorize_figures,
)
from machine import machine, shown_machine

HERE = Path(__file__).parent
PRECISIONS = ("fp32", "bf16")
TITLES = {"model": "model only", "endtoend": "end to end"}
"""What the table calls a benchmark, where ``--only`` calls it otherwise."""

BACKBONES = ("vit_b", "vit_l", "vit_h", "small")
END_TO_END = {"vit_b": 6, "vit_l": 6, "vit_h": 6, "small": 25}
"""Megapixels of the scenes that go through an untrained model of each backbone."""


@dataclass(frozen=True)
class Job:
    """One run of one benchmark.

    Attributes:
        name: Of its files; begins with what ``--only`` calls it.
        script: Of the benchmark.
        arguments: Of the script.
        read: Figures of its results.
        prints: Whether it prints its results, instead of writing them with ``-o``.
        gpu: Whether it needs a GPU.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    read: Reader
    prints: bool = False
    gpu: bool = False

    @property
    def benchmark(self) -> str:
        """What ``--only`` calls it."""
        return self.name.split("-")[0]

    @property
    def case(self) -> str:
        """What it is called in a row of its own."""
        parts = self.name.split("-")[1:]
        return ", ".join(part for part in parts if part not in ("cpu", "cuda"))

    def result(self, folder: Path) -> Path:
        """Where its results are."""
        return folder / f"{self.name}{'.txt' if self.prints else '.json'}"

    def run(self, folder: Path) -> None:
        """Runs it; its output goes to files.

        Raises:
            subprocess.CalledProcessError: It failed.
        """
        result = self.result(folder)
        result.unlink(missing_ok=True)
        command = [sys.executable, str(HERE / self.script), *self.arguments]
        command += [] if self.prints else ["-o", str(result)]
        # Under its name only when whole: --resume trusts it.
        text = folder / f"{self.name}.part"
        with text.open("w") as out, (folder / f"{self.name}.log").open("w") as log:
            subprocess.run(command, stdout=out, stderr=log, check=True)
        text.replace(folder / f"{self.name}.txt")


def model_jobs(quick: bool) -> list[Job]:
    """The model alone. All cases of one run are in memory at once, so large ones are split."""
    if quick:
        cases = ("--cases", "plain:tuned,fast_fp32:tuned,fast_bf16:tuned", "--repeats", "1")
        chosen = {"tiny": ("--backbones", "tiny", *cases)}
    else:
        chosen = {name: ("--backbones", name) for name in ("vit_b", "small")}
        few = "plain:tuned,fast_fp32:tuned,fast_bf16:tuned"
        chosen["vit_l"] = ("--backbones", "vit_l", "--repeats", "2", "--cases", few)
        for precision in PRECISIONS:
            pair = f"plain:tuned,fast_{precision}:tuned"
            chosen[f"vit_h-{precision}"] = (
                "--backbones", "vit_h", "--repeats", "2", "--cases", pair
            )  # fmt: skip
    jobs = [Job(f"model-{name}", "model.py", a, model_figures) for name, a in chosen.items()]
    for name in BACKBONES:
        cuda = ("--device", "cuda", "--backbones", name)
        jobs.append(Job(f"model-{name}-cuda", "model.py", cuda, model_figures, gpu=True))
    return jobs


def end_to_end_jobs(quick: bool, scenes: Path) -> list[Job]:
    """Untrained models of every backbone through ``cwsam-geo predict``."""
    sizes = {"tiny": 0.3} if quick else END_TO_END
    jobs = []
    for device, backbones in (("cpu", sizes), ("cuda", END_TO_END)):
        for name, size in backbones.items():
            for precision in PRECISIONS:
                told = ("--precision", precision, "--device", device)
                arguments = (
                    "-m", f"random:{name}", "--sizes", str(size), "--strip-size", "0",
                    "--folder", str(scenes), *(a for o in told for a in ("--option", o)),
                )  # fmt: skip
                gpu = device == "cuda"
                read = predict_figures("end to end", "GPU" if gpu else "CPU")
                title = f"endtoend-{name}-{precision}-{device}"
                jobs.append(Job(title, "predict.py", arguments, read, gpu=gpu))
    return jobs


def other_jobs(quick: bool, model: str, scenes: Path, data: Path | None) -> list[Job]:
    """All that is not the model's speed."""
    sizes = ("--sizes", "0.3,1", "--strip-size", "1", "--repeats", "1")
    if not quick:
        sizes = ("--sizes", "25,100,430", "--strip-size", "100")
    small = ("--size", "1", "--repeats", "1") if quick else ()
    seams = (
        ("--size", "320", "--seeds", "101", "--overlaps", "0,1/8", "--phases", "1") if quick else ()
    )
    polygons = ("--sizes", "1") if quick else ("--sizes", "25,425", "--folder", str(scenes))
    steps = ("--backbone", "tiny", "--tile-size", "128", "--steps", "1") if quick else ()
    folder = ("--folder", str(scenes))
    jobs = [
        Job("size", "predict.py", ("-m", model, *sizes, *folder), predict_figures("scene size")),
        Job("geotiff", "geotiff.py", (*small, *folder), geotiff_figures),
        Job("seams", "seams.py", ("-m", model, *seams), seam_figures),
        Job("vectorize", "vectorize.py", polygons, vectorize_figures),
        Job("training", "training.py", steps, training_figures, prints=True),
    ]
    if data is not None and not quick:
        at = ("--data", str(data), "--output")
        floods = accuracy_figures(
            "IoU of water, unseen floods",
            {"model_iou": "model", "threshold_iou": "threshold", "unet_iou": "U-Net"},
        )
        airsar = accuracy_figures(
            "mIoU, AIRSAR San Francisco", {"model_miou": "model", "forest_miou": "random forest"}
        )
        jobs += [
            Job(
                "floods",
                "../experiments/floods.py",
                (*at, str(scenes / "floods")),
                floods,
                prints=True,
            ),
            Job(
                "airsar",
                "../experiments/airsar.py",
                (*at, str(scenes / "airsar")),
                airsar,
                prints=True,
            ),
        ]
    return jobs


def done(job: Job, folder: Path, resume: bool, gpu: bool) -> tuple[list[Figure], bool]:
    """Runs a job: its rows, and whether all went well."""
    row = Figure(TITLES.get(job.benchmark, job.benchmark), job.case, "GPU" if job.gpu else "CPU")
    if job.gpu and not gpu:
        return [replace(row, remarks="not run: no GPU")], True
    started = time.perf_counter()
    try:
        if not (resume and job.result(folder).exists()):
            click.echo(f"{job.name} ...", err=True)
            job.run(folder)
            click.echo(f"{job.name}: {time.perf_counter() - started:.0f} s", err=True)
        return list(job.read(job.result(folder))), True
    except (subprocess.CalledProcessError, OSError, ValueError, LookupError) as error:
        why = _last_words(job, folder) or " ".join(str(error).split())
        click.echo(f"{job.name} FAILED: {why}", err=True)
        return [replace(row, remarks=f"FAILED: {why}")], False


def _last_words(job: Job, folder: Path) -> str:
    """The last line of a job's log."""
    log = folder / f"{job.name}.log"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def chosen(jobs: Iterable[Job], only: str) -> list[Job]:
    """Those that ``--only`` names.

    Raises:
        click.UsageError: There is no such benchmark.
    """
    jobs = list(jobs)
    known = dict.fromkeys(job.benchmark for job in jobs)
    wanted = [name for name in only.split(",") if name]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise click.UsageError(f"--only {unknown[0]}: benchmarks are {', '.join(known)}")
    return [job for job in jobs if not wanted or job.benchmark in wanted]


def default_model(quick: bool) -> str:
    """The model that predict takes, where it is there; the demo model else."""
    from cwsam_geo.model.store import known_models
    from cwsam_geo.prediction.options import DEFAULT_MODEL

    return DEFAULT_MODEL if not quick and DEFAULT_MODEL in known_models() else "demo"


def table(figures: Sequence[Figure], about: str) -> str:
    """Markdown."""
    return "\n".join(["", about, "", HEAD, *(figure.cells() for figure in figures), ""])


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--folder", type=click.Path(path_type=Path), default=Path("benchmark-results"),
              help="Where results go.")  # fmt: skip
@click.option("--scenes", type=click.Path(path_type=Path),
              help="For scenes and untrained models, 10 GB.  [default: in the folder]")  # fmt: skip
@click.option("--quick", is_flag=True, help="Only show that everything runs.")
@click.option("--only", default="", help="Benchmarks, such as model,endtoend,size.")
@click.option("--resume", is_flag=True, help="Take results that are in the folder.")
@click.option("-m", "--model", help="A trained model.  [default: predict's, else demo]")
@click.option("--data", type=click.Path(path_type=Path, exists=True),
              help="Holds sen1floods11 and sf_airsar: train on them too.")  # fmt: skip
def main(folder: Path, scenes: Path | None, quick: bool, only: str, resume: bool,
         model: str | None, data: Path | None) -> None:  # fmt: skip
    """Run all benchmarks and print one table."""
    about = machine()
    scenes = scenes or folder / "scenes"
    scenes.mkdir(parents=True, exist_ok=True)
    jobs = chosen(
        [
            *model_jobs(quick),
            *end_to_end_jobs(quick, scenes),
            *other_jobs(quick, model or default_model(quick), scenes, data),
        ],
        only,
    )
    figures, well = [], True
    for job in jobs:
        rows, good = done(job, folder, resume, bool(about["gpus"]))
        figures += rows
        well &= good
    text = table(figures, shown_machine(about))
    (folder / "table.md").write_text(text, encoding="utf-8")
    click.echo(text)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    main()
