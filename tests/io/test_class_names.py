"""Names of classes wherever programs keep them, as vectorize, evaluate and info show them."""

import json
from xml.etree import ElementTree

import geopandas
import numpy as np
import pyogrio.raw
import pytest
import rasterio
import rasterio.shutil
from class_rasters import write_classes

from cwsam_geo import VectorizeOptions, evaluate, vectorize
from cwsam_geo.errors import LegendError
from cwsam_geo.info.describe import describe
from cwsam_geo.io.class_raster import ClassRaster

CLASSES = {0: "water", 1: "trees", 2: "Ödland"}


def codes():
    return (np.indices((30, 40)).sum(0) // 10 % 3).astype(np.uint8)


def pam(raster, content, band=1):
    text = f'<PAMDataset><PAMRasterBand band="{band}">{content}</PAMRasterBand></PAMDataset>'
    raster.with_name(f"{raster.name}.aux.xml").write_text(text, encoding="utf-8")


def categories(names):
    return f"<CategoryNames>{''.join(f'<Category>{n}</Category>' for n in names)}</CategoryNames>"


def table(columns, rows, attributes=""):
    """A raster attribute table; columns are (name, type, usage)."""
    root = ElementTree.fromstring(f"<GDALRasterAttributeTable {attributes}/>")
    for i, (name, kind, usage) in enumerate(columns):
        definition = ElementTree.SubElement(root, "FieldDefn", index=str(i))
        for tag, text in (("Name", name), ("Type", kind), ("Usage", usage)):
            ElementTree.SubElement(definition, tag).text = str(text)
    for i, row in enumerate(rows):
        element = ElementTree.SubElement(root, "Row", index=str(i))
        for cell in row:
            ElementTree.SubElement(element, "F").text = str(cell)
    return ElementTree.tostring(root, encoding="unicode")


def with_categories(path, array):
    write_classes(path, array)
    pam(path, categories(CLASSES.values()))


def with_table(path, array):
    write_classes(path, array)
    columns = [("Value", 0, 5), ("Histogram", 1, 1), ("Class", 2, 2)]
    pam(path, table(columns, [(v, 100, n) for v, n in CLASSES.items()]))


def with_a_table_without_usages(path, array):
    write_classes(path, array)
    columns = [("OID", 0, 0), ("VALUE", 0, 0), ("COUNT", 1, 0), ("Shape", 2, 0), ("LC_NAME", 2, 0)]
    pam(path, table(columns, [(i, v, 9, "x", n) for i, (v, n) in enumerate(CLASSES.items())]))


def with_a_table_of_ranges(path, array):
    write_classes(path, array)
    columns = [("from", 0, 3), ("to", 0, 4), ("Class", 2, 2)]
    pam(path, table(columns, [(v, v, n) for v, n in CLASSES.items()]))


def with_a_table_of_bins(path, array):
    write_classes(path, array)
    rows = [(9, n) for n in CLASSES.values()]
    columns = [("Histogram", 1, 1), ("Class_Names", 2, 0)]
    pam(path, table(columns, rows, 'Row0Min="0" BinSize="1"'))


def with_esri_table(path, array):
    write_classes(path, array)
    pyogrio.raw.write(
        path.with_name(f"{path.name}.vat.dbf"),
        geometry=None,
        field_data=[
            np.array(list(CLASSES), np.int32),
            np.array([9.0, 9.0, 9.0]),
            np.array(list(CLASSES.values()), object),
            *(np.array([share] * 3) for share in (1.0, 0.5, 0.0)),
        ],
        fields=np.array(["Value", "Count", "ClassName", "Red", "Green", "Blue"], object),
        driver="ESRI Shapefile",
    )


def in_erdas_imagine(path, array):
    with_categories(path, array)
    with rasterio.open(path) as file:
        rasterio.shutil.copy(file, path.with_suffix(".img"), driver="HFA")
    path.with_name(f"{path.name}.aux.xml").unlink()
    return path.with_suffix(".img")


def in_envi(path, array):
    write_classes(path.with_suffix(".dat"), array, driver="ENVI")
    header = path.with_suffix(".hdr")
    names = "class names = {water, trees, Oedland}"
    colors = "class lookup = {0,0,255, 0,99,0, 99,99,99}"
    text = f"{header.read_text()}\nclasses = 3\n{names}\n{colors}\n"
    header.write_text(text.replace("ENVI Standard", "ENVI Classification"))
    return path.with_suffix(".dat")


def with_flags(path, array):
    write_classes(path, array)
    with rasterio.open(path, "r+") as file:
        file.update_tags(1, flag_values="{0,1,2}", flag_meanings="water trees Ödland")


KEPT = [
    with_flags,
    with_categories,
    with_table,
    with_a_table_without_usages,
    with_a_table_of_ranges,
    with_a_table_of_bins,
    with_esri_table,
    in_erdas_imagine,
    in_envi,
]


@pytest.mark.parametrize("kept", KEPT)
def test_names_are_read_where_other_programs_keep_them(tmp_path, kept):
    raster = kept(tmp_path / "map.tif", codes()) or tmp_path / "map.tif"
    output = tmp_path / "out.fgb"
    names = [n if kept is not in_envi else n.replace("Ö", "Oe") for n in CLASSES.values()]
    vectorize(raster, output, VectorizeOptions(classes=("Water", "2")))
    assert set(geopandas.read_file(output).class_name) == {names[0], names[2]}
    assert evaluate(raster, raster).classes.legend.names == names
    info = describe([str(raster)])
    assert [c["name"] for c in info["classes"]] == names
    assert info["legend"] in ("table", "categories")


def test_colours_of_tables_are_read_and_those_of_the_palette_fill_in(tmp_path):
    with_esri_table(tmp_path / "esri.tif", codes())
    assert ClassRaster(tmp_path / "esri.tif").names.color(1) == "#ff8000"
    path = write_classes(tmp_path / "gdal.tif", codes())
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (1, 2, 3, 255), 1: (4, 5, 6, 255)})
    columns = [("V", 0, 5), ("N", 2, 2), ("R", 0, 6), ("G", 0, 7), ("B", 0, 8)]
    pam(path, table(columns, [(0, "water", 1, 0, 1), (1, "trees", 999, 0, 0)]))
    names = ClassRaster(path).names
    assert [names.color(v) for v in (0, 1)] == ["#010001", "#040506"]


