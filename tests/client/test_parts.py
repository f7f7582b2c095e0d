"""Whatever happens to a part of the stack or to `serve` itself, no process stays behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from client.serving.embedded import CannotServe
from client.serving.parts import Guard, Launch, running
from client.serving.stack import only_one

PARENT = """
    import signal, subprocess, sys, time
    {parent}
    child = "import signal, time; {child}; print('up', flush=True); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", child])
    time.sleep(600)
"""
IGNORE = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def start(tmp_path, code: str, grace: float = 5.0):
    log = tmp_path / "part.log"
    arguments = [sys.executable, "-c", textwrap.dedent(code)]
    return Launch(
        name="part", arguments=arguments, environment=dict(os.environ), folder=tmp_path, log=log, grace=grace
    ).start()


def family_of(part) -> list[psutil.Process]:
    """The part and its child, once the child has said that it is up."""
    until(lambda: "up" in Path(part.process.cwd(), "part.log").read_text())
    return [part.process, *part.process.children(recursive=True)]


def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.mark.parametrize(("parent", "child"), [("pass", "pass"), (IGNORE, IGNORE), ("pass", IGNORE)])
def test_a_part_and_its_children_are_gone_after_stop(tmp_path, parent, child):
    part = start(tmp_path, PARENT.format(parent=parent, child=child), grace=0.3)
    family = family_of(part)
    assert len(family) == 2
    part.stop()
    assert not [process for process in family if running(process)]


def test_an_orphan_of_a_part_that_died_is_stopped_too(tmp_path):
    part = start(tmp_path, PARENT.format(parent="pass", child="pass"), grace=0.3)
    parent, child = family_of(part)
    parent.kill()
    until(lambda: not running(parent))
    assert running(child)
    part.stop()
    assert not running(child)


def test_a_part_gets_the_time_it_needs_to_end_in_order(tmp_path):
    code = """
        import signal, sys, time
        def leave(*_):
            time.sleep(0.5)
            print("left in order", flush=True)
            sys.exit()
        signal.signal(signal.SIGTERM, leave)
        print("up", flush=True)
        time.sleep(600)
    """
    part = start(tmp_path, code, grace=20.0)
    family_of(part)
    part.stop()
    assert "left in order" in (tmp_path / "part.log").read_text()


def test_when_serve_is_killed_the_guard_stops_what_it_started(tmp_path):
    server = textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from client.serving.parts import Guard, Launch
        from client.serving.stack import only_one
        here = Path({str(tmp_path)!r})
        with only_one(here) as lock:
            guard = Guard(keep=[lock])
            for trap in ("''", "-"):  # the first one started, and so the last to be stopped, does not listen
                part = Launch(name="part", arguments=["sh", "-c", f"trap {{trap}} TERM; echo up; sleep 600"],
                              environment=dict(os.environ), folder=here, log=here / "log", grace=3.0).start()
                guard.watch(part)
                print(part.process.pid, flush=True)
            time.sleep(600)
    """)
    process = subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    parts = [psutil.Process(int(process.stdout.readline())) for _ in range(2)]
    guards = [child for child in psutil.Process(process.pid).children() if child not in parts]
    assert len(guards) == 1
    until(lambda: (tmp_path / "log").read_text().count("up") == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with pytest.raises(CannotServe, match="already runs"), only_one(tmp_path):
        pass  # nobody takes the folder while something of the last one still runs
    until(lambda: not any(running(one) for one in [*parts, *guards]))
    with only_one(tmp_path):
        pass


def test_the_guard_leaves_when_nothing_is_left_to_do(tmp_path):
    guard = Guard()
    part = start(tmp_path, PARENT.format(parent="pass", child="pass"))
    guard.watch(part)
    part.stop()
    guard.dismiss()
    assert guard._process.returncode == 0
