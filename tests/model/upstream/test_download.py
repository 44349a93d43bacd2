"""Downloads from a local server that behaves, and from ones that do not."""

import contextlib
import dataclasses
import hashlib
import http.server
import json
import os
import threading

import pytest
from doubles import legend
from models import random_bundle

from cwsam_geo.cli.main import main
from cwsam_geo.errors import ModelError, OutputError, UsageError
from cwsam_geo.model import store
from cwsam_geo.model.upstream import download as download_module
from cwsam_geo.model.upstream import published as checkpoints
from cwsam_geo.model.upstream.download import Patience, download
from cwsam_geo.model.upstream.published import CHECKPOINTS, Checkpoint, find_checkpoint

CONTENT = os.urandom(3_000_001)
SWIFT = Patience(attempts=3, pause_s=0.0, timeout_s=60)


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT, with the faults a test asks for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True
        self.cut_after = []
        self.statuses = []
        self.redirect = None
        self.wrong_range = False
        self.says_length = True
        self.requests = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start = int(asked[6:-1]) if asked and server.ranges else 0
        total = len(server.content)
        if asked and server.ranges:
            if start >= total:
                self.send_error(416)
                return
            self.send_response(206)
            shown = start + 1 if server.wrong_range else start
            self.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
        else:
            self.send_response(200)
        body = server.content[start:]
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cut_after:
            body = body[: server.cut_after.pop(0)]
        with contextlib.suppress(ConnectionError):  # the client may have heard enough
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def wanted(server):
    return Checkpoint(
        "test",
        "vit_b",
        f"http://127.0.0.1:{server.server_port}/folder/test.pth",
        len(CONTENT),
        hashlib.sha256(CONTENT).hexdigest(),
    )


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_whole_file_arrives_and_is_not_fetched_again(server, wanted, tmp_path):
    told = []
    folder = tmp_path / "new" / "weights"
    path = download(wanted, folder, on_progress=lambda *now: told.append(now), patience=SWIFT)
    assert path == folder / "test.pth"
    assert path.read_bytes() == CONTENT
    assert names(folder) == ["test.pth"]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    download(wanted, folder)
    assert server.requests == [None]


def test_a_cut_connection_is_taken_up_where_it_broke(server, wanted, tmp_path):
    server.cut_after = [1_000_000, 0, 700_000]
    path = download(wanted, tmp_path, patience=SWIFT)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, *["bytes=1000000-"] * 2, "bytes=1700000-"]


def test_a_later_run_resumes(server, wanted, tmp_path):
    server.cut_after = [1_500_000] + [0] * 9
    with pytest.raises(ModelError, match=r"lost after 1500000 of 3000001 bytes .*run .* again"):
        download(wanted, tmp_path, patience=SWIFT)
    assert names(tmp_path) == ["test.pth.part"]
    server.cut_after = []
    server.requests.clear()
    assert download(wanted, tmp_path, patience=SWIFT).read_bytes() == CONTENT
    assert server.requests == ["bytes=1500000-"]
    assert names(tmp_path) == ["test.pth"]


def test_a_server_without_ranges_begins_anew(server, wanted, tmp_path):
    server.ranges = False
    (tmp_path / "test.pth.part").write_bytes(CONTENT[:1000])
    assert download(wanted, tmp_path, patience=SWIFT).read_bytes() == CONTENT


def test_a_server_that_does_not_say_the_length(server, wanted, tmp_path):
    server.says_length = False
    assert download(wanted, tmp_path, patience=SWIFT).read_bytes() == CONTENT
    # Of more than is wanted only as much as is wanted is taken.
    server.content = CONTENT + b"more"
    assert download(wanted, tmp_path / "b", patience=SWIFT).read_bytes() == CONTENT


def test_wrong_bytes_are_thrown_away(server, wanted, tmp_path):
    server.content = bytes(len(CONTENT))
    with pytest.raises(ModelError, match=r"sha256 .* deleted"):
        download(wanted, tmp_path, patience=SWIFT)
    assert names(tmp_path) == []


