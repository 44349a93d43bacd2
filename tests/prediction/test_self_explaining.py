"""What lies in and beside a map: doubtful pixels, areas, styles, attribute table."""

import contextlib
import json
import re
import sqlite3
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from doubles import legend
from models import random_bundle
from scene_rasters import write

from cwsam_geo.areas.class_areas import class_areas
from cwsam_geo.cli.main import main
from cwsam_geo.core.legend import Legend, LegendEntry
from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.info.describe import describe
from cwsam_geo.io.qml import write_qml
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
from cwsam_geo.prediction.predict_scene import predict_scene

CLASSES = legend(5, first=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "s1.safetensors"
    random_bundle(CLASSES).save(path)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    rng = np.random.default_rng(0)
    vv = np.repeat(np.repeat(rng.normal(-11, 4, (15, 21)), 10, 0), 10, 1)
    db = np.stack([vv, vv - 7]).astype(np.float32)
    db[:, :20, :20] = np.nan
    path = tmp_path_factory.mktemp("scenes") / "scene.tif"
    return write(path, db, ("VV", "VH"), nodata=np.nan)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_doubtful_pixels_are_unclassified_in_map_polygons_and_areas(model, scene, tmp_path):
    plain = PredictOutputs(confidence=tmp_path / "confidence.tif")
    predict_scene(scene, tmp_path / "plain.tif", PredictOptions(model=model), plain)
    confidence, classes = read(tmp_path / "confidence.tif"), read(tmp_path / "plain.tif")
    least = int(np.median(confidence[classes != 255])) + 1
    outputs = PredictOutputs(
        vectors=tmp_path / "map.gpkg",
        areas=tmp_path / "areas.json",
        probabilities=tmp_path / "probabilities.tif",
    )
    options = PredictOptions(model=model, min_confidence=least)
    summary = predict_scene(scene, tmp_path / "map.tif", options, outputs)
    # Exactly the pixels that the raster of confidence shows below the limit.
    expected = np.where((classes != 255) & (confidence < least), 254, classes)
    np.testing.assert_array_equal(read(tmp_path / "map.tif"), expected)
    doubtful = int((expected == 254).sum())
    assert doubtful
    assert summary.pixels[254] == doubtful
    table = {c.name: c for c in class_areas(tmp_path / "map.tif").classes}
    assert table["unclassified"].pixels == doubtful
    written = json.loads((tmp_path / "areas.json").read_text())
    assert written["classes"][-1]["name"] == "unclassified"
    assert written["classes"][-1]["pixels"] == doubtful
    polygons = geopandas.read_file(tmp_path / "map.gpkg", layer="map")
    area = polygons[polygons.class_name == "unclassified"].area_m2.sum()
    assert area == pytest.approx(1e6 * table["unclassified"].km2, rel=1e-6)
    with contextlib.closing(sqlite3.connect(tmp_path / "map.gpkg")) as base:
        assert "unclassified" in base.execute("SELECT styleQML FROM layer_styles").fetchone()[0]
    described = describe(tmp_path / "map.tif")
    assert described["settings"]["min_confidence"] == least
    assert described["classes"][-1]["name"] == "unclassified"
    # The probabilities are those of the model's own classes.
    assert describe(tmp_path / "probabilities.tif")["content"] == "probabilities"
    with rasterio.open(tmp_path / "probabilities.tif") as file:
        assert file.count == len(CLASSES)


def test_the_code_of_doubtful_pixels_is_no_class_of_the_model():
    def entries(codes):
        return Legend(tuple(LegendEntry(c, f"c{c}", (0, 0, 0)) for c in codes))

    assert entries([0, 1]).with_unclassified().entries[-1].code == 254
    assert entries([254, 253]).with_unclassified().entries[-1].code == 252
    named = Legend((LegendEntry(7, "unclassified", (0, 0, 0)),)).with_unclassified()
    assert named.names == ["unclassified", "unclassified (254)"]
    with pytest.raises(LegendError, match="--min-confidence"):
        entries(range(255)).with_unclassified()


@pytest.mark.parametrize("value", [-1, 101, 0.5])
def test_a_least_confidence_is_whole_per_cent(value, capsys):
    with pytest.raises(UsageError, match="per cent"):
        PredictOptions(min_confidence=value)
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "s.tif", "-o", "m.tif", "--min-confidence", str(value)])
    assert stopped.value.code == 2
    assert "whole number of per cent" in capsys.readouterr().err


