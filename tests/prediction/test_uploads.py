"""Outputs at URLs: in fsspec's store in memory, and on a real S3 server where one is named."""

import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
import rasterio
from disks import small_disk
from doubles import legend
from models import random_bundle
from scene_rasters import write

from cwsam_geo.batch.predict_scenes import predict_scenes
from cwsam_geo.batch.run import BatchReports
from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.io import remote_file
from cwsam_geo.io.object_store import file_system, telling
from cwsam_geo.prediction import journal as journals
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs, PredictRun
from cwsam_geo.prediction.predict_scene import predict_scene

SERVER = os.environ.get("CWSAM_GEO_TEST_S3")


class Store:
    """A folder of a store."""

    def __init__(self, url):
        self.url = url
        self.system, self.root = file_system(url, "test")

    def names(self):
        """Names of all files, hidden ones too."""
        found = self.system.find(self.root)
        return sorted(
            str(path).lstrip("/").removeprefix(self.root.lstrip("/"))[1:] for path in found
        )

    def read(self, name):
        return self.system.cat_file(f"{self.root}/{name}")

    def put(self, name, content=b"x"):
        self.system.pipe_file(f"{self.root}/{name}", content)

    def fetch(self, name, folder):
        path = folder / Path(name).name
        path.write_bytes(self.read(name))
        return path


@pytest.fixture(params=["memory", "s3"])
def store(request, monkeypatch):
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return Store("memory://bucket/some")
    if SERVER is None:
        pytest.skip("set CWSAM_GEO_TEST_S3 to the address of an S3 server, such as moto_server")
    from pyarrow.fs import S3FileSystem

    for name, value in {
        "AWS_ENDPOINT_URL": SERVER,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"outputs-{os.urandom(4).hex()}"
    S3FileSystem(endpoint_override=SERVER, allow_bucket_creation=True).create_dir(bucket)
    return Store(f"s3://{bucket}/some")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scene and a model."""
    folder = tmp_path_factory.mktemp("uploads")
    random_bundle(legend(4, first=1)).save(folder / "m.safetensors")
    rng = np.random.default_rng(0)
    level = rng.normal(-12, 4, (66, 5)).repeat(20, 0).repeat(20, 1)
    vv = level[:1300, :90] + rng.normal(0, 1, (1300, 90))
    vv[200:420, :50] = np.nan
    write(folder / "scene.tif", np.stack([vv, vv - 7]).astype("f4"), ("VV", "VH"))
    write(folder / "small.tif", np.stack([vv, vv - 7])[:, 500:620].astype("f4"), ("VV", "VH"))
    return folder


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """The folder for temporary files; nothing may be left in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.glob("cwsam-geo-outputs-*")) == []


def predict(place, output, scene="small.tif", run=None, listen=lambda _: None, **outputs):
    options = PredictOptions(place / "m.safetensors", precision="fp32", device="cpu")
    events = []

    def told(event):
        events.append(event)
        listen(event)

    written = PredictOutputs(**{"qml": False, **outputs})
    summary = predict_scene(place / scene, output, options, written, told, run=run)
    return summary, events


def content(path):
    with rasterio.open(path) as file:
        tags = {k: v for k, v in file.tags().items() if k != "TIFFTAG_DATETIME"}
        return file.read().tobytes(), file.profile, file.descriptions, tags


def stop(event):
    if event["event"] == "progress" and event["tiles"] >= 0.6 * event["total"]:
        raise KeyboardInterrupt


def test_all_outputs_go_to_urls(place, store, tmp_path, scratch):
    predict(place, tmp_path / "map.tif", confidence=tmp_path / "c.tif")
    summary, events = predict(
        place,
        f"{store.url}/maps/map.tif",
        confidence=f"{store.url}/maps/c.tif",
        vectors=f"{store.url}/polygons/map.gpkg",
        report=f"{store.url}/map.html",
        areas=f"{store.url}/map.csv",
        stac=f"{store.url}/items/map.json",
        qml=True,
    )
    names = ("map.tif", "map.tif.aux.xml", "c.tif", "map.qml")
    assert store.names() == sorted(
        [
            "items/map.json",
            "map.csv",
            "map.html",
            "polygons/map.gpkg",
            *(f"maps/{n}" for n in names),
        ]
    )
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for name in ("map.tif", "c.tif"):
        file = store.fetch(f"maps/{name}", fetched)
        assert content(file) == content(tmp_path / name)
    store.fetch("maps/map.tif.aux.xml", fetched)
    assert b"<Category>" in (fetched / "map.tif.aux.xml").read_bytes()
    assets = json.loads(store.read("items/map.json"))["assets"]
    assert assets["map"]["href"] == "../maps/map.tif"
    assert assets["polygons"]["href"] == "../polygons/map.gpkg"
    for name in store.names():
        assert b"cwsam-geo-outputs" not in store.read(name)
    assert f"{store.url}/maps/map.tif".encode() in store.read("map.html")
    outputs = [event["output"] for event in events if "output" in event]
    assert len(outputs) == 4
    assert all(output.startswith(store.url) for output in outputs)
    assert summary.output == f"{store.url}/maps/map.tif"


