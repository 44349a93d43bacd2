"""What notebooks show of the package's objects."""

import numpy as np
from class_rasters import write_classes
from doubles import legend
from models import random_bundle
from scene_rasters import write

import cwsam_geo

CLASSES = legend(3, first=3)
LEGEND = {3: ("<wet>", "#0000ff"), 4: ("land", "#00aa00")}


def test_a_map_shows_its_picture_and_a_model_one_line(tmp_path):
    bundle = tmp_path / "m.safetensors"
    random_bundle(CLASSES).save(bundle)
    db = np.random.default_rng(0).normal(-11, 3, (2, 40, 50)).astype(np.float32)
    scene = write(tmp_path / "s.tif", db, ("VV", "VH"), nodata=np.nan)
    options = cwsam_geo.PredictOptions(model=bundle)
    summary = cwsam_geo.predict_scene(scene, tmp_path / "map.tif", options)
    assert summary._repr_png_().startswith(b"\x89PNG")
    assert str(tmp_path / "map.tif") in repr(summary)
    (tmp_path / "map.tif").unlink()
    assert summary._repr_png_() is None
    text = repr(cwsam_geo.load_model(bundle))
    assert len(text.splitlines()) == 1
    assert "m.safetensors" in text
    assert "VV, VH" in text


def test_results_are_tables_and_names_stay_text(tmp_path):
    codes = np.array([[3, 4], [4, 4]], np.uint8)
    raster = write_classes(tmp_path / "map.tif", codes, LEGEND)
    shown = [
        cwsam_geo.class_areas(raster),
        cwsam_geo.vectorize(raster, tmp_path / "map.gpkg"),
        cwsam_geo.evaluate(raster, raster),
        cwsam_geo.Legend.from_list(
            [{"code": c, "name": n, "color": rgb} for c, (n, rgb) in LEGEND.items()]
        ),
    ]
    for result in shown:
        table = result._repr_html_()
        assert table.startswith("<table>")
        assert "&lt;wet&gt;" in table
        assert "<wet>" not in table
