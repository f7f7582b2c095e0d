"""The command says what happened in words or JSON, and its exit code says it to scripts."""

import io
import json
import socket

import pytest
from rich.console import Console
from typer.testing import CliRunner

from client import Event, Job, Refused, Unreachable
from client.cli import app
from client.command.follow import Follower
from client.command.shared import Exit, _exit_code
from client.command.tables import print_job
from client.errors import JobCancelled, JobFailed, ServerError

PROBLEM = {"title": "No", "detail": "Because."}
JOB = {"id": "j1", "state": "succeeded", "labels": {"a": "[b]"}, "created_at": "2026-11-22T10:00:00Z"}
RESULT = {
    "t": 0.25,
    "reason": "past the knee [of the curve]",
    "criteria_met": True,
    "before": {"clean_accuracy": 0.834, "attack_success_rate": 1.0, "attack_success_rate_interval": [0.99, 1.0]},
    "after": {"clean_accuracy": 0.811, "attack_success_rate": 0.03, "proxy_success_rate": 0.02},
    "warnings": [{"type": "x", "detail": "Look at class 3."}],
}


def run(*arguments: str, url: str | None = None):
    """The command in this process, with only MODECONN_URL and a key in its environment."""
    environment = {"MODECONN_URL": url, "MODECONN_KEY": "k", "MODECONN_DATA": "/nowhere", "COLUMNS": "200"}
    return CliRunner().invoke(app, arguments, env=environment)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JobFailed(PROBLEM, 200), 4),
        (JobCancelled("cancelled"), 5),
        (Refused(PROBLEM, 422), 6),
        (Unreachable("nobody"), 7),
        (ServerError(PROBLEM, 500), 1),
        (OSError("disk full"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error, code):
    assert _exit_code(error) == code


def test_without_a_service_it_says_how_to_start_one():
    done = run("jobs")
    assert done.exit_code == Exit.ERROR
    assert "modeconn serve --data" in done.stderr
    assert "MODECONN_URL" in done.stderr


def test_a_service_that_does_not_answer_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = run("show", "j1", url=url)
    assert done.exit_code == Exit.UNREACHABLE
    assert url in done.stderr


def test_a_refusal_shows_what_is_wrong_and_what_would_be_right(server, send):
    body = {"type": "/problems/unknown-architecture", **PROBLEM, "nearest": ["resnet18", "[x]"]}
    server.answer = lambda handler, seen, n: send(handler, 422, json.dumps(body).encode())
    done = run("show", "j1", url=server.url)
    assert done.exit_code == Exit.REFUSED
    assert "No: Because." in done.stderr
    assert 'nearest: ["resnet18", "[x]"]' in done.stderr
    assert json.loads(run("show", "j1", "--json", url=server.url).stdout)["nearest"] == ["resnet18", "[x]"]


def test_jobs_come_from_all_pages_up_to_the_limit(server, send):
    def page(handler, seen, n):
        rows = [{**JOB, "id": f"job-{n}-{row}"} for row in range(2)]
        send(handler, 200, json.dumps({"items": rows, "next": f"page{n + 1}" if n < 2 else None}).encode())

    server.answer = page
    done = run("jobs", "--label", "model=signs", "--limit", "4", url=server.url)
    assert done.exit_code == 0, done.stderr
    assert [word for word in done.stdout.split() if word.startswith("job-")] == [
        "job-0-0",
        "job-0-1",
        "job-1-0",
        "job-1-1",
    ]
    assert "a=[b]" in done.stdout
    assert server.seen[0].path == "/repair?label=model%3Asigns&limit=4"
    assert server.seen[1].path == "/repair?label=model%3Asigns&limit=2&cursor=page1"
    assert server.seen[0].headers["Authorization"] == "Bearer k"


def test_a_job_is_shown_with_its_figures_in_per_cent():
    text = io.StringIO()
    print_job(Console(file=text, width=120), Job.model_validate(JOB | {"result": RESULT}))
    for words in (
        "83.4 %",
        "81.1 %",
        "100.0 % (99.0 to 100.0)",
        "3.0 %",
        "t = 0.25",
        "[of the curve]",
        "Look at class 3.",
    ):
        assert words in text.getvalue()
    assert "The criteria are met." in text.getvalue()
    print_job(Console(file=text, width=120), Job.model_validate(JOB | {"result": RESULT | {"criteria_met": False}}))
    assert "NOT met" in text.getvalue()


EVENTS = [
    Event(id="1", type="state", data={"state": "running"}),
    Event(id="2", type="stage", data={"stage": "scanning", "fraction": 0.02, "seconds_left": None, "numbers": {}}),
    Event(id="3", type="stage", data={"stage": "fitting_path", "fraction": 0.4, "seconds_left": 30.0, "numbers": {}}),
    Event(
        id="4",
        type="progress",
        data={"stage": "fitting_path", "fraction": 0.5, "seconds_left": 25.2, "numbers": {"step": 120, "loss": 0.8123}},
    ),
    Event(id="5", type="warning", data={"detail": "the [first] worker died"}),
]


def follow(**how) -> str:
    text = io.StringIO()
    with Follower(Console(file=text, width=160, **how)) as follower:
        for event in EVENTS:
            follower.on_event(event)
    return text.getvalue()


def test_a_terminal_shows_stage_share_time_left_and_numbers():
    shown = [line for line in follow(force_terminal=True, color_system=None).splitlines() if "%" in line][-1]
    for words in ("fitting the path", "50%", "25 s left", "step 120", "loss 0.812"):
        assert words in shown


def test_a_log_gets_one_line_per_stage_and_every_warning():
    lines = [line.split(maxsplit=2) for line in follow().splitlines()]
    assert lines == [
        ["2.0", "%", "looking for triggers"],
        ["40.0", "%", "fitting the path"],
        ["warning:", "the", "[first] worker died"],
    ]