def test_the_attribute_table_counts_the_pixels(model, scene, tmp_path):
    predict_scene(scene, tmp_path / "map.tif", PredictOptions(model=model))
    codes = read(tmp_path / "map.tif")
    rasterio.shutil.copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    table = ElementTree.parse(tmp_path / "map.vrt").find(".//GDALRasterAttributeTable")
    columns = {d.findtext("Name"): int(d.findtext("Usage")) for d in table.findall("FieldDefn")}
    # GDAL's usages: pixel count 1, name 2, minimum and maximum 5, red 6, green 7, blue 8, alpha 9
    assert columns == {
        **{"Value": 5, "Count": 1, "Class": 2},
        **{"Red": 6, "Green": 7, "Blue": 8, "Alpha": 9},
    }
    rows = [[f.text for f in row] for row in table.findall("Row")]
    for row in rows:
        assert float(row[1]) == (codes == int(row[0])).sum()


def test_a_style_lists_the_classes_for_qgis(model, scene, tmp_path, capsys):
    words = ["predict", str(scene), "-o", str(tmp_path / "map.tif"), "-m", str(model)]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--areas", str(tmp_path / "areas.csv"), "--min-confidence", "60"])
    assert not stopped.value.code
    assert re.search(r"areas\.csv: .* km2, unclassified [\d.]+ km2", capsys.readouterr().err)
    root = ElementTree.parse(tmp_path / "map.qml").getroot()
    entries = root.findall("pipe/rasterrenderer[@type='paletted']/colorPalette/paletteEntry")
    shown = {int(e.get("value")): (e.get("label"), e.get("color")) for e in entries}
    expected = {e.code: (e.name, e.color) for e in CLASSES.with_unclassified().entries}
    assert shown == expected
    assert (tmp_path / "areas.csv").read_text().startswith("code,name,color,pixels,km2,percent\n")


def test_outputs_beside_the_map_are_checked_before_it_is_made(model, scene, tmp_path):
    with pytest.raises(UsageError, match=r"\*\.csv"):
        predict_scene(
            *(scene, tmp_path / "map.tif", PredictOptions(model=model)),
            PredictOutputs(areas=tmp_path / "areas.xlsx"),
        )
    # A style of other classes would give the new map wrong names.
    write_qml(tmp_path / "map.tif", legend(2))
    earlier = (tmp_path / "map.qml").read_bytes()
    with pytest.raises(UsageError, match=r"map\.qml: .* other classes; remove it, or pass --over"):
        predict_scene(scene, tmp_path / "map.tif", PredictOptions(model=model))
    assert not (tmp_path / "map.tif").exists()
    assert (tmp_path / "map.qml").read_bytes() == earlier
    predict_scene(
        *(scene, tmp_path / "map.tif", PredictOptions(model=model)), PredictOutputs(overwrite=True)
    )
    written = (tmp_path / "map.qml").read_text(encoding="utf-8")
    assert all(entry.name in written for entry in CLASSES.entries)
    # The style of the same classes is in nobody's way.
    (tmp_path / "map.tif").unlink()
    (tmp_path / "map.tif.aux.xml").unlink()
    predict_scene(scene, tmp_path / "map.tif", PredictOptions(model=model))
    assert (tmp_path / "map.qml").read_text(encoding="utf-8") == written


def own_style(path, how):
    """A style that the user has: saved by QGIS, edited in a text editor, or anything else."""
    if how == "edited":
        write_qml(path.with_suffix(".tif"), CLASSES)
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(CLASSES.entries[0].color, "#010203"), encoding="utf-8")
    elif how == "saved by QGIS":
        path.write_text('<!DOCTYPE qgis>\n<qgis version="3.34.1-Prizren"><pipe/></qgis>\n')
    elif how == "binary":
        path.write_bytes(b"\xff\xfe<")
    elif how == "large":
        path.write_bytes(b" " * (2 << 20))
    elif how == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere.qml")
    return path


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "how", ["edited", "saved by QGIS", "binary", "large", "folder", "link to nothing"]
)
def test_a_style_of_the_users_own_is_kept(model, scene, tmp_path, how, overwrite):
    style = own_style(tmp_path / "map.qml", how)
    before = style.read_bytes() if style.is_file() else style.lstat().st_ino
    events = []
    predict_scene(
        *(scene, tmp_path / "map.tif", PredictOptions(model=model)),
        *(PredictOutputs(overwrite=overwrite), events.append),
    )
    assert (style.read_bytes() if style.is_file() else style.lstat().st_ino) == before
    assert (tmp_path / "map.tif").exists()
    (kept,) = [e["text"] for e in events if "map.qml" in e.get("text", "")]
    assert kept.endswith("so it is kept")


def test_no_style_is_written_where_none_is_wanted(model, scene, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["predict", str(scene), "-o", str(tmp_path / "map.tif"), "-m", str(model), "--no-qml"])
    assert not stopped.value.code
    assert not (tmp_path / "map.qml").exists()