def test_a_wrong_beginning_is_found_by_the_hash(server, wanted, tmp_path):
    (tmp_path / "test.pth.part").write_bytes(b"x" * 1000)
    with pytest.raises(ModelError, match="sha256"):
        download(wanted, tmp_path, patience=SWIFT)
    assert download(wanted, tmp_path, patience=SWIFT).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [len(CONTENT) - 1, len(CONTENT) + 1, 10])
def test_a_file_of_another_size_is_refused_before_it_is_fetched(server, wanted, tmp_path, length):
    server.content = (CONTENT + b"more")[:length]
    with pytest.raises(ModelError, match=f"has a file of {length} bytes, not of 3000001"):
        download(wanted, tmp_path, patience=SWIFT)
    assert names(tmp_path) == []
    (tmp_path / "test.pth.part").write_bytes(CONTENT[:5])
    with pytest.raises(ModelError, match=f"has a file of {length} bytes"):
        download(wanted, tmp_path, patience=SWIFT)


def test_a_part_that_is_too_long_is_begun_anew(server, wanted, tmp_path):
    (tmp_path / "test.pth.part").write_bytes(CONTENT + b"more")
    assert download(wanted, tmp_path, patience=SWIFT).read_bytes() == CONTENT
    assert server.requests == [None]


def test_a_part_that_is_whole_is_only_checked(server, wanted, tmp_path):
    (tmp_path / "test.pth.part").write_bytes(CONTENT)
    assert download(wanted, tmp_path, patience=SWIFT).read_bytes() == CONTENT
    assert server.requests == []


def test_range_that_the_server_refuses(server, wanted, tmp_path):
    (tmp_path / "test.pth.part").write_bytes(CONTENT[:1000])
    server.statuses = [416]
    assert download(wanted, tmp_path, patience=SWIFT).read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


def test_another_range_than_asked_for(server, wanted, tmp_path):
    (tmp_path / "test.pth.part").write_bytes(CONTENT[:1000])
    server.wrong_range = True
    with pytest.raises(ModelError, match="another byte range"):
        download(wanted, tmp_path, patience=SWIFT)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_not_there_is_said_at_once(server, wanted, tmp_path, status):
    server.statuses = [status] * 5
    with pytest.raises(ModelError, match=f"test.pth: the server answered HTTP {status}"):
        download(wanted, tmp_path, patience=SWIFT)
    assert len(server.requests) == 1
    assert names(tmp_path) == []


def test_a_busy_server_is_asked_again(server, wanted, tmp_path):
    server.statuses = [503, 429]
    assert download(wanted, tmp_path, patience=SWIFT).read_bytes() == CONTENT
    server.statuses = [500] * 9
    with pytest.raises(ModelError, match="HTTP 500"):
        download(wanted, tmp_path / "b", patience=SWIFT)
    assert len(server.requests) == 6


def test_no_server_at_all(wanted, tmp_path):
    gone = dataclasses.replace(wanted, url="http://127.0.0.1:9/test.pth")
    with pytest.raises(ModelError, match="connection lost after 0 of"):
        download(gone, tmp_path, patience=SWIFT)


def test_only_https_is_spoken_with_strangers(server, wanted, tmp_path):
    for url in ("http://example.org/test.pth", "file:///etc/passwd", "ftp://example.org/a"):
        with pytest.raises(ModelError, match="only https"):
            download(dataclasses.replace(wanted, url=url), tmp_path, patience=SWIFT)
    for target in ("http://example.org/test.pth", "file:///etc/passwd"):
        server.redirect = target
        with pytest.raises(ModelError, match=r"only https|HTTP 302"):
            download(wanted, tmp_path, patience=SWIFT)
    assert names(tmp_path) == []


def test_another_file_of_that_name_is_not_replaced_unasked(server, wanted, tmp_path):
    (tmp_path / "test.pth").write_bytes(b"mine")
    with pytest.raises(UsageError, match="--overwrite"):
        download(wanted, tmp_path, patience=SWIFT)
    assert (tmp_path / "test.pth").read_bytes() == b"mine"
    assert download(wanted, tmp_path, overwrite=True, patience=SWIFT).read_bytes() == CONTENT


