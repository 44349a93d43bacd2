"""Signing addresses of the Planetary Computer."""

import contextlib
import socket
import threading

import pytest

from cwsam_geo.errors import SceneError
from cwsam_geo.io import signing

sas = pytest.importorskip("planetary_computer.sas")
settings = pytest.importorskip("planetary_computer.settings")

URL = "https://somestorage.blob.core.windows.net/container/scene.tif"


@pytest.fixture
def silent_service(monkeypatch):
    """A signing service that takes connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    connections = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connections.append(server.accept()[0])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    monkeypatch.setenv("PC_SDK_SAS_URL", f"http://127.0.0.1:{server.getsockname()[1]}/token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    settings.Settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()
    yield connections
    for connection in connections:
        connection.close()
    server.close()
    settings.Settings.get.cache_clear()


def test_a_service_that_never_answers_is_given_up(silent_service, monkeypatch):
    monkeypatch.setattr(signing, "_TIMEOUT_S", (0.2, 0.2), raising=False)
    failures = []

    def ask():
        try:
            signing.signed(URL)
        except SceneError as error:
            failures.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    (failure,) = failures
    assert "scene.tif: the Planetary Computer does not sign it" in failure
    assert "its signing service does not answer" in failure
    assert len(silent_service) == 2  # it is asked once more


def test_a_service_that_is_not_there_is_one_line(silent_service, monkeypatch):
    monkeypatch.setenv("PC_SDK_SAS_URL", "http://127.0.0.1:1/token")
    settings.Settings.get.cache_clear()
    with pytest.raises(
        SceneError, match=r"scene\.tif: .* \(its signing service cannot be reached\)"
    ):
        signing.signed(URL)
