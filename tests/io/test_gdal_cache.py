"""The limit of GDAL's block cache is what it was before, however threads come and go."""

import itertools
import threading

import numpy as np
import pytest
import rasterio
from rasterio.env import get_gdal_config, set_gdal_config

from cwsam_geo.io.gdal_cache import block_cache
from cwsam_geo.io.raster_file import cache_limit, environment


@pytest.fixture
def own_limit():
    """A limit that a program has set for itself."""
    before = int(get_gdal_config("GDAL_CACHEMAX"))
    set_gdal_config("GDAL_CACHEMAX", 77 << 20)
    yield 77 << 20
    set_gdal_config("GDAL_CACHEMAX", before)


def limit():
    return int(get_gdal_config("GDAL_CACHEMAX"))


class Reader:
    """A thread that enters and leaves an environment when it is told to."""

    def __init__(self, size):
        self.size = size
        self.told, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        with cache_limit(self.size), environment(remote=False):
            self.done.set()
            self.told.wait(10)
        self.done.set()

    def enter(self):
        self.thread.start()
        self.done.wait(10)

    def leave(self):
        self.done.clear()
        self.told.set()
        self.thread.join(10)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_threads_may_leave_in_any_order(own_limit, order):
    readers = [Reader((100 + i) << 20) for i in range(3)]
    for i, reader in enumerate(readers):
        reader.enter()
        assert limit() == (100 + i) << 20
    for i in order:
        readers[i].leave()
    assert limit() == own_limit


def test_the_innermost_limit_counts(own_limit):
    with block_cache(90 << 20):
        with block_cache(91 << 20):
            assert limit() == 91 << 20
        assert limit() == 90 << 20
    assert limit() == own_limit


def test_the_users_variable_counts_for_all(own_limit, monkeypatch):
    monkeypatch.setenv("GDAL_CACHEMAX", "64MB")
    with block_cache(90 << 20):
        assert limit() == own_limit


def test_an_environment_of_the_program_keeps_its_limit(tmp_path, own_limit):
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_CACHEMAX=80 << 20):
        with (
            environment(remote=False),
            rasterio.open(
                path, "w", driver="GTiff", width=9, height=9, count=1, dtype="uint8"
            ) as out,
        ):
            out.write(np.ones((1, 9, 9), np.uint8))
        assert limit() == 80 << 20
    assert limit() == own_limit
