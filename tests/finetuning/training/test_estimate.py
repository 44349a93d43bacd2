import math

import pytest
import torch

from cwsam_geo.finetuning.training.estimate import (
    FIRST_STEPS,
    RunSize,
    TimeLeft,
    duration,
    trial_seconds,
)

SIZE = RunSize(epochs=4, steps=7, step_tiles=2, validation_tiles=6)


class Clock:
    """A clock that the test moves on."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def events(size, warm_up, step, validation):
    """What a run does, one after another: its name and its seconds."""
    for epoch in range(size.epochs):
        yield "begin", 0.0
        for i in range(size.steps):
            yield "step", step + warm_up * (epoch == i == 0)
        yield "validation", validation


def test_a_run_at_constant_speed_is_foretold_exactly_once_a_validation_was_measured():
    clock = Clock()
    left = TimeLeft(SIZE, 0, clock)
    happens = list(events(SIZE, warm_up=30.0, step=2.0, validation=5.0))
    remaining = sum(seconds for _, seconds in happens)
    firsts, validated = [], False
    for count, (name, seconds) in enumerate(happens):
        clock.time += seconds
        remaining -= seconds
        if getattr(left, name)():
            firsts.append(count)
        validated |= name == "validation"
        if validated:
            assert left.seconds == pytest.approx(remaining)
        elif count == FIRST_STEPS:
            # The warm-up does not count; a validation is assumed to be cheaper per tile.
            assert left.step_seconds == pytest.approx(2.0)
            assert left.seconds == pytest.approx(remaining, rel=0.25)
    assert firsts == [FIRST_STEPS]  # the first event is ``begin``
    assert left.seconds == 0


def test_the_first_estimate_comes_within_ten_steps_also_in_short_epochs():
    clock = Clock()
    left = TimeLeft(RunSize(epochs=50, steps=2, step_tiles=1, validation_tiles=1), 0, clock)
    told = [left.step() for _ in range(10)]
    assert told.count(True) == 1


def test_a_resumed_run_counts_the_epochs_that_are_left():
    clock = Clock()
    left = TimeLeft(SIZE, 3, clock)
    assert math.isnan(left.step_seconds)
    left.begin()
    clock.time += 2
    left.step()
    assert left.seconds == pytest.approx(6 * 2 + 0.3 * SIZE.validation_tiles * 1)


def test_a_trial_is_timed_after_its_warm_up_and_may_not_fit():
    sizes = []
    assert trial_seconds(sizes.append, torch.device("cpu")) >= 0
    assert sizes == [1, 1]

    def too_large(_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    def broken(_):
        raise RuntimeError("another matter")

    assert trial_seconds(too_large, torch.device("cpu")) is None
    with pytest.raises(RuntimeError, match="another matter"):
        trial_seconds(broken, torch.device("cpu"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (42.4, "42 s"),
        (90, "2 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (50_000, "14 h"),
        (200_000, "2 d 8 h"),
        (172_800, "2 d"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
