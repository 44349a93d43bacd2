"""Tables of points as other programs write them."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from cwsam_geo.errors import UsageError
from cwsam_geo.io.point_table import read_table

UTM = CRS.from_epsg(32633)
WGS84 = CRS.from_epsg(4326)
PLACES = [(15.0, 45.1), (15.25, -45.5)]


def table(text, grid=UTM, prj=None, encoding="utf-8"):
    return read_table(text.encode(encoding), "points.csv", grid, prj)


@pytest.mark.parametrize(
    "text",
    [
        "lon,lat,class\n15,45.1,water\n15.25,-45.5,trees\n",
        "class;Latitude;Longitude\r\nwater;45,1;15,0\r\ntrees;-45,5;15,25\r\n",
        "LON\tLAT\tclass\n15\t45.1\twater\n15.25\t-45.5\ttrees",
        "lon_dd|class|lat_dd\n15.0|water|45.1\n15.25|trees|-45.5\n",
        'class,WKT\nwater,"POINT (15 45.1)"\ntrees,POINT(15.25 -45.5)\n',
        'the_geom,class\n"SRID=4326;POINT(15 45.1)",water\n"SRID=4326;POINT(15.25 -45.5)",trees\n',
        'system:index,class,.geo\n0_1,water,"{""type"":""Point"",""coordinates"":[15,45.1]}"\n'
        '0_2,trees,"{""type"":""Point"",""coordinates"":[15.25,-45.5]}"\n',
        "X,Y,class\n15,45.1,water\n15.25,-45.5,trees\n",
        "sep=;\nlat;lon;class\n45.1;15;water\n-45.5;15.25;trees\n",
        '"class","lon","lat"\n"water","15","45.1"\n\n"trees","15.25","-45.5"\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_degrees_in_the_ways_of_other_programs(text, encoding):
    found = table(text, encoding=encoding)
    assert [(p.x, p.y) for p in found.shapes] == PLACES
    assert found.crs == WGS84
    assert found.columns == {"class": ["water", "trees"]}


@pytest.mark.parametrize(
    "text",
    [
        "x,y,class\n500000,5000000,1\n500010,5000020.5,4\n",
        "id_class;POINT_X;POINT_Y\n1;500000;5000000\n4;500010;5000020,5\n",
        "Easting,Northing,c\n500000,5000000,1.0\n500010,5000020.5,4.0\n",
        "wkt,c\nPOINT (500000 5000000),1\nPOINT (500010 5000020.5),4\n",
    ],
)
def test_other_numbers_are_in_the_crs_of_the_map_which_is_said(text):
    found = table(text)
    assert [(p.x, p.y) for p in found.shapes] == [(500_000, 5_000_000), (500_010, 5_000_020.5)]
    assert found.crs == UTM
    assert next(iter(found.columns.values())) == [1, 4]
    (remark,) = found.remarks
    assert "are taken as coordinates in the CRS of the map or scene" in remark


def test_what_is_assumed_is_said_and_what_is_sure_is_not():
    (remark,) = table("x,y,c\n15,45,1\n").remarks
    assert "x and y are taken as longitude and latitude in degrees (WGS 84)" in remark
    (remark,) = table("x,y,c\n15,45,1\n", CRS.from_epsg(4258)).remarks
    assert "degrees in the CRS of the map" in remark
    assert table("lon,lat,c\n15,45,1\n").remarks == ()
    assert table("wkt,c\nSRID=32632;POINT (1 1),1\n").crs == CRS.from_epsg(32632)
    assert table("x,y,c\n3,4,1\n", None).crs is None
    found = table("x,y,c\n3,4,1\n", prj=CRS.from_epsg(27700).to_wkt())
    assert found.crs.to_epsg() == 27700
    assert found.remarks == ()


def test_rows_without_coordinates_are_left_out_and_told():
    found = table("lon,lat,c\n15,45,1\n,,2\nNA,NaN,3\n16,46,\n17,47\n")
    assert found.columns == {"c": [1, None, None]}
    assert found.remarks == ("points.csv: 2 rows without coordinates were left out",)


def test_empty_shapes_beside_coordinates_are_no_shapes():
    empty = '"{""type"":""MultiPoint"",""coordinates"":[]}"'
    found = table(f"system:index,c,lon,lat,.geo\n0,1,15,45.1,{empty}\n1,2,15.25,-45.5,{empty}\n")
    assert [(p.x, p.y) for p in found.shapes] == PLACES
    assert found.columns == {"c": [1, 2]}


def test_texts_of_windows_and_classes_called_none():
    found = read_table("lon,lat,c\n15,45,Wälder\n16,46,None\n".encode("cp1252"), "p", UTM)
    assert found.columns == {"c": ["Wälder", "None"]}


def test_shapes_of_any_kind_as_text():
    square = shapely.box(1, 2, 3, 4)
    binary = shapely.set_srid(square, 32633)
    for text in (f'"{square.wkt}"', shapely.to_wkb(binary, hex=True, include_srid=True)):
        found = table(f"geom,c\n{text},1\n", None)
        assert found.shapes[0].equals(square)
    assert found.crs == UTM


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", r"no column has coordinates; call them lon and lat.*it has: a, b"),
        ("lon,lat,c\n", "no rows below its header"),
        ("", "no rows"),
        ("lon,lat,c\n15,north,1\n", r"row 2: lon '15' and lat 'north' are not two numbers"),
        ("lon,lat,c\n500000,5000000,1\n", r"lon and lat are not degrees \(they span 500000"),
        ("wkt,c\nPONT (1 2),1\n", r"row 2: wkt 'PONT \(1 2\)' is not WKT"),
        ("wkt,c\nSRID=1;POINT (1 2),1\n", "its CRS.*unknown"),
        ("wkt,c\nSRID=4326;POINT (1 2),1\nSRID=32633;POINT (1 2),1\n", "several CRS"),
        ("lon,lat,c\n15,45,a,b\n", r"row 2 has 4 fields, but the header 3"),
    ],
)
def test_what_is_no_table_of_points_is_one_line(text, words):
    with pytest.raises(UsageError, match=words) as caught:
        table(text)
    assert "points.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_metres_for_a_map_in_degrees_are_refused():
    with pytest.raises(UsageError, match=r"not degrees.*\.prj"):
        table("x,y,c\n500000,5000000,1\n", WGS84)


coordinates = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@given(st.lists(coordinates, min_size=1, max_size=5), st.sampled_from(",;\t|"))
def test_coordinates_come_back_exactly(places, separator):
    rows = [separator.join(("lat", "name", "lon"))]
    rows += [separator.join((repr(y), f'"a{separator}b"', repr(x))) for x, y in places]
    found = table("\n".join(rows))
    assert [(p.x, p.y) for p in found.shapes] == places
    assert found.columns["name"] == [f"a{separator}b"] * len(places)
    assert np.isfinite(shapely.total_bounds(found.shapes)).all()
