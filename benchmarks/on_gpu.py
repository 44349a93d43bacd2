"""Everything to know about a GPU in one go of at most eight minutes.

    python benchmarks/on_gpu.py --out gpu-results
    python benchmarks/on_gpu.py --out gpu-results --device cpu --quick     # only shows that it runs

In this order: the tests that need a GPU; parity with the CPU's numbers; the model alone; whole
scenes from file to file; where the device waits meanwhile; training steps; and last, because
compiling takes long, the model through torch.compile. Each step is a process of its own with a time
limit. A step that fails or runs out of time is a row that says so, and the next one begins. OUT
gets ``on_gpu.md`` (the table), ``on_gpu.json`` (all figures, with the device's waits) and
``on_gpu.log`` (what the steps printed). They are written after every step, so that an interrupted
run leaves what it has measured.

It needs no network and no file beside the checkout. The package may be installed, or is taken from
the checkout.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from figures import HEAD, Figure, content, model_figures, number, percent, training_figures

HERE = Path(__file__).resolve().parent
LEAST = 10.0
"""Seconds. A step that would get less is left out."""

WHERE = {"cuda": "GPU", "cpu": "CPU"}
"""What the table calls a device."""

PRECISIONS = {"cuda": ("bf16", "fp32"), "cpu": ("fp32",)}
"""Number formats that are measured, the one of ``predict`` first. Many CPUs only emulate bf16."""

PARITY = {"fp32": 2e-3, "bf16": 5e-2}
"""Largest relative error of the logits against fp32 on the CPU. cuDNN's convolutions use TF32 by
default, which has ten bits of mantissa."""

AIMS = {"vit_b": 250.0, "vit_h": 45.0}
"""Tiles a second in bf16 that an H100 or H200 should reach."""

PIPELINE_AIM = 0.8
"""Share of the bare model's rate that the way from file to file should keep."""

Read = Callable[[Path, Mapping[str, Any]], Iterable[Figure]]
"""Rows of a step, from its results and those of the steps before."""


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: Short name, unique.
        command: Arguments of Python. ``{result}`` is where the step writes its JSON.
        limit: Seconds after which it is ended.
        read: Rows of its results.
        prints: Whether its standard output is the result.
    """

    name: str
    command: tuple[str, ...]
    limit: float
    read: Read
    prints: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        step: Its name.
        state: ``done``, ``failed``, ``out of time`` or ``left out``.
        seconds: How long it took.
        figures: Its rows.
        result: Its JSON, or None.
        log: What it printed.
    """

    step: str
    state: str
    seconds: float
    figures: tuple[Figure, ...]
    result: Any = None
    log: str = ""


