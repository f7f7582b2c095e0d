"""From a message to an ended job: claim, run in a child, watch, write down how it ended."""

import logging
import time
from contextlib import suppress
from uuid import UUID

import tenacity

from store.database import DATABASE_AWAY
from store.errors import StaleFence
from store.failpoints import failpoint
from worker import problems
from worker.claimed import Claimed
from worker.holding import JobHolding
from worker.room import Room
from worker.selection_holding import SelectionHolding
from worker.watch import Ending, How, Watch

log = logging.getLogger(__name__)


def run_job(job_id: UUID, room: Room) -> None:
    """Run one attempt at a job, if it needs one."""
    if room.stop.is_set():
        return  # the message was only a hint: the sweep sends it to somebody who stays
    claimed = JobHolding.claim(room, job_id)
    if claimed is None:
        log.debug("job %s: nothing to do", job_id)
        return
    attempt(claimed, room)
    with suppress(*DATABASE_AWAY):  # then the sweep finds them
        claimed.hand_place_on()


def run_selection(selection_id: UUID, room: Room) -> None:
    """Run one attempt at a selection, if it needs one."""
    if room.stop.is_set():
        return
    claimed = SelectionHolding.claim(room, selection_id)
    if claimed is not None:
        attempt(claimed, room)


def attempt(claimed: Claimed, room: Room) -> None:
    """Run a claimed job or selection in a child, and record how it ended."""
    log.info("%s: claimed by %s", claimed.label, room.worker)
    failpoint("worker.claimed")
    began = time.monotonic()
    ending = _watch(claimed, room)
    log.info("%s: %s after %.1f s", claimed.label, ending.how, time.monotonic() - began)
    if "trace" in ending.message:
        log.error("%s: %s", claimed.label, ending.message["trace"])
    if ending.how is How.STALE:
        log.warning("%s: another attempt holds it; nothing was written", claimed.label)
        claimed.drop_files()
        return
    try:
        _stubbornly(room)(_record, claimed, ending)
    except StaleFence:
        log.warning("%s: not ours any more when it ended", claimed.label)
    except DATABASE_AWAY:
        log.exception("%s: could not be recorded; the lease runs out and another attempt follows", claimed.label)


def _watch(claimed: Claimed, room: Room) -> Ending:
    try:
        child = claimed.start()
    except OSError as error:  # no memory or descriptors for another process
        return Ending(How.INTERRUPTED, {"reason": f"No process could be started: {error.strerror}."})
    try:
        watch = Watch(
            claimed,
            child,
            heartbeat_seconds=room.settings.heartbeat_seconds,
            stall_seconds=room.settings.stall_seconds,
            stop=room.stop,
        )
        return watch.run()
    except Exception as error:  # a fault of ours must cost the attempt, not hold the job until its lease runs out
        log.exception("%s: the watch failed", claimed.label)
        return Ending(How.INTERRUPTED, {"reason": f"The worker failed to follow it ({type(error).__name__})."})
    finally:
        child.kill()


def _record(claimed: Claimed, ending: Ending) -> None:
    match ending.how:
        case How.DONE:
            failpoint("worker.done")
            try:
                claimed.finish(ending.message)
            except ValueError as error:
                log.error("%s: %s", claimed.label, error)
                claimed.fail(problems.crashed("The process that ran it reported files that are not its own"))
            failpoint("worker.finished")
        case How.PROBLEM:
            claimed.fail(ending.message["problem"])
        case How.INTERRUPTED:
            claimed.lost(ending.message["reason"], ending.message.get("last_lines", []))
        case How.CANCELLED:
            claimed.cancelled()
        case How.DEADLINE:
            claimed.out_of_time()
        case How.STOPPED:
            claimed.release()


def _stubbornly(room: Room) -> tenacity.Retrying:
    """A database that is away for a while must not cost a finished repair; a leaving worker tries but once."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(DATABASE_AWAY),
        wait=tenacity.wait_exponential(max=5),
        stop=tenacity.stop_when_event_set(room.stop.event),
        sleep=tenacity.sleep_using_event(room.stop.event),
        reraise=True,
    )
