import os
import stat

import pytest
import torch
from disks import small_disk

from cwsam_geo.atomic import atomic_output, check_apart
from cwsam_geo.errors import OutputError, UsageError


def write(path, text="new", **options):
    with atomic_output(path, **options) as temporary:
        temporary.write_text(text)


def test_the_file_appears_with_the_permissions_of_any_new_file(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "out.gpkg")
    finally:
        os.umask(old)
    assert (tmp_path / "out.gpkg").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "out.gpkg").stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out.gpkg"]


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "out.tif"
    path.write_text("old")
    path.chmod(0o604)
    write(path, overwrite=True)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.parametrize("name", ["a[1]*.gpkg", "no suffix", ".hidden", "x.tar.gz", "ü.tif"])
def test_what_drivers_leave_beside_a_failed_file_is_removed(tmp_path, name):
    (tmp_path / "a1.gpkg").write_text("someone else's")

    def fail():
        with atomic_output(tmp_path / name) as temporary:
            temporary.write_text("half")
            temporary.with_name(temporary.name + "-journal").write_text("journal")
            temporary.with_suffix(".aux.xml").write_text("sidecar")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path) == ["a1.gpkg"]


def test_existing_files_and_missing_folders_are_refused(tmp_path):
    path = tmp_path / "out.tif"
    path.write_text("old")
    with pytest.raises(UsageError, match="--overwrite"):
        write(path)
    assert path.read_text() == "old"
    with pytest.raises(OutputError, match="does not exist"):
        write(tmp_path / "nowhere" / "out.tif")
    with pytest.raises(UsageError, match="folder"):
        write(tmp_path)
    with pytest.raises(OutputError, match="nothing was written"), atomic_output(tmp_path / "x.tif"):
        pass


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "out.tif"

    def raced():
        with atomic_output(path) as temporary:
            temporary.write_text("ours")
            path.write_text("theirs")

    with pytest.raises(UsageError):
        raced()
    assert path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["out.tif"]


