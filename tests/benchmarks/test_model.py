"""The benchmark of the model: every case is a row, profiles are written, GPUs are not needed."""

import json
import subprocess
import sys

import pytest
import torch
from paths import BENCHMARKS

PROGRAM = BENCHMARKS / "model.py"


def run(*arguments):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--threads", "1", "--repeats", "1", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_cases_have_batches_of_their_own_and_profiles_tell_what_took_long(tmp_path):
    cases = "plain:tuned:1,biased_fp32:tuned,fast_fp32:tuned,piped_fp32:tuned"
    report, traces = tmp_path / "model.json", tmp_path / "traces"
    text = run(
        *("--backbones", "tiny", "--batch", "2", "--classes", "3", "--cases", cases),
        *("--trace", str(traces), "-o", str(report)),
    )
    rows = {row["network"]: row for row in json.loads(report.read_text())["rows"]}
    assert [row["batch"] for row in rows.values()] == [1, 2, 2, 2]
    assert all(rows[name]["error"] < 1e-5 for name in ("biased_fp32", "fast_fp32"))
    assert all(row["seconds"] > 0 for row in rows.values())
    assert "predict's pipeline keeps" in text
    for name in rows:
        json.loads((traces / f"tiny-{name}-tuned.json").read_text())
        assert "Self CPU" in (traces / f"tiny-{name}-tuned.txt").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so():
    assert run("--device", "cuda") == "not run: no GPU\n"