def test_gdal_reads_the_map(place, store):
    if not store.url.startswith("s3:"):
        pytest.skip("GDAL has no store in memory that fsspec writes to")
    predict(place, f"{store.url}/map.tif")
    server = SERVER.partition("://")[2]
    with (
        rasterio.Env(AWS_S3_ENDPOINT=server, AWS_HTTPS="NO", AWS_VIRTUAL_HOSTING="FALSE"),
        rasterio.open(store.url.replace("s3://", "/vsis3/") + "/map.tif") as file,
    ):
        assert file.read(1).shape == (120, 90)
        assert "CWSAM_GEO_FINGERPRINT" in file.tags()


def test_nothing_is_overwritten_unasked(place, store):
    url = f"{store.url}/map.tif"
    predict(place, url)
    before = store.read("map.tif")
    with pytest.raises(UsageError, match=r"map\.tif: exists already; pass --overwrite"):
        predict(place, url)
    store.put("other.tif.ovr")
    with pytest.raises(UsageError, match=r"other\.tif\.ovr: is left over"):
        predict(place, f"{store.url}/other.tif")
    store.put("map.tif.ovr")
    predict(place, url, scene="scene.tif", overwrite=True)
    assert store.read("map.tif") != before
    assert store.names() == ["map.tif", "map.tif.aux.xml", "other.tif.ovr"]


def test_a_map_that_appears_meanwhile_is_kept(place, store, monkeypatch):
    def appear(event):
        if event["event"] == "start":
            store.put("map.tif", b"of somebody else")

    with pytest.raises(UsageError, match="exists already"):
        predict(place, f"{store.url}/map.tif", listen=appear)
    assert store.read("map.tif") == b"of somebody else"


