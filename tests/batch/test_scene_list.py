"""Which files are one scene, and what it is called."""

import io
import json
import os

import pytest

from cwsam_geo.batch.scene_list import list_scenes
from cwsam_geo.errors import UsageError
from cwsam_geo.scene.catalogued import locate_rasters


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(found):
    return [(scene.stem, len(scene.files)) for scene in found.scenes]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_that_differ_in_the_polarisation_are_one_scene(folder):
    touch(folder, "a_VV.tif", "a_VH.tif", "b_vv.tif", "c.tif", "d/vv.tif", "d/vh.tif")
    found = list_scenes(["a_VV.tif", "b_vv.tif", "a_VH.tif", "c.tif", "d/vh.tif", "d/vv.tif"])
    assert names(found) == [("a", 2), ("b_vv", 1), ("c", 1), ("d", 2)]
    assert found.scenes[0].files == ("a_VV.tif", "a_VH.tif")
    assert any("a_VV.tif and a_VH.tif" in text for text in found.remarks)


def test_names_of_different_days_and_folders_are_no_pairs(folder):
    touch(folder, "a_VV_1.tif", "a_VH_2.tif", "x/s_vv.tif", "y/s_vh.tif")
    assert len(list_scenes(["a_VV_1.tif", "a_VH_2.tif", "x/s_vv.tif", "y/s_vh.tif"]).scenes) == 4


def test_a_folder_holds_scenes_and_products_but_no_previews_and_no_extras(folder):
    touch(
        folder / "s",
        *("a_vv.tif", "a_vh.tif", "a_dem.tif", "a_vv.png", "other.tif", "._b.tif", "notes.txt"),
        "S1A_IW_20200101T010203_X.SAFE/manifest.safe",
        "S1B_IW_20200102T010203_X.SAFE.zip",
    )
    found = list_scenes(["s"])
    assert names(found) == [
        ("S1A_IW_20200101T010203_X", 1),
        ("S1B_IW_20200102T010203_X", 1),
        ("a", 2),
        ("other", 1),
    ]
    assert [s.date for s in found.scenes] == ["20200101", "20200102", None, None]
    assert any("left out a_dem.tif" in text for text in found.remarks)


def test_a_product_or_a_zarr_store_is_one_scene(folder):
    touch(folder, "S1A_X.SAFE/manifest.safe", "z.zarr/zarr.json", "p.data/a_VV.img")
    found = list_scenes(["S1A_X.SAFE", "z.zarr", "p.data"])
    assert names(found) == [("S1A_X", 1), ("z", 1), ("p", 1)]


def test_patterns_are_expanded_sorted_and_once(folder):
    touch(folder, "x/b.tif", "x/a.tif", "x/y/c.tif", "x/[1].tif")
    found = list_scenes(["x/a.tif", "x/**/*.tif", "x/[1].tif"])
    assert names(found) == [("a", 1), ("[1]", 1), ("b", 1), ("c", 1)]
    assert any("given twice" in text for text in found.remarks)


def test_folders_that_a_pattern_matches_may_be_empty(folder):
    touch(folder, "t/one/a_vv.tif", "t/one/a_vh.tif", "t/notes.txt", "u/none/x.csv")
    (folder / "t" / "empty").mkdir()
    assert names(list_scenes(["t/*"])) == [("notes", 1), ("a", 2)]
    with pytest.raises(UsageError, match="folders without scenes only"):
        list_scenes(["u/*"])


def test_a_list_has_a_scene_on_each_line(folder, monkeypatch):
    touch(folder, "a.tif", "lists/b.tif", "one/p.tif", "one/q.tif", "g/1.tif", "g/2.tif")
    (folder / "lists" / "l.txt").write_text(
        "# scenes\n\na.tif\nb.tif\n  one/p.tif\tone/q.tif  \ng/*.tif\nhttps://x.org/u_vv.tif?sig=1\n",
        encoding="utf-8-sig",
    )
    expected = [("a", 1), ("b", 1), ("p", 2), ("1", 1), ("2", 1), ("u_vv", 1)]
    found = list_scenes(["@lists/l.txt"])
    assert names(found) == expected
    assert found.scenes[1].files == (os.path.join("lists", "b.tif"),)
    assert found.scenes[-1].label == "https://x.org/u_vv.tif"
    monkeypatch.setattr("sys.stdin", io.StringIO("a.tif\n"))
    assert names(list_scenes(["@-"])) == [("a", 1)]