def links(tmp_path):
    """A link in one folder to a file in another, through a second link."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    link, real = tmp_path / "here" / "out.tif", tmp_path / "there" / "real.tif"
    (tmp_path / "there" / "hop.tif").symlink_to("real.tif")
    link.symlink_to("../there/hop.tif")
    return link, real


@pytest.mark.parametrize("dangling", [True, False])
def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path, dangling):
    link, real = links(tmp_path)
    if not dangling:
        real.write_text("old")
        real.chmod(0o604)
        with pytest.raises(UsageError, match=r"here/out\.tif: exists already"):
            write(link)
    write(link, overwrite=not dangling)
    assert link.is_symlink()
    assert real.read_text() == link.read_text() == "new"
    assert not real.is_symlink()
    assert dangling or stat.S_IMODE(real.stat().st_mode) == 0o604
    assert os.listdir(tmp_path / "here") == ["out.tif"]
    assert sorted(os.listdir(tmp_path / "there")) == ["hop.tif", "real.tif"]


def test_a_failed_run_leaves_the_link_and_its_target(tmp_path):
    link, real = links(tmp_path)
    real.write_text("old")

    def fail():
        with atomic_output(link, overwrite=True) as temporary:
            assert temporary.parent == real.parent
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert link.read_text() == "old"
    assert sorted(os.listdir(tmp_path / "there")) == ["hop.tif", "real.tif"]


def test_links_that_lead_nowhere_are_refused(tmp_path):
    lost, loop = tmp_path / "lost.tif", tmp_path / "loop.tif"
    lost.symlink_to("nowhere/out.tif")
    loop.symlink_to("loop.tif")
    with pytest.raises(OutputError, match=r"lost\.tif: the folder .*nowhere does not exist"):
        write(lost)
    with pytest.raises(OutputError, match=r"loop\.tif: .*link"):
        write(loop, overwrite=True)
    assert lost.is_symlink()
    assert loop.is_symlink()


def test_what_is_no_file_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for overwrite in (True, False):
        with pytest.raises(UsageError, match="give the output a file name"):
            write(pipe, overwrite=overwrite)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


STALE = ("out.tif.ovr", "out.tif.aux.xml", "out.tif.msk", "out.tif.msk.ovr", "out.tif.vat.dbf")
KEPT = ("out.qml", "out.tfw", "out.tif.txt", "out.gpkg-wal", "about.tif.ovr")


def beside(folder):
    for name in (*STALE, *KEPT):
        (folder / name).write_text("old")


def test_sidecars_go_with_the_file_that_they_are_of(tmp_path):
    (tmp_path / "out.tif").write_text("old")
    beside(tmp_path)

    def fail():
        with atomic_output(tmp_path / "out.tif", overwrite=True) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sorted(os.listdir(tmp_path)) == sorted(["out.tif", *STALE, *KEPT])
    write(tmp_path / "out.tif", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == sorted(["out.tif", *KEPT])


def test_sidecars_of_a_link_and_of_its_target_go(tmp_path):
    link, real = links(tmp_path)
    for path in (link, real):
        path.write_text("old")
        path.with_name(f"{path.name}.ovr").write_text("old")
    write(link, overwrite=True)
    assert os.listdir(link.parent) == ["out.tif"]
    assert sorted(os.listdir(real.parent)) == ["hop.tif", "real.tif"]


def test_a_sidecar_without_its_file_is_not_taken_for_the_new_ones(tmp_path):
    (tmp_path / "out.tif.ovr").write_text("old")
    with pytest.raises(UsageError, match=r"out\.tif\.ovr: .* earlier out\.tif.*--overwrite"):
        write(tmp_path / "out.tif")
    assert os.listdir(tmp_path) == ["out.tif.ovr"]
    write(tmp_path / "out.tif", overwrite=True)
    assert os.listdir(tmp_path) == ["out.tif"]


def test_a_sidecar_that_cannot_be_removed_is_said(tmp_path):
    (tmp_path / "out.tif").write_text("old")
    (tmp_path / "out.tif.msk").mkdir()
    with pytest.raises(OutputError, match=r"out\.tif\.msk: .* remove it"):
        write(tmp_path / "out.tif", overwrite=True)
    assert (tmp_path / "out.tif").read_text() == "new"


def fails_like_a_driver(path):
    path.write_bytes(bytes(1 << 17))
    raise RuntimeError("Unexpected I/O failure")


@pytest.mark.parametrize(
    "fill",
    [
        lambda path: torch.save({"weights": torch.rand(1 << 17)}, path),
        lambda path: path.write_bytes(bytes(1 << 20)),
        fails_like_a_driver,
    ],
)
def test_whatever_fails_on_a_full_disk_is_one_line(tmp_path, fill):
    def save(path):
        with atomic_output(path, overwrite=True) as temporary:
            fill(temporary)

    with small_disk(tmp_path / "disk", 128) as disk:
        path = disk / "out.pt"
        path.write_text("earlier")
        with pytest.raises(OutputError, match=r"out\.pt: the disk is full.*write elsewhere"):
            save(path)
        assert path.read_text() == "earlier"
        assert os.listdir(disk) == ["out.pt"]


@pytest.mark.parametrize("error", [MemoryError("a tile"), UsageError("an option")])
def test_other_failures_are_not_blamed_on_the_disk(tmp_path, error):
    def fail(path):
        with atomic_output(path):
            raise error

    with small_disk(tmp_path / "disk", 4) as disk, pytest.raises(type(error), match=str(error)):
        fail(disk / "out.pt")


def test_an_output_that_is_an_input_or_another_output_is_refused(tmp_path, monkeypatch):
    scene, link = tmp_path / "scene.tif", tmp_path / "link.tif"
    scene.write_text("scene")
    link.symlink_to(scene)
    monkeypatch.chdir(tmp_path)
    inputs = {scene: "the scene", "https://example.org/a.tif": "the aoi"}
    for output in (scene, "scene.tif", link, tmp_path / "x" / ".." / "scene.tif"):
        with pytest.raises(UsageError, match=r"\.tif: is the scene too; choose another output"):
            check_apart(["new.tif", output], inputs)
    for pair in (["a.tif", tmp_path / "a.tif"], ["a.tif", "./a.tif"]):
        with pytest.raises(UsageError, match="is another output too"):
            check_apart(pair, inputs)
    check_apart(["a.tif", "b.tif", tmp_path / "c" / "scene.tif"], inputs)
