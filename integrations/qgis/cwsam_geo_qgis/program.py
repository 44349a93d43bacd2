"""Finds the program ``cwsam-geo``, and runs it as a process of its own."""

# SPDX-License-Identifier: GPL-2.0-or-later

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any

Event = dict[str, Any]
"""A JSON object of the program's ``--json``."""

NAME = "cwsam-geo"

MISSING = (
    "The program cwsam-geo was not found. Install it with Python 3.10 or newer: pip install "
    "cwsam-geo. If it is installed, set its path under Settings > Options > Processing > Providers "
    "> cwsam-geo."
)
"""What the user reads where the program is not there."""

NOT_INHERITED = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONEXECUTABLE",
    "__PYVENV_LAUNCHER__",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "PROJ_LIB",
    "PROJ_DATA",
)
"""Variables that QGIS sets for its own Python, GDAL and PROJ: the program has others."""

_GRACE = 60
"""Seconds that a cancelled run has to remove its unfinished files before it is killed. It reacts
after the batch that it computes."""

_POLL = 0.1
"""Seconds between two looks at whether the user has cancelled."""


class ProgramError(Exception):
    """The program is not there, or a run has failed; the message is for the user."""


def find(configured: str) -> str | None:
    """Finds the program.

    Args:
        configured: Path in QGIS's options: of the program, or of a virtual environment that has it;
            empty to look on the PATH, beside this Python's scripts and in ``~/.local/bin``.

    Returns:
        Its path; None where it is not there.
    """
    if configured:
        place = Path(configured).expanduser()
        candidates = [place, *(place / sub / NAME for sub in ("bin", "Scripts", "."))]
    else:
        # Programs that a desktop starts often lack this folder, where pip --user installs to.
        candidates = [Path.home() / ".local" / "bin" / NAME]
        on_path = shutil.which(NAME)
        if on_path:
            return on_path
    for candidate in candidates:
        for path in (candidate, candidate.with_suffix(".exe")):
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
    return None


def environment() -> dict[str, str]:
    """The environment of the program: QGIS's, without what belongs to QGIS's own libraries."""
    kept = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED}
    return {**kept, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}


def models(program: str, seconds: float = 60) -> list[str]:
    """Names of the model bundles that the program knows.

    Args:
        program: Path of the program.
        seconds: How long to wait for it at most.

    Raises:
        ProgramError: It cannot be run.
    """
    try:
        done = subprocess.run(
            [program, "models", "list", "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=True,
            **_options(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramError(f"{program}: cannot list its models ({error})") from None
    entries = [json.loads(line) for line in done.stdout.decode().splitlines()]
    # Checkpoints of SAM are bases for training, no models that map.
    return [e["name"] for e in entries if e["kind"] in ("full", "adapters")]


def run(
    arguments: Sequence[str],
    on_event: Callable[[Event], None],
    is_cancelled: Callable[[], bool],
) -> None:
    """Runs the program and passes its events on.

    Args:
        arguments: The command line, with the program's path first.
        on_event: Called with each event, a dictionary; see the program's ``--json``.
        is_cancelled: Returns True once the user wants the run to end.

    Raises:
        ProgramError: The run has failed or was cancelled. The message is the program's own line.
    """
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **_options(),
        )
    except OSError as error:
        raise ProgramError(f"{arguments[0]}: cannot be started ({error})") from None
    lines: Queue[str] = Queue()
    said: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=_pass_on, args=(process.stdout, lines.put), daemon=True),
        threading.Thread(target=_pass_on, args=(process.stderr, said.append), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        while process.poll() is None:
            if is_cancelled():
                _end(process)
                raise ProgramError("cancelled; unfinished outputs were discarded")
            _tell(lines, on_event, _POLL)
    finally:
        # Also after an error of on_event: no process stays behind.
        _end(process)
        for reader in readers:
            reader.join(_GRACE)
        for stream in (process.stdout, process.stderr):
            stream.close()
    _tell(lines, on_event, 0)
    if process.returncode:
        raise ProgramError(_reason(said, process.returncode))


def _options() -> dict[str, Any]:
    options: dict[str, Any] = {"env": environment()}
    if os.name == "nt":
        # No black window appears beside QGIS.
        options["creationflags"] = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    else:
        options["start_new_session"] = True
    return options


def _pass_on(stream: Iterable[bytes], put: Callable[[str], None]) -> None:
    for line in stream:
        put(line.decode("utf-8", "replace").rstrip("\r\n"))


def _tell(lines: Queue[str], on_event: Callable[[Event], None], wait: float) -> None:
    """Passes on the events that have come, and waits a moment for the first."""
    with contextlib.suppress(Empty):
        while True:
            line = lines.get(timeout=wait) if wait else lines.get_nowait()
            wait = 0
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    on_event(event)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process; it removes its unfinished files where the system can ask it to."""
    if process.poll() is not None:
        return
    if os.name == "nt":
        process.terminate()
    else:
        process.send_signal(signal.SIGTERM)
    last = time.monotonic() + _GRACE
    while process.poll() is None:
        if time.monotonic() > last:
            process.kill()
            process.wait()
            return
        time.sleep(0.05)


def _reason(said: Sequence[str], code: int) -> str:
    """The program's own line on why it failed."""
    errors = [line.partition("Error: ")[2] for line in said if line.startswith("Error: ")]
    if errors:
        return errors[-1]
    last = next((line for line in reversed(said) if line.strip()), "")
    return f"cwsam-geo ended with code {code}{': ' + last if last else ''}"
