"""Jobs that leave by a thread of their own: in order, few at a time, and no failure is lost."""

import signal
import threading
import time

import numpy as np
import pytest
from doubles import ArraySource
from hypothesis import given, settings
from hypothesis import strategies as st

from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.errors import OutputError
from cwsam_geo.prediction.stream import Backlog, BandReader, band_window


def backlog_threads():
    return [t for t in threading.enumerate() if t.name == "backlog"]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 60), st.integers(1, 5))
def test_all_jobs_are_done_in_order_by_one_other_thread(count, limit):
    done, threads = [], set()

    def job(i):
        done.append(i)
        threads.add(threading.get_ident())

    with Backlog(limit, "backlog") as backlog:
        for i in range(count):
            backlog.put(lambda i=i: job(i))
    assert done == list(range(count))
    assert threading.get_ident() not in threads
    assert len(threads) <= 1
    assert not backlog_threads()


def test_few_jobs_wait():
    gate, started = threading.Event(), threading.Event()
    given_jobs = []

    def slow():
        started.set()
        gate.wait(60)

    def feed(backlog):
        for i in range(10):
            backlog.put(slow)
            given_jobs.append(i)

    with Backlog(3, "backlog") as backlog:
        feeder = threading.Thread(target=feed, args=[backlog])
        feeder.start()
        assert started.wait(60)
        deadline = time.monotonic() + 60
        while len(given_jobs) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(given_jobs) == 4  # one in work, three that wait
        gate.set()
        feeder.join()


def fail():
    raise OutputError("the disk is full")


def test_a_failure_reaches_the_one_who_gives_jobs_and_ends_the_work():
    done = []

    def run():
        with Backlog(1, "backlog") as backlog:
            backlog.put(fail)
            for _ in range(1000):
                backlog.put(lambda: done.append(1))

    with pytest.raises(OutputError, match="disk is full"):
        run()
    assert not done
    assert not backlog_threads()


def test_a_failure_of_the_last_job_is_not_lost():
    with pytest.raises(OutputError, match="disk is full"), Backlog(9, "backlog") as backlog:
        backlog.put(fail)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_outside_drops_what_waits_and_is_the_one_that_is_seen(error):
    gate, started, done = threading.Event(), threading.Event(), []

    def slow():
        started.set()
        gate.wait(60)
        done.append("slow")
        fail()

    def run():
        with Backlog(9, "backlog") as backlog:
            backlog.put(slow)
            backlog.put(lambda: done.append("dropped"))
            assert started.wait(60)
            threading.Timer(0.05, gate.set).start()
            raise error

    with pytest.raises(error):
        run()
    assert done == ["slow"]
    assert not backlog_threads()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals between threads")
@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_interrupts_while_leaving_wait_for_the_job_in_work_and_drop_the_rest(waiting):
    """Else the file that the job writes to would be closed under it."""
    gate, started, done = threading.Event(), threading.Event(), []

    def slow():
        started.set()
        gate.wait(60)
        done.append("slow")

    def interrupt_twice():
        for _ in range(2):
            time.sleep(0.1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)
        gate.set()

    user = threading.Thread(target=interrupt_twice)
    # A job in the background is started with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run():
        try:
            with Backlog(2, "backlog") as backlog:
                backlog.put(slow)
                assert started.wait(60)
                for _ in range(waiting):
                    backlog.put(lambda: done.append("dropped"))
                user.start()
        finally:
            done.append("left")
            user.join()

    try:
        with pytest.raises(KeyboardInterrupt):
            run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["slow", "left"]
    assert not backlog_threads()


def test_rows_are_read_ahead_by_one_band_until_somebody_takes_them():
    source = ArraySource(np.zeros((1, 200, 30)), block_shape=(16, 16))
    plan = TilePlan(200, 30, 32, 8)
    with BandReader(source, plan) as reader:
        deadline = time.monotonic() + 60
        while not source.rows_read[:32].all() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert source.rows_read.nonzero()[0].max() < 32
        bands = [band.window for band in reader]
    assert [(b.row, b.height) for b in bands] == [
        (w.row, w.height) for w in (band_window(plan, i) for i in plan.rows)
    ]
    assert (source.rows_read == 1).all()


def test_a_reader_that_nobody_needs_ends():
    class Endless(ArraySource):
        def read(self, window):
            time.sleep(0.001)
            return super().read(window)

    reader = BandReader(
        Endless(np.zeros((1, 2000, 8)), block_shape=(1, 8)), TilePlan(2000, 8, 8, 0)
    )
    reader.close()
    reader.close()
    assert not [t for t in threading.enumerate() if t.name == "cwsam-geo reader"]
