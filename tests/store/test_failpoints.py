"""Failpoints do nothing unless they are asked for, and then just what they are asked for."""

import pytest

from store.failpoints import failpoint


def test_without_the_variable_nothing_happens(monkeypatch):
    monkeypatch.delenv("MODECONN_FAILPOINTS", raising=False)
    failpoint("anything")


def test_the_named_step_fails_at_the_named_visit_and_only_there(monkeypatch):
    monkeypatch.setenv("MODECONN_FAILPOINTS", "visited:raise:2,other:kill")
    failpoint("visited")
    failpoint("something else")
    with pytest.raises(OSError, match="failpoint visited"):
        failpoint("visited")
    failpoint("visited")


def test_one_process_among_many_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("MODECONN_FAILPOINTS", "shared:raise")
    monkeypatch.setenv("MODECONN_FAILPOINTS_ONCE", str(tmp_path))
    (tmp_path / "shared").touch()
    failpoint("shared")


@pytest.mark.parametrize("text", ["step", "step:explode", "step:kill:soon", "a:kill:1:2"])
def test_what_is_no_failpoint_is_refused(monkeypatch, text):
    monkeypatch.setenv("MODECONN_FAILPOINTS", text)
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        failpoint("step")