def test_a_missing_file_is_a_scene_that_will_fail(folder):
    assert names(list_scenes(["no.tif"])) == [("no", 1)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["*.tif"], "no file has such a name"),
        (["empty"], "folder without scenes"),
        (["@no.txt"], "no such list"),
        (["@binary"], "no text file"),
        (["@nested"], "a list within a list"),
        (["@comments"], "no scenes given"),
        (["list.txt"], "write @list.txt"),
        ([], "no scenes given"),
    ],
)
def test_what_holds_no_scenes_is_refused_at_once(folder, arguments, said):
    (folder / "empty").mkdir()
    (folder / "binary").write_bytes(b"\xff\xfe\0\1")
    (folder / "nested").write_text("@list.txt\n")
    (folder / "comments").write_text("# nothing\n")
    (folder / "list.txt").write_text("a.tif\n")
    with pytest.raises(UsageError, match=said):
        list_scenes(arguments)


def item(name="S1A_IW_GRDH_20240102", **assets):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "properties": {"datetime": "2024-01-02T03:04:05Z"},
        "assets": assets,
    }


TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def written(folder, *items, name="items.json", kind="FeatureCollection"):
    content = {"type": kind, "features": list(items)}
    (folder / name).write_text(json.dumps(content))
    return name


def test_each_item_of_a_collection_is_a_scene(folder):
    vv, vh = {"href": "b/vv.tif", "type": TIFF}, {"href": "b/vh.tif", "type": TIFF}
    name = written(folder, item("a", vv=vv, vh=vh), item("b/../c", VV=vv))
    first, second = list_scenes([name]).scenes
    assert first.files == ("items.json#a",)
    assert (first.id, first.stem, first.date) == ("a", "a", "20240102")
    located = locate_rasters(second.files)
    assert located.files == (os.path.join("b", "vv.tif"),)
    # A file that is one item is taken as it is.
    (folder / "one.json").write_text(json.dumps(item("one", vv=vv)))
    (only,) = list_scenes(["one.json"]).scenes
    assert only.files == ("one.json",)
    assert only.stem == "one"


def test_an_item_without_backscatter_fails_alone(folder):
    optical = item("s2", red={"href": "r.tif", "type": TIFF}, nir={"href": "n.tif", "type": TIFF})
    found = list_scenes([written(folder, optical, item("s1", vv={"href": "vv.tif"}))])
    assert "item s2 has no raster of VV" in found.scenes[0].problem
    assert "red, nir" in found.scenes[0].problem
    assert found.scenes[1].problem is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "neither a STAC item nor an item collection"),
        ('{"type": "FeatureCollection", "features": []}', "without items"),
        ('{"type": "Collection", "links": []}', "only links to items"),
        (
            json.dumps({"type": "FeatureCollection", "features": [item("x"), item("x")]}),
            "2 items called x",
        ),
    ],
)
def test_files_that_are_no_items_are_refused(folder, text, said):
    (folder / "x.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        list_scenes(["x.json"])


def test_real_folders(shared_data):
    found = list_scenes([shared_data / "sen1floods11" / "*_S1Hand.tif"])
    assert len(found.scenes) == 10
    assert {len(s.files) for s in found.scenes} == {1}
    (opera,) = list_scenes([shared_data / "formats" / "opera_rtc"]).scenes
    assert len(opera.files) == 2
    assert opera.date == "20240108"
    safes = list_scenes([shared_data / "safe"]).scenes
    assert [s.date for s in safes] == ["20210401", "20211223"]