def run_step(step: Step, folder: Path, left: float, before: Mapping[str, Any]) -> Outcome:
    """Runs a step for at most its limit and the time that is left.

    Args:
        step: The step.
        folder: Where its result and its log go.
        left: Seconds that the whole run has left.
        before: Results of earlier steps, by name.
    """
    limit = min(step.limit, left)
    if limit < LEAST:
        return failed(step, "left out", 0.0, "no time is left for it")
    result, log = folder / f"{step.name}.json", folder / f"{step.name}.log"
    command = [sys.executable, *(a.replace("{result}", str(result)) for a in step.command)]
    began = time.perf_counter()
    with log.open("w") as errors, contextlib.ExitStack() as stack:
        out = stack.enter_context(result.open("w")) if step.prints else errors
        # A session of its own, so that its own processes end with it.
        process = subprocess.Popen(
            command, stdout=out, stderr=errors, cwd=HERE, start_new_session=True, env=environment()
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_session(process)
    seconds, said = time.perf_counter() - began, log.read_text(errors="replace")
    if code is None:
        return failed(step, "out of time", seconds, f"ended after {limit:.0f} s", said)
    if code:
        return failed(step, "failed", seconds, f"exit code {code}: {last_words(said)}", said)
    try:
        text = result.read_text()
        found = [json.loads(line) for line in text.splitlines()] if step.prints else content(result)
        rows = tuple(step.read(result, before))
    except (OSError, ValueError, LookupError, TypeError) as error:
        why = f"its results cannot be read ({type(error).__name__}: {error})"
        return failed(step, "failed", seconds, why, said)
    return Outcome(step.name, "done", seconds, rows, found, said)


def environment() -> dict[str, str]:
    """The package comes from the checkout where it is not installed; paths behind it stay."""
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def end_session(process: subprocess.Popen[Any]) -> None:
    """Ends a step with all processes that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def failed(step: Step, state: str, seconds: float, why: str, said: str = "") -> Outcome:
    """A step without figures."""
    row = Figure(step.name, "", remarks=f"{state.upper()}: {why}")
    return Outcome(step.name, state, seconds, (row,), None, said)


def last_words(said: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in said.splitlines()]
    return next((line[:200] for line in reversed(lines) if line), "it said nothing")


def run_all(
    steps: Sequence[Step],
    minutes: float,
    report: Callable[[Sequence[Outcome]], None],
    where: str = "GPU",
) -> list[Outcome]:
    """Runs all steps in their order.

    Args:
        steps: The steps.
        minutes: For all of them together.
        report: Called with the outcomes so far after each step.
        where: What the table calls the device.
    """
    began, outcomes = time.perf_counter(), list[Outcome]()
    with TemporaryDirectory() as folder:
        for step in steps:
            click.echo(f"{step.name} ...", err=True)
            left = 60 * minutes - (time.perf_counter() - began)
            before = {outcome.step: outcome.result for outcome in outcomes}
            outcome = run_step(step, Path(folder), left, before)
            figures = tuple(replace(figure, device=where) for figure in outcome.figures)
            outcomes.append(replace(outcome, figures=figures))
            click.echo(f"{step.name}: {outcome.state}", err=True)
            report(outcomes)
    return outcomes


# Rows of the steps


def test_rows(path: Path, before: Mapping[str, Any]) -> Iterator[Figure]:
    """The last line of pytest."""
    yield Figure("tests", "pytest -m gpu", remarks=str(content(path)["summary"]))


def parity_rows(path: Path, before: Mapping[str, Any]) -> Iterator[Figure]:
    """Relative errors against the CPU, with a verdict."""
    for row in content(path)["rows"]:
        error, precision = row["error"], row["network"].rpartition("_")[2]
        limit = PARITY[precision]
        verdict = "ok" if error <= limit else f"ABOVE {limit}"
        remarks = f"relative error {number(error)} against fp32 on the CPU: {verdict}"
        yield Figure("parity", f"{row['backbone']}, {precision}", remarks=remarks)


def model_rows(path: Path, before: Mapping[str, Any]) -> Iterator[Figure]:
    """The model alone, with the aim where there is one."""
    rows = content(path)["rows"]
    for figure, row in zip(model_figures(path), rows, strict=True):
        aim = AIMS.get(row["backbone"])
        if aim is None or row["network"] != "fast_bf16":
            yield figure
            continue
        reached = "reached" if 1 / row["seconds"] >= aim else "NOT reached"
        text = f"{figure.remarks}, aim of {aim:.0f} tiles/s on an H100 {reached}"
        yield replace(figure, remarks=text)


def bare_rate(before: Mapping[str, Any], backbone: str) -> float | None:
    """Tiles a second of the model alone in the precision of ``predict``, if that was measured."""
    for name, result in before.items():
        if not name.startswith("model"):
            continue
        for row in result.get("rows", ()) if isinstance(result, dict) else ():
            if row["backbone"] == backbone and row["network"].startswith("fast_"):
                return float(1 / row["seconds"])
    return None


def scene_rows(backbone: str) -> Read:
    """A whole scene through ``predict``, against the bare model's rate."""

    def read(path: Path, before: Mapping[str, Any]) -> Iterator[Figure]:
        bare = bare_rate(before, backbone)
        for run in content(path)["predict"]:
            fed = run["tiles"] - run["empty_tiles"]
            rate = fed / run["map"]
            remarks = f"{number(run['wall'])} s with start and COG"
            if bare:
                share = rate / bare
                remarks += f"; {percent(share)} of the bare model's rate"
                if share < PIPELINE_AIM:
                    remarks += f", aim of {PIPELINE_AIM:.0%} NOT reached"
            yield Figure(
                "end to end",
                f"{backbone}, {run['megapixels']:.3g} Mpx",
                seconds=number(run["map"]),
                rate=f"{number(rate)} tiles/s",
                remarks=remarks,
            )

    return read


def wait_rows(path: Path, before: Mapping[str, Any]) -> Iterator[Figure]:
    """How busy the device was, and what the CPU did in the longest waits."""
    found = content(path)
    waits = "; ".join(f"{number(1000 * w['seconds'])} ms: {w['cpu']}" for w in found["waits"][:3])
    yield Figure(
        "waits",
        f"{found['model']}, {found['megapixels']:.3g} Mpx",
        seconds=number(found["seconds"]),
        remarks=f"device busy {percent(found['busy'])}; longest: {waits}",
    )


def step_rows(path: Path, before: Mapping[str, Any]) -> Iterable[Figure]:
    """Training steps."""
    return training_figures(path)


# The steps


def steps_for(device: str, megapixels: float, quick: bool, folder: Path) -> list[Step]:
    """All steps in their order.

    Args:
        device: ``cuda`` or, to see that it runs, ``cpu``.
        megapixels: Of the scene.
        quick: Tiny sizes.
        folder: For scenes and untrained models; waits are written to ``OUT``.
    """
    backbones = ("tiny",) if quick else ("small", "vit_b", "vit_h")
    memory = "cuda" if device == "cuda" else "tuned"
    precisions = PRECISIONS[device]
    own = str(HERE / "on_gpu.py")
    model = (str(HERE / "model.py"), "--device", device, "-o", "{result}")
    steps = [Step("tests", (own, "--one", "tests", "--result", "{result}"), 75, test_rows)]
    for name in backbones[:2]:
        cases = ",".join(f"fast_{p}:{memory}:1" for p in precisions)
        arguments = ("--backbones", name, "--cases", cases, "--repeats", "1")
        steps.append(Step(f"parity {name}", (*model, *arguments), 60, parity_rows))
    for name in backbones:
        cases = ",".join(f"fast_{p}:{memory}" for p in precisions)
        arguments = ("--backbones", name, "--cases", cases, "--repeats", "3")
        steps.append(Step(f"model {name}", (*model, *arguments), 90, model_rows))
    for name in backbones[:2]:
        arguments = (
            "-m", f"random:{name}", "--sizes", str(megapixels), "--strip-size", "0", "--folder",
            str(folder), "-o", "{result}",
            *told("--device", device), *told("--precision", precisions[0]),
        )  # fmt: skip
        command = (str(HERE / "predict.py"), *arguments)
        steps.append(Step(f"scene {name}", command, 100, scene_rows(name)))
    for name in backbones[:2]:
        wanted = {"model": f"random:{name}", "megapixels": megapixels, "device": device}
        wanted["folder"] = str(folder)
        command = (own, "--one", "waits", "--settings", json.dumps(wanted), "--result", "{result}")
        steps.append(Step(f"waits {name}", command, 60, wait_rows))
    steps.append(Step("training", training(device, quick), 90, step_rows, prints=True))
    if device == "cuda":
        for name in backbones:
            arguments = ("--backbones", name, "--cases", f"compiled_bf16:{memory}")
            command = (*model, *arguments, "--repeats", "3")
            steps.append(Step(f"compiled {name}", command, 120, model_rows))
    return steps


def told(*option: str) -> Iterator[str]:
    """An option of ``predict`` as predict.py takes it."""
    for part in option:
        yield from ("--option", part)


def training(device: str, quick: bool) -> tuple[str, ...]:
    """The arguments of training.py, which measures with and without checkpointing."""
    sizes = ("--backbone", "tiny", "--tile-size", "64") if quick else ()
    steps = ("--steps", "1" if quick else "5", "--device", device)
    return (str(HERE / "training.py"), *sizes, *steps)


# What runs in processes of its own


def run_tests(result: Path) -> None:
    """``pytest -m gpu``; its last line is the result. pytest's failure is the step's failure."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    click.echo(done.stdout)
    # 5: no test was selected, so that none failed.
    if done.returncode not in (0, 5):
        sys.exit(done.returncode)
    result.write_text(json.dumps({"summary": done.stdout.strip().splitlines()[-1]}))


def run_waits(settings: Mapping[str, Any], result: Path) -> None:
    """Maps a scene under torch's profiler, and finds when the device had nothing to do."""
    from device_waits import profiled

    result.write_text(json.dumps(profiled(**settings)))


# The report


def shown(outcomes: Sequence[Outcome], about: str) -> str:
    """The table as Markdown."""
    rows = [figure.cells() for outcome in outcomes for figure in outcome.figures]
    took = ", ".join(f"{o.step} {o.seconds:.0f} s" for o in outcomes)
    return "\n".join([about, "", HEAD, *rows, "", f"Time: {took}.", ""])


def write_report(out: Path, about: str, outcomes: Sequence[Outcome]) -> None:
    """Writes table, JSON and log; see the head of this file."""
    (out / "on_gpu.md").write_text(shown(outcomes, about), encoding="utf-8")
    steps = [{k: v for k, v in asdict(o).items() if k != "log"} for o in outcomes]
    report = {"machine": about, "steps": steps}
    (out / "on_gpu.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    log = "".join(f"== {o.step}: {o.state}\n{o.log}\n" for o in outcomes)
    (out / "on_gpu.log").write_text(log, encoding="utf-8")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where results go.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda")
@click.option("--megapixels", default=100.0, help="Size of the simulated scene.")
@click.option("--minutes", default=8.0, help="For everything.")
@click.option(
    "--only", default="", help="Steps by the first word of their name, such as tests,model."
)
@click.option("--folder", type=click.Path(path_type=Path),
              help="Keeps scenes and untrained models.  [default: they are deleted]")  # fmt: skip
@click.option("--quick", is_flag=True, help="Tiny sizes: only show that everything runs.")
@click.option("--one", type=click.Choice(["tests", "waits"]), hidden=True)
@click.option("--settings", default="{}", hidden=True)
@click.option("--result", type=click.Path(path_type=Path), hidden=True)
def main(out: Path | None, minutes: float, only: str, folder: Path | None, **given: Any) -> None:
    """Tests and measures on a GPU, in one go."""
    if given["one"] == "tests":
        run_tests(given["result"])
        return
    if given["one"] == "waits":
        run_waits(json.loads(given["settings"]), given["result"])
        return
    if out is None:
        raise click.UsageError("give --out, the folder of the results")
    out.mkdir(parents=True, exist_ok=True)
    about = described(given["device"])
    with TemporaryDirectory() as temporary:
        scenes = (folder or Path(temporary)).resolve()
        megapixels = 0.3 if given["quick"] else given["megapixels"]
        steps = steps_for(given["device"], megapixels, given["quick"], scenes)
        wanted = only.split(",") if only else []
        steps = [s for s in steps if not wanted or s.name.split()[0] in wanted]
        where = WHERE[given["device"]]
        outcomes = run_all(steps, minutes, lambda so_far: write_report(out, about, so_far), where)
    click.echo(shown(outcomes, about))
    sys.exit(0 if all(outcome.state == "done" for outcome in outcomes) else 1)


def described(device: str) -> str:
    """The machine as one line; asked in a process of its own, since CUDA may be broken.

    Raises:
        click.ClickException: There is no GPU.
    """
    code = (
        "import json, torch; from machine import machine, shown_machine; "
        "print(shown_machine(machine())); print(torch.cuda.is_available())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE, env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        return f"the machine cannot be described: {last_words(done.stderr)}"
    about, there = done.stdout.strip().splitlines()[-2:]
    if device == "cuda" and there != "True":
        raise click.ClickException("not run: torch finds no GPU (--device cpu --quick is a try)")
    return about


if __name__ == "__main__":
    main()
