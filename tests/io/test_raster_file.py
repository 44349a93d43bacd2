"""What cannot be opened as a raster is one line that says why."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from scene_rasters import write

from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import open_dataset

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


class Quiet(SimpleHTTPRequestHandler):
    """Sends whole files only."""

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def refusal(location):
    with pytest.raises(SceneError) as caught:
        open_dataset(location)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_sends_whole_files_only(tmp_path, server):
    # More than GDAL asks for at first, with the directory of the TIFF at the end.
    noise = np.random.default_rng(0).random((1, 600, 600)).astype(np.float32)
    write(tmp_path / "big.tif", noise, COPY_SRC_OVERVIEWS="NO", compress="deflate")
    assert "no range requests); download the file first" in refusal(f"{server}/big.tif")


@pytest.mark.parametrize("name", ["a.tif", "a.img", "a"])
def test_a_pointer_of_git_lfs(tmp_path, name):
    (tmp_path / name).write_bytes(LFS)
    text = refusal(tmp_path / name)
    assert text == (
        f"{tmp_path / name}: is a Git LFS pointer, not the file itself; get the file (git lfs pull)"
    )


def test_a_web_page(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"\n<!DOCTYPE html><html>")
    assert "is a web page, not the file itself" in refusal(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(b"<product/>")
    assert "looks like XML" in refusal(tmp_path / "a.tif")
