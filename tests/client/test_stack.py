"""`modeconn serve` that cannot start says why, and leaves nothing behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from client.local import NoService, Place, find_service
from client.serving import embedded
from client.serving.embedded import CannotServe
from client.serving.stack import only_one


def test_a_database_that_does_not_answer_is_reported_with_the_end_of_the_log(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        here = {
            "DATABASE_URL": f"postgresql+psycopg://u@127.0.0.1:{port}/d",
            "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        }
        command = [sys.executable, "-m", "client.cli", "serve", "--data", str(tmp_path / "data"), "--port", "0"]
        done = subprocess.run(command, env={**os.environ, **here}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "'migrate' failed" in done.stderr
    assert str(tmp_path / "data/logs/migrate.log") in done.stderr
    assert str(port) in done.stderr
    assert not (tmp_path / "data/server.json").exists()
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])
    ]


def test_a_folder_of_another_postgres_is_not_touched(tmp_path):
    (tmp_path / "PG_VERSION").write_text("12\n")
    with pytest.raises(CannotServe, match="Postgres 12"):
        embedded.postgres(tmp_path, tmp_path / "log", {})
    assert [path.name for path in tmp_path.iterdir()] == ["PG_VERSION"]


def test_a_taken_port_is_noticed():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert embedded.port_taken("127.0.0.1", port)
    assert not embedded.port_taken("127.0.0.1", port)


def test_the_password_of_redis_is_not_on_its_command_line(tmp_path):
    launch, url = embedded.redis(tmp_path, tmp_path / "log", os.environ)
    password = url.split("@")[0].rsplit(":", 1)[1]
    assert len(password) >= 32
    assert password not in " ".join(launch.arguments)
    part = launch.start()
    try:
        assert password not in " ".join(part.process.cmdline())
        while not embedded.redis_ready(url):
            assert part.process.is_running()
        assert not embedded.redis_ready(url.replace(password, "guess"))
    finally:
        part.stop()


def test_a_data_folder_is_held_by_one(tmp_path):
    with only_one(tmp_path), pytest.raises(CannotServe, match="already runs"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_the_local_service_and_its_key_are_found(tmp_path: Path):
    with pytest.raises(NoService, match="modeconn serve --data"):
        find_service(None, None, tmp_path)
    (tmp_path / "server.json").write_text('{"url": "http://127.0.0.1:1", "pid": 1}\n')
    (tmp_path / "local.key").write_text("mcr_local\n")
    assert find_service(None, None, tmp_path) == Place("http://127.0.0.1:1", "mcr_local")
    assert find_service(None, "mine", tmp_path) == Place("http://127.0.0.1:1", "mine")
    assert find_service("http://there", None, tmp_path) == Place("http://there", None)
