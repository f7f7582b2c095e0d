"""A download is whole and right, or it is not there."""

import hashlib

import pytest

from client import DownloadBroken, NotFound
from client.download import download
from client.transport import Transport

CONTENT = bytes(range(256)) * 8192  # 2 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def send_rest(handler, seen, *, only: int | None = None) -> None:
    """Answers as a file server with Range; `only` so many bytes, then the line breaks."""
    start = int(seen.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in seen.headers else 0
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(CONTENT) - start))
    handler.end_headers()
    handler.wfile.write(CONTENT[start : None if only is None else start + only])


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.answer = lambda handler, seen, n: send_rest(handler, seen, only=1_500_000 if n == 0 else None)
    target = download(Transport(server.url, "k"), "/w", tmp_path / "w.safetensors", sha256=SHA256)

    assert target.read_bytes() == CONTENT
    assert "Range" not in server.seen[0].headers
    assert 0 < int(server.seen[1].headers["Range"][6:-1]) <= 1_500_000
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_part_of_an_earlier_run_is_continued(server, tmp_path):
    server.answer = lambda handler, seen, n: send_rest(handler, seen)
    (tmp_path / "w.part").write_bytes(CONTENT[:1000])
    assert download(Transport(server.url, "k"), "/w", tmp_path / "w", sha256=SHA256).read_bytes() == CONTENT
    assert server.seen[0].headers["Range"] == "bytes=1000-"


def test_a_part_that_is_already_whole_is_not_loaded_again(server, send, tmp_path):
    server.answer = lambda handler, seen, n: send(handler, 416, b"")
    (tmp_path / "w.part").write_bytes(CONTENT)
    assert download(Transport(server.url, "k"), "/w", tmp_path / "w", sha256=SHA256).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server, send, tmp_path):
    server.answer = lambda handler, seen, n: send(handler, 200, CONTENT)
    (tmp_path / "w.part").write_bytes(b"of another version")
    assert download(Transport(server.url, "k"), "/w", tmp_path / "w", sha256=SHA256).read_bytes() == CONTENT


def test_other_bytes_than_announced_leave_nothing(server, send, tmp_path):
    server.answer = lambda handler, seen, n: send(handler, 200, CONTENT[:-1] + b"!")
    with pytest.raises(DownloadBroken, match=SHA256):
        download(Transport(server.url, "k"), "/w", tmp_path / "w", sha256=SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_does_not_become_the_file(server, send, tmp_path):
    server.answer = lambda handler, seen, n: send(handler, 404, b'{"title": "No such job"}')
    with pytest.raises(NotFound, match="No such job"):
        download(Transport(server.url, "k"), "/w", tmp_path / "w", sha256=SHA256)
    assert list(tmp_path.iterdir()) == []


def test_without_an_announced_hash_the_etag_must_agree(server, tmp_path):
    def answer(handler, seen, n):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.send_header("ETag", f'"{"0" * 64 if n == 0 else SHA256}"')
        handler.end_headers()
        handler.wfile.write(CONTENT)

    server.answer = answer
    with pytest.raises(DownloadBroken):
        download(Transport(server.url, "k"), "/w", tmp_path / "w")
    assert list(tmp_path.iterdir()) == []
    assert download(Transport(server.url, "k"), "/w", tmp_path / "w").read_bytes() == CONTENT
