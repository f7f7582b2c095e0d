"""docker-compose.yml and Dockerfile name only what exists, and start each part as `modeconn serve` does."""

import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery
from fastapi import FastAPI

from client.serving import commands
from store.queue import QUEUE
from store.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
OTHERS_VARIABLES = {"MPLCONFIGDIR"}  # of the libraries
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with continuation lines joined, comments left out."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_the_parts_of_the_service_are_all_there():
    assert set(SERVICES) == {"postgres", "redis", "migrate", "api", "worker"}
    assert set(OURS) == {"migrate", "api", "worker"}


def bare(command: list[str]) -> list[str]:
    """Without the interpreter: `python -m celery ...` and `celery ...` are the same program."""
    return command[command.index("-m") + 1 :] if "-m" in command[:2] else command


@pytest.mark.parametrize(
    ("name", "ours"),
    [("migrate", commands.migrate()), ("api", commands.api("0.0.0.0", 8000)), ("worker", commands.worker())],
)
def test_each_part_starts_as_in_modeconn_serve(name, ours):
    assert bare(SERVICES[name]["command"]) == bare(ours)


def test_the_image_starts_the_api_by_itself():
    (command,) = [rest for word, rest in instructions() if word == "CMD"]
    assert yaml.safe_load(command) == SERVICES["api"]["command"]


@pytest.mark.parametrize("name", OURS)
def test_every_command_and_module_exists(name):
    program, *arguments = OURS[name]["command"]
    assert (Path(sys.executable).parent / program).exists()
    if program == "python":
        assert arguments[0] == "-m"
        importlib.import_module(f"{arguments[1]}.__main__")


def test_the_api_and_the_worker_app_are_where_the_commands_say():
    module, _, attribute = SERVICES["api"]["command"][1].partition(":")
    assert isinstance(getattr(importlib.import_module(module), attribute), FastAPI)
    worker = SERVICES["worker"]["command"]
    assert isinstance(importlib.import_module(worker[worker.index("-A") + 1]).app, Celery)
    assert worker[worker.index("-Q") + 1] == QUEUE


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_the_service_reads(name):
    known = {
        str(field.validation_alias or f"MODECONN_{field_name}").upper()
        for field_name, field in Settings.model_fields.items()
    }
    assert set(OURS[name]["environment"]) <= known | OTHERS_VARIABLES


def test_the_settings_accept_what_is_given(monkeypatch):
    for name, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{POSTGRES_PASSWORD:[^}]*\}", "secret", value))
    settings = Settings()
    assert settings.database_url == "postgresql+psycopg://modeconn:secret@postgres:5432/modeconn"
    assert str(settings.storage_root) in [volume.partition(":")[2] for volume in SERVICES["worker"]["volumes"]]


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_volumes_and_conditions_exist(name):
    service = SERVICES[name]
    for other, how in service.get("depends_on", {}).items():
        condition = how["condition"]
        assert other in SERVICES
        assert ("healthcheck" in SERVICES[other]) == (condition == "service_healthy")
        assert (SERVICES[other].get("restart") == "no") == (condition == "service_completed_successfully")
    for volume in service.get("volumes", []):
        assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_the_hosts_in_the_addresses_are_services():
    environment = SERVICES["api"]["environment"]
    hosts = {re.search(r"@?([a-z]+):\d+/", environment[name])[1] for name in ("DATABASE_URL", "REDIS_URL")}  # type: ignore[index]
    assert hosts == {"postgres", "redis"}


def test_everything_that_stays_up_is_watched_and_only_the_worker_holds_a_gpu():
    stays = {name for name, service in SERVICES.items() if service["restart"] != "no"}
    assert {name for name in SERVICES if "healthcheck" in SERVICES[name]} == stays
    (device,) = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert [name for name in SERVICES if "deploy" in SERVICES[name]] == ["worker"]


def test_the_health_check_asks_a_route_that_exists():
    (code,) = [word for word in SERVICES["api"]["healthcheck"]["test"] if "urlopen" in word]
    compile(code, "healthcheck", "exec")
    path = re.search(r"http://127\.0\.0\.1:8000(/\w+)", code)
    assert path is not None
    app = importlib.import_module("api.app").app
    assert path[1] in app.openapi()["paths"]


def test_the_worker_gets_the_time_that_serve_gives_it():
    from client.serving.stack import WORKER_GRACE

    assert int(SERVICES["worker"]["stop_grace_period"].rstrip("s")) >= WORKER_GRACE


def test_no_password_is_written_down():
    assert "POSTGRES_PASSWORD:?" in SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert not re.search(r"modeconn:(?!\$\{)[^@\s]+@", (ROOT / "docker-compose.yml").read_text())


def test_the_image_is_built_from_what_exists_and_gets_past_dockerignore():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from=" not in rest]
    sources = {source for group in copied for source in group}
    assert all((ROOT / source).exists() for source in sources)
    assert sources == allowed
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"bench"}
    assert packages <= sources


def test_the_image_is_multi_stage_and_runs_without_root():
    stages = [rest.split(" AS ")[1] for word, rest in instructions() if word == "FROM"]
    assert len(stages) > 1
    assert {service["build"]["target"] for service in OURS.values()} == {stages[-1]}
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    assert int(user.partition(":")[0]) > 0
    for word, rest in instructions():
        if word == "COPY" and "--from=" in rest:
            assert shlex.split(rest)[0].partition("=")[2] in stages


def test_no_file_of_the_packaging_names_a_package_index():
    for name in ("Dockerfile", "docker-compose.yml", "Makefile", "constraints.txt", "pyproject.toml", ".ci/run"):
        text = (ROOT / name).read_text()
        assert not re.search(r"https?://(?!127\.0\.0\.1)|index-url|find-links|pythonhosted|pypi", text), name
