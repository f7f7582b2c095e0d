"""Whatever workers, users, the sweep and the clock do to jobs, in whatever order: the promises hold after every step.

Hypothesis makes up the orders. Beside the real store runs a small model (job_model.py) that says what should come of
each step; a job that no step was about must not change at all.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Row, text

from store import jobs
from store.database import SessionFactory, transaction
from store.errors import NotRetryable, StaleFence
from tests.scale import STATE_MACHINE_STEPS
from tests.store.job_model import ENDED, HELD, MAX_ATTEMPTS, JobModel

STEPS_OF_A_RUN, RUNS_OF_A_SEED = 50, 10
MOST_JOBS = 8
WHICH = (0, 0, 0, 1, 1, 2, 3, MOST_JOBS - 1)  # of the jobs, those first on which the step can have an effect
OFTEN = ("claim", "renew", "record_points", "the lease runs out", "lose_attempt", "claim", "release")
STEPS = (
    "create", "create", *OFTEN, *OFTEN, *OFTEN, "sweep", "retry", "cancel", "record_progress", "record_warning",
    "finish", "fail", "mark_cancelled", "the deadline passes", "end while others sweep",
)  # fmt: skip
PROBLEM = {"type": "/problems/x", "title": "x", "detail": "x"}
PROGRESS = {"stage": "sweeping", "fraction": 0.5, "stage_fraction": 0.1, "seconds_left": 9.0, "numbers": {}}
EVERYTHING = """
SELECT jobs.id, to_jsonb(jobs) AS job,
  (SELECT coalesce(jsonb_agg(to_jsonb(e) ORDER BY e.id), '[]') FROM job_events e WHERE e.job_id = jobs.id) AS events,
  (SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.t), '[]') FROM curve_points p WHERE p.job_id = jobs.id) AS points,
  (SELECT coalesce(jsonb_agg(to_jsonb(a)), '[]') FROM artifacts a WHERE a.job_id = jobs.id) AS artifacts
