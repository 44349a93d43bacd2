"""A report in a real browser: it loads, its layers switch, and a click tells the truth."""

import re

import numpy as np
import pyproj
import pytest
from browser import complaints, eventually, fetched, open_page
from class_rasters import NORTH_UP, UTM, write_classes
from scene_rasters import write

from cwsam_geo import ReportOptions, ReportScene, report_map
from cwsam_geo.pages import map_view

EVIL = "<script>alert(1)</script>"
LEGEND = {1: ("water", "#3366ff"), 2: ("woods", "#227722"), 7: (EVIL, "#ff8800")}
NAMES = {code: name for code, (name, _) in LEGEND.items()} | {255: "no data"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A map of noise, its confidence and its scene."""
    folder = tmp_path_factory.mktemp("browser")
    rng = np.random.default_rng(5)
    codes = rng.choice(np.array([1, 2, 7, 255], np.uint8), (400, 560), p=(0.4, 0.3, 0.2, 0.1))
    percent = np.where(codes == 255, 255, rng.integers(0, 101, codes.shape)).astype(np.uint8)
    write_classes(folder / "map.tif", codes, LEGEND, nodata=255)
    write_classes(folder / "confidence.tif", percent, nodata=255)
    bands = rng.normal(-12, 2, (2, *codes.shape)).astype(np.float32)
    write(folder / "scene.tif", bands, ("VV", "VH"), transform=NORTH_UP, crs=UTM)
    options = ReportOptions(
        ReportScene([folder / "scene.tif"]), confidence=folder / "confidence.tif"
    )
    report_map(folder / "map.tif", folder / "report.html", options)
    return folder, codes, percent


@pytest.fixture
def page(browser, files):
    open_page(browser, files[0] / "report.html")
    assert eventually(lambda: browser.execute_script(DRAWN)), complaints(browser)
    return browser


DRAWN = """
const tiles = [...document.querySelectorAll('#map canvas.leaflet-tile')];
return tiles.length > 0 && tiles.every((t) => t.classList.contains('leaflet-tile-loaded'));
"""
"""Whether all tiles of the map are drawn."""

OPAQUE = """
let opaque = 0;
for (const tile of document.querySelectorAll('#map canvas.leaflet-tile')) {
  const pixels = tile.getContext('2d').getImageData(0, 0, tile.width, tile.height).data;
  for (let i = 3; i < pixels.length; i += 4) opaque += pixels[i] > 0;
}
return opaque;
"""
"""Number of pixels of the screen that layers of tiles colour."""


def at(browser, col, row):
    """Clicks a place of the raster with the mouse, and returns what the page answers."""
    before = "document.getElementById('map-answer').textContent = ''; "
    x, y = browser.execute_script(
        before + "const p = document.getElementById('map').cwsamGeoMap"
        ".latLngToContainerPoint([-arguments[1], arguments[0]]);"
        "const box = document.getElementById('map').getBoundingClientRect();"
        "return [box.left + p.x, box.top + p.y];",
        col,
        row,
    )
    for kind in ("mousePressed", "mouseReleased"):
        event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    return answer(browser)


def answer(browser):
    return eventually(lambda: browser.find_element("id", "map-answer").text)


def zoom(browser, col, row, level):
    browser.execute_script(
        "document.getElementById('map').scrollIntoView();"
        "document.getElementById('map').cwsamGeoMap"
        ".setView([-arguments[1], arguments[0]], arguments[2], {animate: false});",
        col,
        row,
        level,
    )


def checkbox(browser, selector):
    box = browser.find_element("css selector", selector)
    browser.execute_script("arguments[0].click()", box)


def test_a_report_loads_from_nowhere_else_and_without_complaint(page, files):
    assert page.title == "Land cover: map.tif"
    assert fetched(page) == [(files[0] / "report.html").resolve().as_uri()]
    assert complaints(page) == []
    # The class's name is text: nothing has run.
    labels = [e.text for e in page.find_elements("css selector", ".layer-legend label")]
    assert EVIL in labels


def test_a_click_tells_class_confidence_and_place(page, files):
    _, codes, percent = files
    rng = np.random.default_rng(1)
    to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    for row, col in rng.integers((0, 0), codes.shape, (12, 2)).tolist():
        zoom(page, col, row, 4)
        # Anywhere in the pixel: a pixel of the raster has 16 of the screen on each side.
        dx, dy = rng.uniform(0.1, 0.9, 2)
        text = at(page, col + dx, row + dy)
        assert text.startswith(f"class: {NAMES[codes[row, col]]} · "), (row, col)
        known = codes[row, col] != 255
        assert f"confidence: {f'{percent[row, col]} %' if known else 'no data'} · " in text
        assert text.endswith(f"column {col}, row {row}")
        x, y, lat, lon = map(
            float,
            re.search(
                r"([\d.]+), ([\d.]+) \(EPSG:32633\) · ([\d.]+)° N, ([\d.]+)° E", text
            ).groups(),
        )
        east, north = NORTH_UP * (col + dx, row + dy)
        # The mouse knows whole pixels of the screen: a sixteenth of 10 m; the page prints metres.
        assert (x, y) == (pytest.approx(east, abs=2), pytest.approx(north, abs=2))
        assert (lon, lat) == pytest.approx(to_degrees.transform(x, y), abs=2e-5)
    assert "lies outside the map" in at(page, *outside(page))


def outside(browser):
    zoom(browser, 0, 0, 0)
    return -20, -20


def test_the_keyboard_reads_the_middle(page, files):
    _, codes, _ = files
    zoom(page, 100.5, 200.5, 5)
    page.execute_script("document.getElementById('map').focus()")
    page.switch_to.active_element.send_keys("\ue007")
    assert eventually(lambda: "column 100, row 200" in answer(page))
    assert answer(page).startswith(f"class: {NAMES[codes[200, 100]]}")


def test_layers_and_classes_switch(page):
    everything = page.execute_script(OPAQUE)
    assert everything > 0
    checkbox(page, '[data-layer="scene"] .layer-row input[type=checkbox]')
    without_scene = page.execute_script(OPAQUE)
    assert 0 < without_scene < everything
    checkbox(page, '[data-hides="classes"]')
    fewer = eventually(
        lambda: page.execute_script(DRAWN) and 0 < page.execute_script(OPAQUE) < without_scene
    )
    assert fewer
    checkbox(page, '[data-layer="classes"] .layer-row input[type=checkbox]')
    assert page.execute_script(OPAQUE) == 0
    checkbox(page, '[data-layer="confidence"] .layer-row input[type=checkbox]')
    assert eventually(lambda: page.execute_script(DRAWN) and page.execute_script(OPAQUE))
    page.execute_script(
        "const slider = document.querySelector('[data-layer=\"confidence\"] input[type=range]');"
        "slider.value = 35; slider.dispatchEvent(new Event('input'));"
    )
    layers = page.find_elements("css selector", "#map .leaflet-layer")
    assert [e.value_of_css_property("opacity") for e in layers] == ["0.35"]
    # That this test reads pixels often is its own affair.
    assert [text for text in complaints(page) if "willReadFrequently" not in text] == []


def test_paper_gets_still_pictures_and_no_controls(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = page.execute_script(
            "return ['.map-view', '.stills'].map("
            "(s) => getComputedStyle(document.querySelector(s)).display)"
        )
        assert shown == ["none", "grid"]
        stills = page.find_elements("css selector", ".stills img")
        assert [e.get_attribute("alt") for e in stills] == [
            f"{name} of the whole map" for name in ("Scene", "Classes", "Confidence")
        ]
        assert all(page.execute_script("return arguments[0].naturalWidth", e) for e in stills)
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_map_shown_coarser_says_so(browser, files, monkeypatch):
    folder, codes, _ = files
    monkeypatch.setattr(map_view, "_CHARACTERS", 30_000)
    report_map(folder / "map.tif", folder / "coarse.html")
    open_page(browser, folder / "coarse.html")
    assert eventually(lambda: browser.execute_script(DRAWN))
    zoom(browser, 300, 200, 3)
    text = at(browser, 301, 201)
    factor = float(re.search(r"one value for about ([\d.]+) x", text).group(1))
    near = codes[201 - int(factor) : 202 + int(factor), 301 - int(factor) : 302 + int(factor)]
    assert factor >= 2
    assert text.split(" · ")[0].split(" (")[0] in {f"class: {NAMES[c]}" for c in near.flat}
