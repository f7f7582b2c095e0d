"""A run that is interrupted again and again, and goes on from what it wrote last, ends as an undisturbed one does."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from modeconn_core import (
    AnalysisConfig,
    Checkpoints,
    EigenSettings,
    PgdSettings,
    RepairConfig,
    analyse,
    repair,
)
from modeconn_core.inversion import InversionSettings

QUICK = RepairConfig(seed=3, steps=12, device="cpu", plane=3, inversion=InversionSettings(steps=6))
UNIT = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


class Interrupted(Exception):
    """The process would be gone."""


def stored(state: dict[str, Any]) -> bytes:
    """As a worker writes it."""
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def interrupted_often(run: Callable[[Checkpoints], Any], *, every: int) -> tuple[Any, int]:
    """Run until it is done, each time for ``every`` writes at most; the result and the number of runs."""
    kept, runs = stored({}), 0
    while True:
        runs += 1
        writes = 0

        def write(state: dict[str, Any]) -> None:
            nonlocal kept, writes
            kept = stored(state)
            writes += 1
            if writes == every:
                raise Interrupted

        remembered = torch.load(io.BytesIO(kept), weights_only=True)
        try:
            return run(Checkpoints(remembered, write, every_seconds=0.0)), runs
        except Interrupted:
            continue


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("ends", ["permuted", "fine_tuned"])
def test_an_interrupted_repair_gives_the_same_curve_t_and_weights_bit_for_bit(suspect, clean, ends: str) -> None:
    config = replace(QUICK, ends=ends)

    def run(checkpoints: Checkpoints | None = None) -> Any:
        return repair(suspect, clean.images, clean.labels, config=config, checkpoints=checkpoints)

    undisturbed = run()
    resumed, runs = interrupted_often(run, every=23)
    assert runs >= 5, "it must have been interrupted in every stage"
    assert resumed.curve == undisturbed.curve
    assert (resumed.t, resumed.reason) == (undisturbed.t, undisturbed.reason)
    assert same_weights(resumed.model, undisturbed.model)
    assert resumed.plane == undisturbed.plane
    assert [finding.size_after for finding in resumed.targets] == [
        finding.size_after for finding in undisturbed.targets
    ]


def test_an_interrupted_repair_with_a_second_model_does_too(suspect, other_suspect, clean) -> None:
    def run(checkpoints: Checkpoints | None = None) -> Any:
        return repair(
            suspect, clean.images, clean.labels, second_model=other_suspect, config=QUICK, checkpoints=checkpoints
        )

    undisturbed = run()
    resumed, _ = interrupted_often(run, every=31)
    assert resumed.unaligned_curve == undisturbed.unaligned_curve
    assert same_weights(resumed.model, undisturbed.model)


def test_an_interrupted_analysis_gives_the_same_figures(suspect, honest, clean) -> None:
    config = AnalysisConfig(
        seed=3,
        steps=6,
        points=4,
        pgd=PgdSettings(steps=2),
        eigenvalues=EigenSettings(images=4, iterations=4),
        max_images=40,
        device="cpu",
    )

    def run(checkpoints: Checkpoints | None = None) -> Any:
        return analyse(honest, suspect, clean.images, clean.labels, **UNIT, config=config, checkpoints=checkpoints)

    undisturbed = run()
    resumed, runs = interrupted_often(run, every=5)
    assert runs >= 4
    assert resumed.paths == undisturbed.paths
    for kind, path in undisturbed.weights.items():
        assert torch.equal(resumed.weights[kind].points, path.points)


class Dropping(nn.Module):
    """A network that draws random numbers of its own in train mode."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.dropout = inner, nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.dropout(x))


def test_what_a_network_draws_for_itself_is_tied_to_the_seed(suspect, clean) -> None:
    network = Dropping(suspect).eval()
    torch.manual_seed(1)
    first = repair(network, clean.images, clean.labels, config=QUICK)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again = repair(network, clean.images, clean.labels, config=QUICK)
    assert same_weights(first.model, again.model)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's own random numbers must not change"


def test_without_anybody_to_write_to_nothing_is_remembered() -> None:
    checkpoints = Checkpoints()
    assert checkpoints.part("a", lambda: 1) == 1
    assert checkpoints.part("a", lambda: 2) == 2


def test_it_writes_no_oftener_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("modeconn_core.checkpoints.time.monotonic", lambda: now[0])
    written: list[int] = []
    checkpoints = Checkpoints({}, lambda state: written.append(len(state)), every_seconds=8.0)
    for i in range(20):
        now[0] += 1.0
        checkpoints.part(f"part-{i}", lambda i=i: i)
    assert written == [8, 16]
