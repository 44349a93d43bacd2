"""What a STAC API sends is a stranger's: bounds, links and nonsense."""

import json

import pytest
from stac_items import UTM33, rtc_item
from stac_server import serving

from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.fetch import catalogue as module
from cwsam_geo.fetch.catalogue import Catalogue, licence_of
from cwsam_geo.io import web
from cwsam_geo.io.web import Patience, read_json, retry_after

pytest.importorskip("pystac_client")

FAST = Patience(attempts=3, pause_s=0.01, timeout_s=5)
WORLD = [(-180, -90, 180, 90)]


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as server:
        for number in range(5):
            item = rtc_item(tmp_path, f"{server.url}/files", str(number), {"VV": [[1.0]]}, UTM33)
            server.add(item)
        yield server


def search(server, **more):
    return Catalogue(server.api, FAST).search("sentinel-1-rtc", WORLD, None, **more)


def test_an_item_that_two_searches_find_counts_once(server):
    found = Catalogue(server.api, FAST).search("sentinel-1-rtc", WORLD * 2, None)
    assert len(found) == 5


def test_an_answer_may_have_a_largest_size(server, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_ANSWER", 2000)
    monkeypatch.setattr(web, "LARGEST_ANSWER", 2000)
    with pytest.raises(SceneError, match="the server's answer has more than"):
        search(server)
    address = f"{server.api}/collections/sentinel-1-rtc/items/{server.items[0]['id']}"
    server.items[0]["description"] = "x" * 3000
    with pytest.raises(SceneError, match="has more than 0 MB of JSON"):
        read_json(address, FAST)


def test_there_may_be_a_largest_number_of_items(server, monkeypatch):
    monkeypatch.setattr(module, "MOST_ITEMS", 3)
    with pytest.raises(UsageError, match="more than 3 items of sentinel-1-rtc there; give"):
        search(server)


def test_a_link_to_a_local_file_is_not_followed(server, tmp_path, monkeypatch):
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"type": "FeatureCollection", "features": [{}], "links": []}))
    import stac_server

    def hostile(state, query):
        links = [{"rel": "next", "href": str(secret), "method": "GET"}]
        return {"type": "FeatureCollection", "features": state.items, "links": links}

    monkeypatch.setattr(stac_server, "_search", hostile)
    with pytest.raises(SceneError, match="links to"):
        search(server)


@pytest.mark.parametrize("features", [[3], [{"type": "Feature"}], "nonsense", [{"assets": []}]])
def test_items_that_are_none_are_one_clear_line(server, monkeypatch, features):
    import stac_server

    def nonsense(state, query):
        return {"type": "FeatureCollection", "features": features, "links": []}

    monkeypatch.setattr(stac_server, "_search", nonsense)
    with pytest.raises(SceneError) as raised:
        search(server)
    assert "\n" not in str(raised.value)


def test_a_server_that_is_not_there_is_one_clear_line():
    with pytest.raises(SceneError, match="is no STAC API, or cannot be reached") as raised:
        Catalogue("http://127.0.0.1:9/stac", Patience(2, 0.01, 1))
    assert len(str(raised.value)) < 400


def test_how_long_a_server_wants_to_be_left_alone():
    assert retry_after("7") == 7
    assert retry_after("Fri, 01 Jan 2021 00:00:00 GMT") == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None
    patience = Patience(pause_s=1)
    assert patience.pause(3, None) == 4
    assert patience.pause(1, 30) == 30
    assert patience.pause(1, 1e9) == web.LONGEST_WAIT_S


def test_the_licence_of_a_collection():
    link = {"rel": "license", "title": "Copernicus Sentinel data terms", "href": "https://a"}
    assert licence_of({"license": "CC-BY-4.0", "links": [link]}) == "CC-BY-4.0"
    assert licence_of({"license": "proprietary", "links": [link]}) == link["title"]
    assert licence_of({}) is None
