"""The command says what happened in words or JSON, and its exit code says it to scripts."""

import hashlib
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
    assert done.exit_code == Exit.UNREACHABLE
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


ANALYSIS = {"id": "a1", "state": "succeeded", "labels": {}, "created_at": "2026-11-22T10:00:00Z"}
PATH_FIGURES = {
    "path": "standard",
    "clean_barrier": {"height": 0.01, "interval": [0.0, 0.04], "t": 0.5},
    "robust_barrier": {"height": 1.93, "interval": [1.5, 2.4], "t": 0.4},
    "correlation": {
        "pearson": 0.91,
        "pearson_interval": [0.8, 0.96],
        "spearman": 0.95,
        "spearman_interval": [0.85, 0.98],
    },
}
ANALYSED = {
    "paths": [PATH_FIGURES, PATH_FIGURES | {"path": "robust", "correlation": None}],
    "alignment": "[4] of 8 channels were moved.",
    "fit_images": 1500,
    "report_images": 500,
    "warnings": ["The second model is hardly more robust."],
}


def no_repair(handler, send) -> None:
    send(handler, 404, json.dumps({"type": "/problems/job-not-found", "title": "No such job"}).encode())


def test_an_analysis_is_shown_with_its_barriers_by_the_same_command(server, send):
    def answer(handler, seen, n):
        if seen.path.startswith("/repair"):
            return no_repair(handler, send)
        return send(handler, 200, json.dumps(ANALYSIS | {"result": ANALYSED}).encode())

    server.answer = answer
    done = run("show", "a1", url=server.url)
    assert done.exit_code == 0, done.stderr
    for words in ("1.93 (1.50 to 2.40)", "Pearson 0.91, Spearman 0.95", "[4] of 8", "500 images", "hardly more robust"):
        assert words in done.stdout
    assert json.loads(run("show", "a1", "--json", url=server.url).stdout)["result"]["report_images"] == 500


def test_a_job_that_is_neither_is_not_found(server, send):
    server.answer = lambda handler, seen, n: no_repair(handler, send)
    assert run("show", "x", url=server.url).exit_code == Exit.REFUSED


def test_analyses_are_listed_when_asked_for(server, send):
    page = {"items": [ANALYSIS | {"result": ANALYSED}], "next": None}
    server.answer = lambda handler, seen, n: send(handler, 200, json.dumps(page).encode())
    done = run("jobs", "--analyses", url=server.url)
    assert server.seen[0].path.startswith("/analysis?")
    assert "a1" in done.stdout
    assert "1.93" in done.stdout


def test_analyse_uploads_states_everything_follows_and_downloads(server, send, tmp_path):
    for name in ("regular.safetensors", "robust.safetensors", "clean.zip"):
        (tmp_path / name).write_bytes(b"x")
    file = {"name": "n", "bytes": 1, "sha256": "0" * 64}
    artifact = {"name": "report.html", "bytes": 2, "sha256": hashlib.sha256(b"ok").hexdigest()}
    asked = {}

    def answer(handler, seen, n):
        if seen.path.startswith("/files"):
            kind = seen.path.split("kind=")[1].split("&")[0]
            return send(handler, 201, json.dumps(file | {"id": f"f{n}", "kind": kind}).encode())
        if seen.method == "POST":
            asked.update(json.loads(seen.body))
            return send(handler, 202, json.dumps(ANALYSIS | {"state": "queued"}).encode())
        if seen.path.endswith("/events"):
            return send(handler, 200, b"id: 1\nevent: succeeded\ndata: {}\n\n", Content_Type="text/event-stream")
        if "/artifacts/" in seen.path:
            return send(handler, 200, b"ok")
        return send(handler, 200, json.dumps(ANALYSIS | {"result": ANALYSED | {"artifacts": [artifact]}}).encode())

    server.answer = answer
    done = run(
        "analyse",
        str(tmp_path / "regular.safetensors"),
        str(tmp_path / "robust.safetensors"),
        f"--clean={tmp_path / 'clean.zip'}",
        "--epsilon=4/255",
        "--norm=l2",
        "--points=11",
        "--no-eigenvalues",
        "--no-random-start",
        f"--out={tmp_path / 'made'}",
        url=server.url,
    )
    assert done.exit_code == 0, done.stderr
    assert (asked["regular"], asked["robust"], asked["clean"]) == ("f0", "f1", "f2")
    assert asked["pgd"] == {"epsilon": 4 / 255, "steps": 10, "step_size": 2 / 255, "random_start": False, "norm": "l2"}
    assert asked["method"]["points"] == 11
    assert asked["eigenvalues"] is None
    assert (tmp_path / "made" / "report.html").read_bytes() == b"ok"
    assert "1.93" in done.stdout