@pytest.mark.parametrize("text", ["see the report", "{", "7", "[]", '{"1": "water"}', '["water"]'])
def test_a_foreign_tag_of_the_legends_name_stops_nothing(tmp_path, text):
    raster = write_classes(tmp_path / "map.tif", codes())
    with_categories(tmp_path / "named.tif", codes())
    for path in (raster, tmp_path / "named.tif"):
        with rasterio.open(path, "r+") as file:
            file.update_tags(LEGEND=text)
        vectorize(path, tmp_path / f"{path.stem}.fgb")
        assert evaluate(path, path).scores.overall_accuracy == 1
    assert set(geopandas.read_file(tmp_path / "map.fgb").class_name) == {
        "class 0",
        "class 1",
        "class 2",
    }
    assert set(geopandas.read_file(tmp_path / "named.fgb").class_name) == set(CLASSES.values())


def test_a_legend_of_ours_with_a_mistake_is_said(tmp_path):
    raster = write_classes(tmp_path / "map.tif", codes())
    twice = [{"code": 1, "name": n, "color": "#000000"} for n in "ab"]
    with rasterio.open(raster, "r+") as file:
        file.update_tags(LEGEND=json.dumps(twice))
    with pytest.raises(LegendError, match=r"map\.tif.*code 1 appears twice"):
        vectorize(raster, tmp_path / "out.gpkg")


def test_a_damaged_table_stops_nothing(tmp_path):
    raster = write_classes(tmp_path / "map.tif", codes())
    raster.with_name("map.tif.vat.dbf").write_bytes(b"\x03damaged")
    raster.with_name("map.tif.aux.xml").write_text("<PAMDataset><")
    assert ClassRaster(raster).names.names == {}


def test_classes_of_one_name_stay_apart_where_a_legend_needs_it(tmp_path):
    raster = write_classes(tmp_path / "map.tif", codes())
    pam(raster, categories(["forest", "forest", ""]))
    assert evaluate(raster, raster).classes.legend.names == ["forest (0)", "forest (1)", "2"]
    result = vectorize(raster, tmp_path / "out.fgb", VectorizeOptions(classes=("forest",)))
    assert [c.value for c in result.classes] == [0, 1]


def test_tables_of_statistics_name_no_class(tmp_path):
    raster = write_classes(tmp_path / "map.tif", codes())
    columns = [("Value", 0, 5), ("Histogram", 1, 1)]
    pam(raster, table(columns, [(v, 100) for v in range(3)]))
    assert ClassRaster(raster).names.origin is None


def test_negative_and_large_codes_have_names(tmp_path):
    array = np.where(codes() == 1, -7, np.where(codes() == 2, 523, 111)).astype(np.int16)
    raster = write_classes(tmp_path / "map.tif", array)
    named = {-7: "none", 111: "urban", 523: "sea"}
    pam(raster, table([("Value", 0, 5), ("Class", 2, 2)], list(named.items())))
    vectorize(raster, tmp_path / "out.fgb")
    frame = geopandas.read_file(tmp_path / "out.fgb")
    assert dict(zip(frame.class_id, frame.class_name, strict=True)) == named
