"""Shards on a real Dask cluster, whose workers are killed, and parts on a real object store."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from doubles import legend
from models import random_bundle
from paths import ROOT
from scene_rasters import write

from cwsam_geo.errors import CwsamGeoError, OutputError, UsageError
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun
from cwsam_geo.prediction.predict_scene import predict_scene

distributed = pytest.importorskip("distributed", reason="needs cwsam-geo[dask]")
cluster_module = pytest.importorskip("cwsam_geo.prediction.cluster")

CLASSES = legend(4, first=1)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one_thread():
    """Workers inherit it. Sums may be rounded differently by another number of threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


def arrow():
    from pyarrow.fs import S3FileSystem

    return S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"], allow_bucket_creation=True
    )


@pytest.fixture(scope="module")
def store(one_thread):
    """A folder of a bucket on the S3 server that CWSAM_GEO_TEST_S3 names; None without one."""
    server = os.environ.get("CWSAM_GEO_TEST_S3")
    if server is None:
        yield None
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        arrow().create_dir("bucket")
        yield "s3://bucket/some/parts"


@pytest.fixture(scope="module")
def cluster(store):
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def place(tmp_path_factory, one_thread):
    """A scene, a model, and the map of one process with one thread."""
    folder = tmp_path_factory.mktemp("cluster")
    random_bundle(CLASSES).save(folder / "m.safetensors")
    rng = np.random.default_rng(0)
    level = rng.normal(-12, 4, (131, 11)).repeat(20, 0).repeat(20, 1)
    vv = level[:2600, :201] + rng.normal(0, 1, (2600, 201))
    vv[700:1300, :150] = np.nan
    write(folder / "scene.tif", np.stack([vv, vv - 7]).astype("f4"), ("VV", "VH"))
    command = ["predict", folder / "scene.tif", "-o", folder / "whole.tif", "-m"]
    command += [folder / "m.safetensors", "--confidence", folder / "whole_c.tif", "--quiet"]
    command += ["--precision", "fp32", "--device", "cpu"]
    main = [sys.executable, "-m", "cwsam_geo.cli.main"]
    subprocess.run([*main, *map(str, command)], check=True)
    return folder


def predict(folder, name, address, listen=lambda _: None, **run):
    options = PredictOptions(model=folder / "m.safetensors", precision="fp32", device="cpu")
    events = []

    def told(event):
        events.append(event)
        listen(event)

    outputs = PredictOutputs(confidence=folder / f"{name}_c.tif")
    how = PredictRun(dask=address, **run)
    predict_scene(folder / "scene.tif", folder / f"{name}.tif", options, outputs, told, run=how)
    return events


def layers(folder, name):
    found = []
    for end in ("", "_c"):
        with rasterio.open(folder / f"{name}{end}.tif") as file:
            tags = {k: v for k, v in file.tags().items() if k != "TIFFTAG_DATETIME"}
            found.append((file.read().tobytes(), file.profile, file.descriptions, tags))
    return found


@pytest.mark.long
def test_workers_of_this_machine(place):
    events = predict(place, "local", "local:2")
    assert layers(place, "local") == layers(place, "whole")
    progress = [e for e in events if e["event"] == "progress"]
    assert progress[-1]["tiles"] == progress[-1]["total"]


def test_a_worker_that_is_killed_costs_no_pixel(place, cluster):
    killed = []

    def kill_one(event):
        if event["event"] == "progress" and not killed and event["tiles"] > 5:
            killed.append(cluster.workers[0].process.pid)
            os.kill(killed[0], signal.SIGKILL)

    predict(place, "lost", cluster.scheduler_address, kill_one)
    assert killed
    assert layers(place, "lost") == layers(place, "whole")


def test_parts_on_an_object_store(place, cluster, store):
    from pyarrow.fs import FileSelector

    if store is None:
        pytest.skip("set CWSAM_GEO_TEST_S3 to the address of an S3 server, such as moto_server")
    predict(place, "s3", cluster.scheduler_address, parts=store)
    assert layers(place, "s3") == layers(place, "whole")
    found = arrow().get_file_info(FileSelector("bucket", recursive=True))
    assert [info.path for info in found if info.is_file] == []
    with pytest.raises(OutputError, match="s3://nowhere"):
        predict(place, "s3b", cluster.scheduler_address, parts="s3://nowhere/parts")
    assert not (place / "s3b.tif").exists()


def test_what_can_be_wrong_with_a_cluster_is_one_clear_line(place, cluster, monkeypatch):
    address = cluster.scheduler_address
    with pytest.raises(UsageError, match="give tcp://HOST:8786, local or local:N"):
        predict(place, "no", "scheduler")
    (place / "file").write_text("")
    with pytest.raises(CwsamGeoError, match="file"):
        predict(place, "no", address, parts=str(place / "file"))
    monkeypatch.setattr(cluster_module, "_PATIENCE", 1)
    with pytest.raises(UsageError, match="no scheduler answers there"):
        predict(place, "no", "tcp://127.0.0.1:9")
    monkeypatch.setattr(cluster_module, "__version__", "9.9")
    with pytest.raises(UsageError, match=r"has cwsam-geo .*, this machine has 9\.9; install"):
        predict(place, "no", address)
    assert not (place / "no.tif").exists()


@pytest.mark.long
def test_the_death_of_the_client_cancels_the_work(place, cluster):
    command = ["predict", "scene.tif", "-o", "dead.tif", "-m", "m.safetensors", "--json"]
    command += ["--precision", "fp32", "--device", "cpu", "--dask", cluster.scheduler_address]
    with subprocess.Popen(
        [sys.executable, "-m", "cwsam_geo.cli.main", *command],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        for line in run.stdout:
            if '"progress"' in line:
                break
        run.kill()
    with distributed.Client(cluster.scheduler_address) as client:
        deadline = time.monotonic() + 60
        while any(client.processing().values()) or any(client.run(busy).values()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert not (place / "dead.tif").exists()
    with contextlib.suppress(UsageError):
        predict(place, "dead", cluster.scheduler_address)
        pytest.fail("the journal of the dead run was not noticed")


def busy(dask_worker):
    """How many tasks a worker computes."""
    return len(dask_worker.state.executing)