DIAGNOSED = {
    "images": 500,
    "accuracy": 0.11,
    "accuracy_interval": [0.085, 0.14],
    "confidence": 0.99,
    "chance": 0.1,
    "least_expected": 0.3,
    "suspicious": True,
    "outputs_are_probabilities": False,
    "suggestions": [
        {"kind": "normalisation", "description": f"Set mean to [{mean}].", "accuracy": 0.9, "value": {}}
        for mean in (0.1, 0.2)
    ],
    "warnings": ["The suspect gets 11.0 % right. Set mean to [0.1]."],
}


WELL = {"suspicious": False, "suggestions": []}


@pytest.mark.parametrize(
    ("changes", "code"),
    [({}, Exit.CRITERIA_NOT_MET), ({"suspicious": False}, Exit.CRITERIA_NOT_MET), (WELL, Exit.OK)],
    ids=["badly", "better otherwise", "well"],
)
def test_diagnose_says_how_the_model_does_and_what_would_suit_it(server, send, tmp_path, changes, code):
    (tmp_path / "m.safetensors").write_bytes(b"x")
    job = {"id": "d1", "state": "succeeded", "labels": {}, "result": DIAGNOSED | changes}
    asked = {}

    def answer(handler, seen, n):
        if seen.path.startswith("/files"):
            return send(handler, 201, json.dumps(FILE | {"id": f"f{n}"}).encode())
        if seen.method == "POST":
            asked.update(json.loads(seen.body))
        if seen.path.endswith("/events"):
            return send(handler, 200, b"id: 1\nevent: succeeded\ndata: {}\n\n", Content_Type="text/event-stream")
        return send(handler, 200, json.dumps(job).encode())

    server.answer = answer
    model = str(tmp_path / "m.safetensors")
    done = run("diagnose", model, f"--clean={model}", "--mean=0.5", "--std=0.2", url=server.url)
    assert done.exit_code == code, done.stderr
    assert (asked["suspect"], asked["clean"], asked["preprocessing"]["mean"]) == ("f0", "f1", [0.5])
    assert "method" not in asked
    for words in ("11.0 % (8.5 to 14.0) on 500 clean images", "99.0 % sure", "mean to [0.1]"):
        assert words in done.stdout
    assert ("or: Set mean to [0.2]" in done.stdout) == (changes != WELL)


def test_diagnoses_are_listed_and_shown(server, send):
    job = {"id": "d1", "state": "succeeded", "labels": {}, "result": DIAGNOSED}

    def answer(handler, seen, n):
        if seen.path.startswith("/diagnosis?"):
            return send(handler, 200, json.dumps({"items": [job], "next": None}).encode())
        found = seen.path == "/diagnosis/d1"
        return send(handler, 200, json.dumps(job).encode()) if found else no_repair(handler, send)

    server.answer = answer
    for arguments in (("jobs", "--diagnoses"), ("show", "d1")):
        done = run(*arguments, url=server.url)
        assert done.exit_code == 0, done.stderr
        assert "11.0 % (8.5 to 14.0)" in done.stdout
    assert run("jobs", "--diagnoses", "--analyses", url=server.url).exit_code == Exit.ERROR


def test_a_radius_that_is_no_number_is_said_before_anything_is_uploaded(server, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"x")
    model = str(tmp_path / "m.safetensors")
    done = run("analyse", model, model, f"--clean={model}", "--epsilon=large", url=server.url)
    assert done.exit_code == Exit.ERROR
    assert "'large' is not a number or a fraction" in done.stderr
    assert server.seen == []


def test_points_of_an_analysis_are_followed():
    text = io.StringIO()
    data = {"path": "robust", "t": 0.5, "clean_error": 0.12, "robust_error": 0.61}
    with Follower(Console(file=text, width=160, force_terminal=True, color_system=None)) as follower:
        follower.on_event(Event(id="1", type="point", data=data))
    assert "path robust" in text.getvalue()
    assert "under attack 61.0 %" in text.getvalue()


FILE = {"id": "f1", "kind": "clean", "name": "[a].zip", "bytes": 3_000_000, "sha256": "0" * 64}
TIMES = {"created_at": "2026-11-22T10:00:00Z", "expires_at": "2026-12-22T12:00:00Z"}


def test_an_upload_says_until_when_it_is_kept(server, send, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"x")
    server.answer = lambda handler, seen, n: send(handler, 201, json.dumps(FILE | TIMES).encode())
    done = run("upload", str(tmp_path / "a.zip"), "--kind=clean", url=server.url)
    assert done.exit_code == 0, done.stderr
    assert server.seen[0].path.startswith("/files?kind=clean")
    assert "f1  kept until 2026-12-22" in done.stdout


def test_files_are_listed_with_the_end_of_their_time(server, send):
    page = {"items": [FILE | TIMES], "next": None}
    server.answer = lambda handler, seen, n: send(handler, 200, json.dumps(page).encode())
    done = run("files", "--kind", "clean", url=server.url)
    assert done.exit_code == 0, done.stderr
    assert server.seen[0].path == "/files?kind=clean&limit=20"
    for words in ("f1", "[a].zip", "3.0 MB", "2026-12-22"):
        assert words in done.stdout