FROM jobs
"""


def point(t: float, accuracy: float) -> dict[str, Any]:
    names = ("clean_accuracy", "clean_accuracy_low", "clean_accuracy_high")
    return {"t": t, **dict.fromkeys(names, accuracy), "clean_loss": 1.0, "set": "coarse"}


def new_artifact(job_id: UUID, attempt: int) -> jobs.NewArtifact:
    path = f"jobs/{job_id}/{attempt}/report.html"
    return jobs.NewArtifact(name="report.html", path=path, bytes=1, sha256="s", media_type="text/html")


class Jobs(RuleBasedStateMachine):
    """A few jobs, all the workers that ever held one, and what should be stored of them."""

    def __init__(self, factory: SessionFactory, tenant_id: UUID, make_job: Callable[..., jobs.Job]) -> None:
        super().__init__()
        self.factory, self.tenant_id, self.make_job = factory, tenant_id, make_job
        self.models: dict[UUID, JobModel] = {}
        self.stored: dict[UUID, Row[Any]] = {}
        self.touched: set[UUID] = set()  # what the running step was about
        with transaction(factory) as session:
            session.execute(text("DELETE FROM jobs"))

    @initialize()
    def begin(self) -> None:
        self.create()

    @rule(data=st.data(), what=st.sampled_from(STEPS), number=st.sampled_from(WHICH))
    def step(self, data: st.DataObject, what: str, number: int) -> None:
        """One rule for all steps: Hypothesis would leave some rules out of most runs, and a job needs them all."""
        first = (lambda model: model.claimable) if what == "claim" else (lambda model: model.state in HELD)
        job_ids = sorted(self.models, key=lambda job_id: first(self.models[job_id]), reverse=True)
        job_id = job_ids[number % len(job_ids)]

        def drawn(*values: Any) -> Any:
            return data.draw(st.sampled_from(values))

        match what:
            case "create":
                self.create()
            case "retry":
                self.retry(job_id)
            case "cancel":
                self.cancel(job_id)
            case "claim":
                self.claim(job_id, drawn("a", "b", "c"))
            case "sweep":
                self.sweep()
            case "the lease runs out":
                self.let_the_lease_run_out(job_id)
            case "the deadline passes":
                self.let_the_deadline_pass(job_id)
            case "end while others sweep":
                self.end_while_others_sweep(job_id, commits=drawn(True, False))
            case _:
                self.write(job_id, what, drawn(0, 0, 0, 0, 1, 2), drawn)

    # -- what tenants do

    def create(self) -> None:
        if len(self.models) < MOST_JOBS:
            self._new(self.make_job().id)

    def retry(self, job_id: UUID) -> None:
        if len(self.models) == MOST_JOBS:
            return
        may = self.models[job_id].state in ("failed", "cancelled")
        try:
            with transaction(self.factory) as session:
                new = jobs.retry(session, tenant_id=self.tenant_id, job_id=job_id, max_queued=100)
        except NotRetryable:
            assert not may
            return
        assert may
        assert new is not None
        self._new(new.id)

    def cancel(self, job_id: UUID) -> None:
        with transaction(self.factory) as session:
            jobs.request_cancel(session, tenant_id=self.tenant_id, job_id=job_id)
        self._about(job_id).cancel()

    # -- what workers do

    def claim(self, job_id: UUID, worker: str) -> None:
        with transaction(self.factory) as session:
            won = jobs.claim(session, job_id=job_id, worker=worker, lease_seconds=60, max_attempts=MAX_ATTEMPTS)
        model = self._about(job_id)
        assert (won is not None) == model.claim(), "who may claim it does, and nobody else"
        assert won is None or won.attempt == model.attempt

    def write(self, job_id: UUID, what: str, ago: int, drawn: Callable[..., Any]) -> None:
        """What the worker of `ago` attempts before writes; all but the holder must be refused."""
        model = self.models[job_id]
        attempt = model.attempt - ago
        t, accuracy = drawn(0.0, 0.5, 1.0), drawn(0.1, 0.9)
        values = {
            "renew": {"lease_seconds": 60},
            "record_progress": {"progress": PROGRESS, "event": "progress"},
            "record_warning": {"data": {"detail": "x"}},
            "record_points": {"points": [point(t, accuracy)]},
            "finish": {"result": {"t": t}, "artifacts": [new_artifact(job_id, attempt)]},
            "fail": {"problem": PROBLEM},
            "mark_cancelled": {},
            "release": {},
            "lose_attempt": {"reason": "It died.", "max_attempts": MAX_ATTEMPTS},
        }[what]
        may = model.held_by(attempt) and (what != "mark_cancelled" or model.state == "cancelling")
        try:
            with transaction(self.factory) as session:
                answer = getattr(jobs, what)(session, job_id=job_id, attempt=attempt, **values)
        except StaleFence:
            assert not may, f"attempt {attempt} holds {model} and was refused"
            return
        assert may, f"attempt {attempt} does not hold {model} and could write"
        self.touched.add(job_id)
        if what == "renew":
            asked = model.state == "cancelling"
            assert answer == jobs.Renewal(cancel_requested=asked, deadline_passed=model.late)
        model.written(what, t, accuracy)

    def end_while_others_sweep(self, job_id: UUID, *, commits: bool) -> None:
        """The sweep passes over a job that is being ended; if its holder dies before the commit, nothing happened."""
        model = self.models[job_id]
        if model.state not in HELD:
            return
        self.models[job_id] = JobModel(state="succeeded")  # what the sweep must take it for
        with self.factory() as session:
            files = [new_artifact(job_id, model.attempt)]
            jobs.finish(session, job_id=job_id, attempt=model.attempt, result={"t": 0.5}, artifacts=files)
            self._settle()
            if commits:
                session.commit()
        self.models[job_id] = model
        if commits:
            self.touched.add(job_id)
            model.written("finish")

    # -- what housekeeping and the clock do

    def sweep(self) -> None:
        self._settle()
        with transaction(self.factory) as session:
            due = jobs.due_jobs(session, older_than_seconds=600)
            jobs.mark_enqueued(session, job_ids=due)
        assert sorted(due) == sorted(job_id for job_id, model in self.models.items() if model.due())
        self.touched |= set(due)
        for job_id in due:
            self.models[job_id].sent = True

    def let_the_lease_run_out(self, job_id: UUID) -> None:
        if self.models[job_id].state in HELD:
            self._pass_time(job_id, "lease_until")
            self.models[job_id].lease_over = True

    def let_the_deadline_pass(self, job_id: UUID) -> None:
        if self.models[job_id].state not in ENDED:
            self._pass_time(job_id, "created_at", "deadline_at")
            self.models[job_id].late = True

    # -- how it is done

    def _settle(self) -> None:
        with transaction(self.factory) as session:
            settled = jobs.settle_overdue(session, max_attempts=MAX_ATTEMPTS)
        assert sorted(settled) == sorted(job_id for job_id, model in self.models.items() if model.settle())
        self.touched |= set(settled)

    def _new(self, job_id: UUID) -> None:
        self.models[job_id] = JobModel()
        self.touched.add(job_id)

    def _about(self, job_id: UUID) -> JobModel:
        if self.models[job_id].state not in ENDED:  # what has ended never changes
            self.touched.add(job_id)
        return self.models[job_id]

    def _pass_time(self, job_id: UUID, *columns: str) -> None:
        """What lies a minute or a day ahead lies behind."""
        self.touched.add(job_id)
        moves = ", ".join(f"{column} = {column} - interval '2 days'" for column in columns)
        with transaction(self.factory) as session:
            session.execute(text(f"UPDATE jobs SET {moves} WHERE id = :id"), {"id": job_id})

    @invariant()
    def the_promises_hold(self) -> None:
        with transaction(self.factory) as session:
            stored = {row.id: row for row in session.execute(text(EVERYTHING))}
        assert stored.keys() == self.models.keys(), "no job is lost, none is made up"
        for job_id, row in stored.items():
            before = self.stored.get(job_id)
            if job_id not in self.touched:
                assert row == before, "a job that no step was about has changed"
            else:
                check(row, self.models[job_id])
            if before is not None:
                assert row.job["attempt"] >= before.job["attempt"]
                assert row.events[: len(before.events)] == before.events, "history is only added to"
        self.stored = stored
        self.touched = set()


def check(row: Row[Any], model: JobModel) -> None:
    """One job against its model, and against what is promised of every job."""
    job = row.job
    assert (job["state"], job["attempt"], job["releases"]) == (model.state, model.attempt, model.releases)
    assert job["attempt"] - job["releases"] <= MAX_ATTEMPTS
    assert (job["lease_until"] is not None) == (model.state in HELD), "a lease is for those who hold"
    assert (job["finished_at"] is not None) == (model.state in ENDED)
    assert [point["t"] for point in row.points] == sorted(model.points), "each point once"
    assert {point["t"]: (point["attempt"], point["clean_accuracy"]) for point in row.points} == model.points
    succeeded = model.state == "succeeded"
    assert ((job["result"] is not None), len(row.artifacts)) == (succeeded, int(succeeded))
    if succeeded:
        assert row.artifacts[0]["path"] == f"jobs/{job['id']}/{job['attempt']}/report.html"
    assert (job["problem"] is not None) == (model.state == "failed")
    terminal = [event["type"] for event in row.events if event["type"] in ENDED]
    assert terminal == ([model.state] if model.state in ENDED else [])
    assert not terminal or row.events[-1]["type"] == model.state, "the end is the last word"


def exercise(make_machine: Callable[[], Jobs], *, steps: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    """Take that many steps. Raises AssertionError with the run in which a promise was broken.

    Ten runs a seed: from the eleventh on, Hypothesis mostly varies runs that it has had.
    """
    how = settings(max_examples=RUNS_OF_A_SEED, stateful_step_count=STEPS_OF_A_RUN, phases=phases)
    for number in range(steps // (RUNS_OF_A_SEED * STEPS_OF_A_RUN)):
        run_state_machine_as_test(seed(number)(make_machine), settings=how)


@pytest.mark.parametrize("steps", STATE_MACHINE_STEPS)
def test_no_order_of_events_breaks_a_promise(
    factory: SessionFactory, tenant_id: UUID, make_job: Callable[..., jobs.Job], steps: int
) -> None:
    exercise(lambda: Jobs(factory, tenant_id, make_job), steps=steps)
