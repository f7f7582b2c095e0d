"""The loss plane: where things lie in it, and that its figures are those of the weights there."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from modeconn_core import RepairConfig, RepairStopped, repair
from modeconn_core.batchnorm import Calibration
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.metrics import evaluate
from modeconn_core.plane import LossPlane, measure_plane
from modeconn_core.sweep import Probe, Sweep, TriggeredSet


@pytest.fixture(scope="module")
def sweep(suspect, other_suspect, honest, clean, unseen) -> Sweep:
    """Of a path from one suspect to another one, with a bend half-way, aside by what sets an honest model aside."""
    work = copy.deepcopy(suspect)
    flat = FlatParameters(work)
    path = ModePath.between(flat, suspect.state_dict(), other_suspect.state_dict(), kind="bezier", bends=1)
    line, honest_D = path.points[2] - path.points[0], flat.pack(honest.state_dict())
    across = (honest_D - path.points[0]) @ line / line.square().sum()
    path.points[1] = honest_D + (0.5 - across) * line
    calibration = Calibration(suspect, clean.images, mirror=False, seed=0)
    triggered = TriggeredSet(images=unseen.attacked()[0][:90], targets=unseen.attacked()[1][:90])
    probe = Probe(images=unseen.images[:200], labels=unseen.labels[:200], triggered=triggered, proxies=())
    return Sweep(work, flat, path, calibration, probe)


@pytest.fixture(scope="module")
def plane(sweep) -> LossPlane:
    found = measure_plane(sweep, points=7, chosen_t=0.3)
    assert found is not None
    return found


def test_ends_bend_and_path_lie_where_gram_schmidt_puts_them(sweep, plane) -> None:
    first, bend, last = sweep.path.points.double()
    unit = (last - first).norm()
    x_axis = (last - first) / unit
    rest = (bend - first) - ((bend - first) @ x_axis) * x_axis
    across, aside = float((bend - first) @ x_axis / unit), float(rest.norm() / unit)
    assert plane.bends == [pytest.approx((across, aside), abs=1e-6)]
    assert plane.path[0] == pytest.approx((0, 0, 0), abs=1e-6)
    assert plane.path[-1] == pytest.approx((1, 1, 0), abs=1e-6)
    for t, x, y in plane.path:
        assert x == pytest.approx(2 * t * (1 - t) * across + t**2, abs=1e-5)
        assert y == pytest.approx(2 * t * (1 - t) * aside, abs=1e-5)
    assert plane.chosen == pytest.approx((0.42 * across + 0.09, 0.42 * aside), abs=1e-5)


def test_the_grid_covers_ends_bend_and_path_with_a_margin(plane) -> None:
    shown = [(0, 0), (1, 0), *plane.bends, *((x, y) for _, x, y in plane.path)]
    assert len(plane.x) == len(plane.y) == len(plane.accuracy) == 7
    assert plane.x[0] < min(x for x, _ in shown) <= max(x for x, _ in shown) < plane.x[-1]
    assert plane.y[0] < min(y for _, y in shown) <= max(y for _, y in shown) < plane.y[-1]
    assert all(0 <= rate <= 1 for row in plane.accuracy for rate in row)
    assert len({len(row) for row in [*plane.accuracy, *plane.attack]}) == 1


def test_ends_and_bend_have_the_figures_of_their_weights(sweep, plane) -> None:
    """On a grid of seven points, the ends are in the second and sixth column and the second row."""
    assert [plane.x[1], plane.x[3], plane.x[5]] == pytest.approx([0.0, plane.bends[0][0], 1.0], abs=1e-6)
    assert [plane.y[1], plane.y[5]] == pytest.approx([0.0, plane.bends[0][1]], abs=1e-6)
    probe = sweep.probe
    for point, share, row, column in [(0, 1.0, 1, 1), (1, 0.0, 5, 3), (2, 0.0, 1, 5)]:
        sweep.flat.vector.copy_(sweep.path.points[point])
        sweep.calibration.apply(sweep.module, share, most=250)
        assert plane.accuracy[row][column] == evaluate(sweep.module, probe.images, probe.labels).rate
        success = evaluate(sweep.module, probe.triggered.images, probe.triggered.targets).rate
        assert plane.attack[row][column] == success
    assert plane.attack[1][1] > 0.9 > plane.attack[5][3]


class Weights(nn.Module):
    """Answers class 1 where the first weight is larger than the second: a function whose plane is known by hand."""

    def __init__(self, first: float, second: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor([first, second]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.values[0] - self.values[1]
        return torch.stack([torch.zeros(len(x)), score.expand(len(x))], dim=1)


def test_a_known_function_of_two_weights_is_drawn_as_it_is() -> None:
    """Ends (0, 0) and (2, 0), bend (1, 1): weights (2x, 2y), so class 1 is answered where x > y."""
    first, last = Weights(0.0, 0.0), Weights(2.0, 0.0)
    work = copy.deepcopy(first)
    flat = FlatParameters(work)
    path = ModePath.between(flat, first.state_dict(), last.state_dict(), kind="chain", bends=1)
    path.points[1] = torch.tensor([1.0, 1.0])
    images, labels = torch.zeros(4, 1, 2, 2), torch.ones(4, dtype=torch.int64)
    calibration = Calibration(first, images, mirror=False, seed=0)
    probe = Probe(images=images, labels=labels, triggered=None, proxies=())
    plane = measure_plane(Sweep(work, flat, path, calibration, probe), points=6, chosen_t=0.25)
    assert plane.bends == [pytest.approx((0.5, 0.5))]
    assert plane.chosen == pytest.approx((0.25, 0.25))
    assert plane.attack is None
    for y, row in zip(plane.y, plane.accuracy, strict=True):
        assert row == [float(x > y) for x in plane.x]


def test_a_straight_path_has_no_plane(sweep, suspect, other_suspect) -> None:
    path = ModePath.between(sweep.flat, suspect.state_dict(), other_suspect.state_dict(), kind="bezier", bends=1)
    straight = Sweep(sweep.module, sweep.flat, path, sweep.calibration, sweep.probe)
    assert measure_plane(straight, points=3, chosen_t=0.5) is None


def test_a_repair_measures_the_plane_it_is_asked_for(suspect, clean) -> None:
    config = RepairConfig(seed=0, steps=30, rate=1.0, mirror=False, device="cpu", plane=3)
    result = repair(suspect, clean.images, clean.labels, config=config)
    plane = result.plane
    assert not plane.attack_measured
    assert len(plane.accuracy) == 3
    assert all(0 <= rate <= 1 for row in plane.attack for rate in row)
    nearest = min(plane.path, key=lambda place: abs(place[0] - result.t))
    assert math.dist(plane.chosen, nearest[1:]) < 0.1
    assert repair(suspect, clean.images, clean.labels, config=replace(config, plane=0, steps=2)).plane is None


def test_a_plane_can_be_stopped(sweep) -> None:
    def stop(share: float) -> None:
        if share > 0.5:
            raise RepairStopped

    with pytest.raises(RepairStopped):
        measure_plane(sweep, points=3, chosen_t=0.5, on_point=stop)
