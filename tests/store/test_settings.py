"""Configuration is refused at the edge, with a sentence that says what to write instead."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from store.settings import Settings

GOOD = {
    "DATABASE_URL": "postgresql+psycopg://u:secret@db/modeconn",
    "REDIS_URL": "redis://redis:6379/0",
    "STORAGE_URL": "file:///srv/model%20files",
}


def read(monkeypatch: pytest.MonkeyPatch, **changes: str) -> Settings:
    for name, value in {**GOOD, **changes}.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_defaults_and_the_storage_folder(monkeypatch):
    settings = read(monkeypatch)
    assert settings.storage_root == Path("/srv/model files")
    assert (settings.lease_seconds, settings.max_attempts, settings.device) == (30, 3, "auto")


def test_an_empty_variable_is_one_that_was_not_set(monkeypatch):
    assert read(monkeypatch, MODECONN_THREADS="", MODECONN_DEVICE="").threads is None


def test_modeconn_variables_are_read(monkeypatch):
    settings = read(monkeypatch, MODECONN_MAX_QUEUE_DEPTH="7", MODECONN_DEVICE="cuda", MODECONN_THREADS="2")
    assert (settings.max_queue_depth, settings.device, settings.threads) == (7, "cuda", 2)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_plain_postgres_urls_use_psycopg(monkeypatch, scheme):
    url = read(monkeypatch, DATABASE_URL=f"{scheme}://u@db/modeconn").database_url
    assert url == "postgresql+psycopg://u@db/modeconn"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"STORAGE_URL": "s3://bucket/x"}, "s3:// is not supported yet"),
        ({"STORAGE_URL": "file://relative/x"}, "file:///absolute/path"),
        ({"STORAGE_URL": "/srv/x"}, "file:///absolute/path"),
        ({"DATABASE_URL": "sqlite:///x.db"}, r"postgresql\+psycopg://"),
        ({"REDIS_URL": "memory://"}, "redis://host:6379/0"),
        ({"MODECONN_LEASE_SECONDS": "20"}, "at least three times"),
        ({"MODECONN_DEVICE": "tpu"}, "'auto', 'cpu' or 'cuda'"),
        ({"MODECONN_MAX_ATTEMPTS": "0"}, "greater than 0"),
    ],
)
def test_wrong_values_are_refused(monkeypatch, changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        read(monkeypatch, **changes)


def test_passwords_are_not_shown(monkeypatch):
    assert "secret" not in repr(read(monkeypatch))