def test_an_interrupted_run_goes_on(place, store, tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_SECONDS", 0.0)
    monkeypatch.setattr(journals, "_PAUSE", 1e-9)
    predict(place, tmp_path / "map.tif", scene="scene.tif")
    url = f"{store.url}/maps/map.tif"
    with pytest.raises(KeyboardInterrupt):
        predict(place, url, scene="scene.tif", listen=stop)
    assert all(name.startswith("maps/.map.tif.parts/") for name in store.names())
    with pytest.raises(UsageError, match=r"what it has finished is in .*\.parts; pass --resume"):
        predict(place, url, scene="scene.tif")
    _, events = predict(place, url, scene="scene.tif", run=PredictRun(resume=True))
    first = next(event for event in events if event["event"] == "progress")
    assert first["tiles"] > 0.2 * first["total"]
    assert store.names() == ["maps/map.tif", "maps/map.tif.aux.xml"]
    assert content(store.fetch("maps/map.tif", tmp_path)) == content(tmp_path / "map.tif")


def test_an_interrupted_upload_leaves_no_half_of_a_map(place, store, monkeypatch):
    """The store then has nothing, or the old map; what was computed is not lost."""
    url, run = f"{store.url}/map.tif", PredictRun(resume=True)
    sent = type(store.system).mv

    def interrupted(self, path, *more):
        if path.endswith(".tmp") and ".aux.xml" not in path:
            raise KeyboardInterrupt
        return sent(self, path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(type(store.system), "mv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(place, url, run=run)
    assert "map.tif" not in store.names()
    assert not any(name.endswith(".tmp") for name in store.names())
    assert ".map.tif.parts/journal.json" in store.names()
    _, events = predict(place, url, run=run, overwrite=True)
    assert not any(event["event"] == "progress" for event in events)  # all tiles were finished
    assert store.names() == ["map.tif", "map.tif.aux.xml"]


def test_the_users_style_stays(place, store):
    store.put("map.qml", b"<qgis>mine</qgis>")
    _, events = predict(place, f"{store.url}/map.tif", qml=True)
    assert store.read("map.qml") == b"<qgis>mine</qgis>"
    kept = [event["text"] for event in events if "is kept" in event.get("text", "")]
    assert kept == [f"{store.url}/map.qml: a style that you have made or changed, so it is kept"]


@pytest.mark.parametrize(
    ("output", "outputs", "said"),
    [
        ("memory://bucket/", {}, "names no file"),
        ("memory://bucket/map.png", {}, "memory://bucket/map.png: rasters are written as GeoTIFF"),
        ("nothing://bucket/map.tif", {}, "Protocol not known: nothing"),
        ("https://example.com/map.tif", {}, "a web server takes no files"),
        ("/vsis3/bucket/map.tif", {}, "outputs of predict and batch may be URLs"),
        ("memory://bucket/a.tif", {"vectors": "memory://bucket/a.shp"}, "is several files"),
        ("memory://bucket/a.tif", {"stac": "a.json"}, "lies elsewhere"),
        ("memory://b/a.tif", {"confidence": "memory://b/a.tif"}, "a.tif: is another output too"),
    ],
)
def test_what_cannot_be_written_is_told_at_once(place, output, outputs, said):
    with pytest.raises(UsageError, match=said):
        predict(place, output, **outputs)


def test_a_full_disk_here_names_the_folder(place, tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", 900) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(OutputError, match=r"memory://bucket/map.tif: the disk is full.*TMPDIR"):
            predict(place, "memory://bucket/map.tif")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("When reading: AWS Error NO_SUCH_BUCKET during CreateMultipartUpload", "no such bucket"),
        ("AWS Error ACCESS_DENIED during PutObject operation: Access Denied", "access is denied"),
        ("Unable to locate credentials", "access is denied"),
        ("AWS Error NETWORK_CONNECTION: curlCode: 7, Couldn't connect", "no server answers"),
        ("something else", "something else; check that this can be written, or go elsewhere"),
    ],
)
def test_failures_of_stores_in_plain_words(message, said):
    with (
        pytest.raises(OutputError, match=f"^s3://b/x: .*{said}"),
        telling("s3://b/x", "go elsewhere"),
    ):
        raise OSError(message)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            OSError("When resolving region for bucket 'b': AWS Error NETWORK_CONNECTION"),
            OutputError,
            "no server answers",
        ),
        (
            OSError("When resolving region for bucket 'b': Bucket 'b' not found"),
            OutputError,
            "no such bucket",
        ),
        (ValueError("Unrecognized filesystem type in URI"), UsageError, "s3fs"),
    ],
)
def test_a_store_that_arrow_knows_but_cannot_reach_says_so(monkeypatch, error, kind, said):
    """That fsspec lacks a package is no reason then: none is needed."""
    monkeypatch.setattr("fsspec.core.url_to_fs", raising(ImportError("Install s3fs to access S3")))
    monkeypatch.setattr("pyarrow.fs.FileSystem", SimpleNamespace(from_uri=raising(error)))
    with pytest.raises(kind, match=f"s3://b/x.*{said}"):
        file_system("s3://b/x", "--output")


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_a_batch_to_urls(place, store, tmp_path):
    def batch(**more):
        outputs = PredictOutputs(
            confidence=f"{store.url}/{{stem}}_c.tif", areas=f"{store.url}/{{stem}}.csv", **more
        )
        options = PredictOptions(place / "m.safetensors", precision="fp32", device="cpu")
        scenes = [place / "small.tif", place / "scene.tif"]
        return predict_scenes(scenes, f"{store.url}/{{stem}}.tif", options, outputs)

    result = batch()
    assert [scene.status for scene in result.scenes] == ["mapped", "mapped"]
    assert result.scenes[0].to_dict()["output"] == f"{store.url}/small.tif"
    names = [f"{stem}{end}" for stem in ("scene", "small")
             for end in (".csv", ".qml", ".tif", ".tif.aux.xml", "_c.tif")]  # fmt: skip
    assert store.names() == sorted(names)
    before = store.read("small.tif")
    assert batch().counts == {"finished": 2}
    store.system.rm_file(f"{store.root}/small.csv")
    assert batch().counts == {"finished": 2}
    assert store.names() == sorted(names)
    assert store.read("small.tif") == before
    # Made otherwise: the scene fails and says so.
    store.put("small.tif", store.read("scene.tif"))
    failed = batch().scenes[0]
    assert failed.status == "failed"
    assert failed.error.startswith(f"{store.url}/small.tif: exists already, and was made otherwise")
    assert batch(overwrite=True).counts == {"mapped": 1, "finished": 1}


def test_a_mosaic_is_not_made_of_maps_at_urls(place):
    with pytest.raises(UsageError, match="--mosaic m: is made of maps on this machine"):
        predict_scenes(
            [place / "small.tif"], "memory://b/{stem}.tif", reports=BatchReports(mosaic="m")
        )


def test_keys_that_may_only_read_are_noticed_before_the_work(place, store, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(store.system), "pipe_file", refuse)
    events = []
    with pytest.raises(OutputError, match=r"map\.tif: access is denied; set keys"):
        predict(place, f"{store.url}/map.tif", listen=events.append)
    assert events == []


def test_secrets_are_not_shown():
    assert (
        remote_file.RemoteFile("s3://user:secret@bucket/map.tif?x=1").name == "s3://bucket/map.tif"
    )
