"""Pictures of maps and scenes, opened again."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from class_rasters import NORTH_UP, write_classes
from matplotlib.image import imread
from paths import EXAMPLES
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from scene_rasters import write

from cwsam_geo.cli.main import main
from cwsam_geo.errors import CwsamGeoError, UsageError
from cwsam_geo.pictures.options import PreviewOptions, SceneOptions
from cwsam_geo.pictures.preview import preview

LEGEND = {1: ("water", "#0000ff"), 2: ("land", "#00aa00")}


def colours(path):
    """The colours of a picture, with the share of its pixels that have each."""
    r, g, b = np.rint(imread(path)[..., :3] * 255).astype(np.int64).transpose(2, 0, 1)
    values, counts = np.unique((r << 16) + (g << 8) + b, return_counts=True)
    shares = (counts / counts.sum()).tolist()
    return {
        (v >> 16, v >> 8 & 255, v & 255): share
        for v, share in zip(values.tolist(), shares, strict=True)
    }


@pytest.fixture
def pair(tmp_path):
    """A scene and its map: water on the right, no data at the top."""
    codes = np.full((120, 160), 2, np.uint8)
    codes[:, 80:] = 1
    codes[:30] = 255
    rng = np.random.default_rng(0)
    db = rng.normal(-9, 1, (2, 120, 160)).astype(np.float32)
    db[:, :, 80:] -= 10
    db[1] -= 6
    db[:, :30] = np.nan
    place = {"transform": NORTH_UP}
    scene = write(tmp_path / "scene.tif", db, ("VV", "VH"), nodata=np.nan, **place)
    return write_classes(tmp_path / "map.tif", codes, LEGEND, nodata=255), scene


@pytest.mark.parametrize("size", [600, 1200])
def test_a_map_is_drawn_in_its_colours_at_any_size(pair, tmp_path, size):
    drawn = preview(pair[0], tmp_path / "map.png", PreviewOptions(size=size))
    assert drawn.panels == ("Map",)
    assert max(imread(tmp_path / "map.png").shape) == size
    shares = colours(tmp_path / "map.png")
    # Half of what has data is water; the map takes most of the picture.
    assert shares[0, 0, 255] == pytest.approx(shares[0, 170, 0], rel=0.03)
    assert shares[0, 0, 255] > 0.2


def test_scene_and_map_stand_beside_each_other_or_are_blended(pair, tmp_path):
    side = preview(pair[0], tmp_path / "side.png", PreviewOptions(scene=pair[1], size=700))
    assert side.panels == ("Scene", "Map")
    assert (0, 0, 255) in colours(tmp_path / "side.png")
    blend = preview(
        pair[0], tmp_path / "blend.png", PreviewOptions(scene=pair[1], layout="blend", size=600)
    )
    assert blend.panels == ("Scene and map",)
    shares = colours(tmp_path / "blend.png")
    # Water is bluish, but darkened by the scene below; the legend keeps the pure colour.
    bluish = sum(share for (r, g, b), share in shares.items() if b > r + 90 and b > g + 90)
    assert bluish > 0.15
    assert shares[0, 0, 255] < 0.02


def test_a_scene_alone_has_false_colour_and_beside_a_map_is_grey(pair, tmp_path):
    preview(pair[1], tmp_path / "scene.png", PreviewOptions(size=600))
    alone = colours(tmp_path / "scene.png")
    assert sum(n for (r, g, b), n in alone.items() if max(r, g, b) - min(r, g, b) > 40) > 0.3
    preview(
        pair[1], tmp_path / "grey.png", PreviewOptions(size=600, reading=SceneOptions(color=False))
    )
    grey = colours(tmp_path / "grey.png")
    assert sum(n for (r, g, b), n in grey.items() if max(r, g, b) - min(r, g, b) > 8) < 0.01


def test_a_reference_shows_where_it_agrees(pair, tmp_path):
    codes = np.full((120, 160), 2, np.uint8)
    codes[:, 100:] = 1  # 20 columns less water than in the map
    reference = write_classes(tmp_path / "reference.tif", codes, LEGEND)
    drawn = preview(pair[0], tmp_path / "p.png", PreviewOptions(reference=reference, size=900))
    assert drawn.panels == ("Map", "Reference", "Agreement: 88 % of the pixels")
    shares = colours(tmp_path / "p.png")
    assert shares[0xD5, 0x5E, 0x00] > 0.01
    assert shares.get((0x7B, 0x32, 0x94), 0) < 0.005  # the legend only


def test_polygons_lie_over_the_scene_in_the_colours_of_the_map(pair, tmp_path):
    from cwsam_geo.vectorization.vectorize import vectorize

    vectorize(pair[0], tmp_path / "map.gpkg")
    options = PreviewOptions(scene=pair[1], vectors=tmp_path / "map.gpkg", opacity=1.0, size=900)
    assert preview(pair[0], tmp_path / "p.png", options).panels == ("Scene", "Map", "Polygons")
    # Map and polygons show the same areas.
    shares = colours(tmp_path / "p.png")
    alone = preview(pair[0], tmp_path / "m.png", PreviewOptions(scene=pair[1], size=700))
    assert alone.panels == ("Scene", "Map")
    assert shares[0, 0, 255] > 0.12


def test_of_a_scene_only_the_part_under_the_map_is_read(tmp_path):
    """The scene of a small map has its full resolution: no piece of the reduced whole."""
    db = np.full((1200, 1200), -20, np.float32)
    db[:, ::2] = -5  # stripes of one pixel
    scene = write(tmp_path / "s.tif", db, nodata=np.nan, transform=NORTH_UP)
    place = NORTH_UP * Affine.translation(600, 600)
    part = write_classes(tmp_path / "m.tif", np.ones((40, 40), np.uint8), LEGEND, transform=place)
    options = PreviewOptions(scene=scene, size=300, coordinates="none")
    preview(part, tmp_path / "p.png", options)
    shares = colours(tmp_path / "p.png")
    assert shares[255, 255, 255] > 0.2
    assert shares[0, 0, 0] > 0.1
    away = NORTH_UP * Affine.translation(5000, 0)
    other = write_classes(tmp_path / "o.tif", np.ones((9, 9), np.uint8), LEGEND, transform=away)
    with pytest.raises(UsageError, match=r"s\.tif: lies outside .*o\.tif"):
        preview(other, options=PreviewOptions(scene=scene))


def test_percentages_are_no_map(tmp_path):
    path = write_classes(tmp_path / "c.tif", np.full((9, 9), 80, np.uint8))
    with rasterio.open(path, "r+") as file:
        file.set_band_description(1, "confidence (%)")
    with pytest.raises(CwsamGeoError, match="give the class map"):
        preview(path)


def test_a_rotated_map_is_turned_upright(tmp_path):
    codes = np.ones((200, 200), np.uint8)
    turned = Affine.translation(400000, 5500000) @ Affine.rotation(-45) @ Affine.scale(10, -10)
    path = write_classes(tmp_path / "map.tif", codes, LEGEND, transform=turned)
    preview(path, tmp_path / "map.png", PreviewOptions(size=600, coordinates="none"))
    shares = colours(tmp_path / "map.png")
    # A square on its corner covers half of its frame.
    assert shares[0, 0, 255] == pytest.approx(shares[0xE9, 0xE9, 0xE7], rel=0.1)


def test_control_points_place_a_scene(tmp_path):
    points = [
        GroundControlPoint(row=r, col=c, x=20 + c * 1e-3, y=60 - r * 1e-3)
        for r in (0, 50, 100)
        for c in (0, 50, 100)
    ]
    path = write(tmp_path / "s.tif", np.full((100, 100), -10, np.float32), transform=None, crs=None)
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, CRS.from_epsg(4326))
    drawn = preview(path, tmp_path / "s.png")
    assert drawn.metres_per_pixel == pytest.approx(56, rel=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (500, 1), (1, 500)])
def test_slim_scenes_and_scenes_without_data_have_pictures(tmp_path, shape):
    path = write(tmp_path / "s.tif", np.full(shape, np.nan, np.float32), nodata=np.nan)
    preview(path, tmp_path / "s.png", PreviewOptions(size=400))
    assert max(imread(tmp_path / "s.png").shape) == 400


def test_few_whole_numbers_without_names_are_classes(tmp_path):
    path = write_classes(tmp_path / "labels.tif", np.array([[0, 1], [1, 2]], np.int16))
    assert preview(path).panels == ("Map",)


def test_names_with_any_character_are_drawn(tmp_path):
    codes = np.array([[1, 2]], np.uint8)
    legend = {1: ("wet $ _ ^ {\\frac", "#0000ff"), 2: ("水 Übergang", "#00aa00")}
    path = write_classes(tmp_path / "map.tif", codes, legend)
    assert preview(path)._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_pictures_for_print(pair, tmp_path, suffix):
    preview(pair[0], tmp_path / f"map.{suffix}")
    head = (tmp_path / f"map.{suffix}").read_bytes()[:100]
    assert (b"%PDF" if suffix == "pdf" else b"<?xml") in head


def test_mistakes_are_one_line(pair, tmp_path):
    with pytest.raises(UsageError, match=r"\*\.png"):
        preview(pair[0], tmp_path / "map.bmp")
    (tmp_path / "there.png").write_bytes(b"old")
    with pytest.raises(UsageError, match="--overwrite"):
        preview(pair[0], tmp_path / "there.png")
    with pytest.raises(UsageError, match=r"--scene .*scene\.tif"):
        preview(list(pair))
    with pytest.raises(UsageError, match="300 to 10000"):
        PreviewOptions(size=20)
    with pytest.raises(CwsamGeoError, match="no such file"):
        preview(tmp_path / "missing.tif", tmp_path / "p.png")
    assert (tmp_path / "there.png").read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


def test_the_command_draws_the_example(tmp_path, capsys):
    output = tmp_path / "p.png"
    words = ["preview", str(EXAMPLES / "scene_truth.tif"), "--scene", str(EXAMPLES / "scene.tif")]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "-o", str(output), "--size", "500", "--json"])
    assert not stopped.value.code
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["panels"] == ["Scene", "Map"]
    assert done["metres_per_pixel"] > 0
    assert output.is_file()
