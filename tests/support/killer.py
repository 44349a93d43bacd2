"""Kills runs of ``predict`` at random moments and lets them go on, in processes of its own.

Run as a script: ``python killer.py SEED KILLS OUTPUT ARGUMENTS...``. It runs the command once
undisturbed, to ``OUTPUT/whole.tif``, then again and again with ``kill -9`` at random moments and
``--resume``, to ``OUTPUT/killed.tif``, and prints what it found as JSON.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from datetime import datetime as real_datetime
from pathlib import Path


class Clock(real_datetime):
    """A map names the second in which it was made; here all are made in the same one."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 1, 1, tzinfo=tz)


def prepare():
    """Imports all that a run needs, so that a kill hits the run and not the imports."""
    import torch

    from cwsam_geo.prediction import journal, provenance

    torch.set_num_threads(1)
    provenance.datetime = Clock
    journal._SECONDS = 0.0  # a part after every row of tiles


def in_a_child(arguments, delay=None):
    """Runs the command in a fork; returns its exit code, or None if it was killed."""
    child = os.fork()
    if child == 0:
        from cwsam_geo.cli.main import main

        # Standard error of a run that is killed may be cut anywhere.
        with open(os.devnull, "w") as nowhere:
            if delay is not None:
                os.dup2(nowhere.fileno(), 2)
                threading.Thread(target=kill_later, args=(delay,), daemon=True).start()
            try:
                main([*map(str, arguments)])
            except SystemExit as stopped:
                os._exit(stopped.code if isinstance(stopped.code, int) else 0)
            os._exit(70)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def kill_later(delay):
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)


def outputs(folder, name):
    return {layer: folder / f"{name}_{layer}.tif" for layer in ("confidence", "probabilities")}


def command(folder, name, arguments):
    more = [x for layer, path in outputs(folder, name).items() for x in (f"--{layer}", path)]
    return ["predict", *arguments, "-o", folder / f"{name}.tif", *more]


def contents(folder, name):
    paths = [folder / f"{name}.tif", *outputs(folder, name).values()]
    return [path.read_bytes() for path in paths]


def main():
    seed, kills, folder, arguments = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    folder, draw = Path(folder), random.Random(int(seed))
    prepare()
    began = time.perf_counter()
    assert in_a_child([*command(folder, "whole", arguments), "--resume"]) == 0
    duration = time.perf_counter() - began
    expected = contents(folder, "whole")
    found = {"killed": 0, "maps": 0, "different": 0, "resumed": 0, "left": [], "seconds": duration}
    while found["killed"] < kills:
        run = command(folder, "killed", arguments)
        while True:
            journal = folder / ".killed.tif.parts"
            found["resumed"] += any(journal.glob("*.json")) if journal.exists() else False
            fresh, began = not journal.exists(), time.perf_counter()
            delay = draw.uniform(0, 1.1 * duration)
            code = in_a_child([*run, "--resume", "--overwrite"], delay)
            if code is not None:
                # The first run may have been slow because the machine was busy.
                taken = time.perf_counter() - began
                duration = min(duration, taken) if fresh else duration
                break
            found["killed"] += 1
        assert code == 0, code
        found["maps"] += 1
        found["different"] += contents(folder, "killed") != expected
        if journal.exists():
            found["left"].append(sorted(os.listdir(journal)))
        for path in folder.glob("killed*"):
            path.unlink()
        # Hidden files of runs that were killed.
        for path in folder.glob(".killed*"):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
