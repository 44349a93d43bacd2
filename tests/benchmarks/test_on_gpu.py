"""The run on a GPU: steps fail, hang and are left out, and the next one begins."""

import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from paths import BENCHMARKS

sys.path[:0] = [str(BENCHMARKS)]

import device_waits  # noqa: E402
import on_gpu  # noqa: E402
from figures import Figure  # noqa: E402


def step(name, code, limit=60.0, read=None, **more):
    """A step that runs some lines of Python, which find the path of the result in ``result``."""
    lines = f"import sys, json; result = sys.argv[1]; {code}"
    read = read or (lambda path, before: [Figure(name, path.read_text())])
    return on_gpu.Step(name, ("-c", lines, "{result}"), limit, read, **more)


WRITES = "open(result, 'w').write(json.dumps(7))"


def test_steps_fail_hang_and_print_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(on_gpu, "LEAST", 0.1)
    reports = []
    steps = [
        step("good", WRITES),
        step("bad", "print('first'); sys.exit('no such kernel')"),
        step("hangs", "import time; print('waiting', flush=True); time.sleep(60)", limit=1.0),
        step("silent", "pass"),
        step("unreadable", "open(result, 'w').write('{')"),
        step("odd", WRITES, read=lambda path, before: {}["nothing"]),
        step("prints", "print(json.dumps(8)); print(json.dumps(9))", prints=True),
        step("sees", WRITES, read=lambda path, before: [Figure("sees", str(before["good"]))]),
    ]
    began = time.perf_counter()
    outcomes = on_gpu.run_all(steps, 1.0, lambda so_far: reports.append(len(so_far)))
    assert time.perf_counter() - began < 30
    assert reports == list(range(1, 9))
    states = {outcome.step: outcome.state for outcome in outcomes}
    assert states == {
        "good": "done", "bad": "failed", "hangs": "out of time", "silent": "failed",
        "unreadable": "failed", "odd": "failed", "prints": "done", "sees": "done",
    }  # fmt: skip
    remarks = {outcome.step: outcome.figures[0].remarks for outcome in outcomes}
    assert remarks["bad"] == "FAILED: exit code 1: no such kernel"
    assert remarks["hangs"] == "OUT OF TIME: ended after 1 s"
    assert "waiting" in outcomes[2].log
    assert outcomes[6].result == [8, 9]
    assert outcomes[7].figures[0].case == "7"
    on_gpu.write_report(tmp_path, "a machine", outcomes)
    table = (tmp_path / "on_gpu.md").read_text()
    assert table.startswith("a machine")
    assert table.count("\n| ") == 1 + len(steps)
    report = json.loads((tmp_path / "on_gpu.json").read_text())
    assert [s["state"] for s in report["steps"]] == list(states.values())
    assert "no such kernel" in (tmp_path / "on_gpu.log").read_text()


def test_what_a_step_has_started_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(on_gpu, "LEAST", 0.1)
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    code = f"import subprocess; subprocess.run([sys.executable, '-c', {child!r}])"
    outcome = on_gpu.run_step(step("parent", code), tmp_path, 0.8, {})
    assert outcome.state == "out of time"
    time.sleep(3.2)
    assert not mark.exists()


def test_what_no_time_is_left_for_is_left_out(tmp_path):
    outcome = on_gpu.run_step(step("late", WRITES), tmp_path, 3.0, {})
    assert outcome.state == "left out"
    assert not (tmp_path / "late.json").exists()


def test_all_steps_come_in_the_order_of_their_worth(tmp_path):
    for device in ("cuda", "cpu"):
        steps = on_gpu.steps_for(device, 100, False, tmp_path)
        kinds = list(dict.fromkeys(s.name.split()[0] for s in steps))
        wanted = ["tests", "parity", "model", "scene", "waits", "training"]
        assert kinds == wanted + (["compiled"] if device == "cuda" else [])
        assert len({s.name for s in steps}) == len(steps)


def rows_of(tmp_path, read, content, before=None):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    return list(read(path, before or {}))


def model_row(network, seconds, error=1e-6, backbone="vit_b"):
    return {
        "backbone": backbone, "network": network, "memory": "cuda", "batch": 16,
        "seconds": seconds, "ceiling_share": 0.5, "peak_mb": 4000, "error": error, "speedup": None,
    }  # fmt: skip


def test_rows_say_whether_aims_are_reached(tmp_path):
    rows = [model_row("fast_bf16", 1 / 251), model_row("fast_fp32", 1 / 20)]
    fast, exact = rows_of(tmp_path, on_gpu.model_rows, {"rows": rows})
    assert "aim of 250 tiles/s on an H100 reached" in fast.remarks
    assert "aim" not in exact.remarks
    (slow,) = rows_of(tmp_path, on_gpu.model_rows, {"rows": [model_row("fast_bf16", 0.01)]})
    assert "NOT reached" in slow.remarks
    errors = [model_row("fast_fp32", 1, 1e-5), model_row("fast_bf16", 1, 0.5)]
    good, bad = rows_of(tmp_path, on_gpu.parity_rows, {"rows": errors})
    assert good.remarks.endswith("ok")
    assert "ABOVE 0.05" in bad.remarks
    run = {"megapixels": 100.0, "wall": 9.0, "map": 1.0, "tiles": 130, "empty_tiles": 5}
    before = {"tests": {"summary": "1 passed"}, "model vit_b": {"rows": rows}, "bad": None}
    (scene,) = rows_of(tmp_path, on_gpu.scene_rows("vit_b"), {"predict": [run]}, before)
    assert scene.rate == "125 tiles/s"
    assert "49.8 % of the bare model's rate, aim of 80% NOT reached" in scene.remarks
    (alone,) = rows_of(tmp_path, on_gpu.scene_rows("small"), {"predict": [run]}, before)
    assert "bare" not in alone.remarks


def test_waits_are_the_gaps_between_work_and_name_what_the_cpu_did():
    looks = SimpleNamespace(times=[0.5, 1.2, 1.4, 1.6, 3.4, 3.6], places=list("abbcdd"))
    # Work from 0 to 1 (twice, one inside the other), from 2 to 3 and from 4 to 5
    starts, ends = np.array([4.0, 0.0, 0.2, 2.0]), np.array([5.0, 1.0, 0.6, 3.0])
    busy, waits = device_waits.waits_of(starts, ends, looks)
    assert busy == pytest.approx(3 / 5)
    assert [(w.begin, w.seconds) for w in sorted(waits, key=lambda w: w.begin)] == [(1, 1), (3, 1)]
    assert {w.cpu for w in waits} == {"b", "d"}
    busy, waits = device_waits.waits_of(np.array([1.0]), np.array([2.0]), None)
    assert (busy, waits) == (1, [])


def test_without_a_gpu_it_says_so_and_how_to_try(tmp_path, monkeypatch):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = CliRunner().invoke(on_gpu.main, ["--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "not run: torch finds no GPU (--device cpu --quick is a try)" in done.output


@pytest.mark.long
def test_the_quick_run_on_a_cpu(tmp_path):
    done = CliRunner().invoke(
        on_gpu.main, ["--out", str(tmp_path), "--device", "cpu", "--quick"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "on_gpu.json").read_text())
    assert {s["state"] for s in report["steps"]} == {"done"}
    assert len(list(tmp_path.iterdir())) == 3
