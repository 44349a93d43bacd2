"""The model of time and cost: what must hold of it whatever the figures are."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import BENCHMARKS

sys.path[:0] = [str(BENCHMARKS)]

from scaling_model import (  # noqa: E402
    Rates,
    SceneSize,
    Year,
    forecast,
    shard_share,
    total_share,
)

SCENE = SceneSize(16_685, 25_788, 75, 1.1, 0.03)
RATES = Rates(10, 5, 0.02, 0.02, 0.05, 8, 1.0, 25.0, 3.0)


@given(st.integers(1, 10_000), st.integers(1, 256))
def test_more_devices_are_never_slower_and_never_cheaper_than_their_work(scenes, devices):
    one = forecast(scenes, devices, SCENE, RATES)
    more = forecast(scenes, devices * 2, SCENE, RATES)
    assert more.hours <= one.hours * (1 + 1e-9)
    assert 0 < one.busy <= 1
    assert one.cost == pytest.approx(one.hours * devices * RATES.price)


@given(st.integers(1, 200), st.integers(1, 300))
def test_shards_share_the_rows_and_each_cut_costs_one_row(rows, shards):
    assert 1 / rows <= shard_share(rows, shards) <= 1
    assert shard_share(rows, 1) == total_share(rows, 1) == 1
    assert total_share(rows, shards) < 2
    # All of them together compute at least what there is.
    assert shard_share(rows, shards) * min(shards, rows) >= 1 - 1e-9


def test_the_object_storage_limits_many_devices_in_the_end():
    rates = replace(RATES, storage_gb_per_second=5.0)
    few, many = (forecast(10_000, n, SCENE, rates) for n in (1, 256))
    assert few.limit != "object storage"
    assert many.limit == "object storage"
    least = 10_000 * (SCENE.read_gb + SCENE.written_gb) / rates.storage_gb_per_second / 3600
    assert many.hours >= least


def test_a_year_of_land_is_less_than_the_radars_can_take():
    year = Year()
    assert 100_000 < year.scenes < year.most < 1_000_000


def test_the_prediction_rests_on_the_measured_file():
    run = [sys.executable, str(BENCHMARKS / "scaling.py")]
    text = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "assumed: a GPU does 100 TFLOP/s" in text
    assert "| 241,531 | 256 |" in text