def test_a_link_keeps_leading_to_the_checkpoint(server, wanted, tmp_path):
    (tmp_path / "disk").mkdir()
    link, real = tmp_path / "test.pth", tmp_path / "disk" / "real.pth"
    link.symlink_to(real)
    assert download(wanted, tmp_path, patience=SWIFT) == link
    assert link.is_symlink()
    assert real.read_bytes() == CONTENT
    assert os.listdir(real.parent) == ["real.pth"]


def test_a_folder_that_cannot_be_and_a_disk_that_is_full(wanted, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        download(wanted, tmp_path / "file" / "weights", patience=SWIFT)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OutputError, match="only 0 MB are free"):
        download(wanted, tmp_path, patience=SWIFT)


# SAM's checkpoints and the command


def test_sams_checkpoints_are_the_published_ones():
    host = "https://dl.fbaipublicfiles.com/segment_anything/"
    assert {c.url: (c.size, c.sha256) for c in CHECKPOINTS.values()} == {
        f"{host}sam_vit_b_01ec64.pth": (
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        f"{host}sam_vit_l_0b3195.pth": (
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        f"{host}sam_vit_h_4b8939.pth": (
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
    }
    for checkpoint in CHECKPOINTS.values():
        assert find_checkpoint(checkpoint.backbone) is checkpoint
        assert find_checkpoint(checkpoint.file_name) is checkpoint
    with pytest.raises(UsageError, match="there are sam_vit_b, sam_vit_l, sam_vit_h"):
        find_checkpoint("sam2")


@pytest.fixture
def command_line(capsys, wanted, tmp_path, monkeypatch):
    """The command, with one checkpoint on the local server and no other weights."""
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", {"test": wanted})
    monkeypatch.setattr(store, "packaged_weights", lambda: tmp_path / "packaged")
    monkeypatch.setattr(store, "checkout_weights", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["models", *map(str, arguments)])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


def test_command_downloads_into_the_users_cache(command_line, tmp_path):
    code, out, err = command_line("download", "test")
    path = tmp_path / "cache" / "cwsam-geo" / "test.pth"
    assert code == 0
    assert out == f"{path}: complete, size and sha256 as published\n"
    assert "100%" in err
    assert path.read_bytes() == CONTENT
    assert command_line("download", "test", "--quiet") == (0, "", "")
    code, out, _ = command_line("download", "test", "--to", tmp_path / "here", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0] == {"event": "progress", "bytes": 0, "total": len(CONTENT)}
    assert events[-1] == {"event": "done", "path": str(tmp_path / "here" / "test.pth")}


def test_command_prefers_the_weights_of_a_checkout(command_line, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "checkout_weights", lambda: tmp_path / "weights")
    assert command_line("download", "test", "--quiet")[0] == 0
    assert names(tmp_path / "weights") == ["test.pth"]


def test_command_lists_what_is_here_and_what_can_be_had(command_line, tmp_path):
    _, out, _ = command_line("list")
    assert "cwsam-geo models download test" in out
    command_line("download", "test", "--quiet")
    cache = tmp_path / "cache" / "cwsam-geo"
    random_bundle(legend(3)).save(cache / "mine.safetensors")
    (cache / "broken.safetensors").write_bytes(b"?")
    _, out, _ = command_line("list")
    assert str(cache / "test.pth") in out
    assert "class 0, class 1, class 2" in out
    _, out, _ = command_line("list", "--json")
    entries = {e["name"]: e for e in map(json.loads, out.splitlines())}
    assert set(entries) == {"broken", "mine", "test"}
    assert entries["mine"]["kind"] == "full"
    assert entries["broken"]["what"].startswith("unreadable")
    assert entries["test"]["path"] == str(cache / "test.pth")


def test_command_refuses_in_one_line(command_line, server):
    code, _, err = command_line("download", "nothing")
    assert (code, err) == (2, "Error: no checkpoint 'nothing'; there are test\n")
    server.statuses = [404]
    code, _, err = command_line("download", "test", "--json")
    assert code == 1
    assert err.startswith("Error: http://127.0.0.1")
    assert len(err.splitlines()) == 1
