"""The plane in weight space that a path's ends and bend span: accuracy and attack success all over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modeconn_core.curve import ModePath
from modeconn_core.sweep import Probe, Sweep, TriggeredSet
from modeconn_core.triggers import Trigger

IMAGES = 250  # at each point of the grid: for BatchNorm, and as many others for the accuracy
STAMPED_IMAGES = 100  # for attack success
MARGIN = 0.25  # around ends, bends and path, of their extent: the ends are on a grid of 7, 13, 19, ... points
FLAT = 1e-4  # of the distance between the ends: a bend no farther from their line spans no plane
PATH_POINTS = 61  # of the drawn curve

Position = tuple[float, float]  # (x, y) in the plane, in units of the distance between the ends


@dataclass(frozen=True, kw_only=True, slots=True)
class LossPlane:
    """Figures on a square grid over the plane; with more than one bend the middle one spans it, the rest is projected.

    x, y: coordinates of the columns and rows, in units of the distance between the ends; the first end is (0, 0), the
    second (1, 0). accuracy: rows of shares in 0..1, row i at y[i]; attack: the same of the attack success rate, None
    where nothing measures it; attack_measured: on the user's triggered images, else by stand-ins. bends: where they
    lie (projected); path: (t, x, y) along the curve; chosen: the point that was chosen.
    """

    x: list[float]
    y: list[float]
    accuracy: list[list[float]]
    attack: list[list[float]] | None
    attack_measured: bool
    bends: list[Position]
    path: list[tuple[float, float, float]]
    chosen: Position


def measure_plane(
    sweep: Sweep,
    *,
    points: int,
    chosen_t: float,
    proxies: Sequence[Sequence[Trigger]] = (),
    on_point: Callable[[float], None] = lambda _: None,
) -> LossPlane | None:
    """Accuracy and attack success over the plane through both ends and the (middle) bend of a fitted path.

    BatchNorm statistics are re-estimated at every grid point, as along the path. None where the bend lies on the line
    between the ends, so that there is no plane. Source: Garipov et al. 2018, appendix A.1 (Gram-Schmidt on the ends and
    the bend).

    Args:
        sweep: of the fitted path; some of its probe's clean and triggered images are used.
        points: along each side.
        chosen_t: the t that was chosen, to be marked.
        proxies: stand-ins for the trigger that are followed where nobody gave triggered images.
        on_point: told the share of the grid that is done; it may raise to stop.
    """
    basis = _Basis(sweep.path)
    if basis.bend[1] < FLAT:
        return None
    bends = [basis.position(bend_D) for bend_D in sweep.path.points[1:-1]]
    path = [(t, *basis.position(_weights_at(sweep.path, t))) for t in torch.linspace(0, 1, PATH_POINTS).tolist()]
    shown = [(0.0, 0.0), (1.0, 0.0), *bends, *((x, y) for _, x, y in path)]
    xs, ys = (_axis([position[i] for position in shown], points) for i in (0, 1))
    probe = _narrowed(sweep.probe, proxies)
    accuracy: list[list[float]] = []
    attack: list[list[float | None]] = []
    for row, y in enumerate(ys):

        def measured_row(y: float = y, before: int = row * points) -> list[tuple[float, float | None]]:
            found = []
            for column, x in enumerate(xs):
                share = basis.write(x, y, sweep.flat.vector)
                sweep.calibration.apply(sweep.module, share, most=IMAGES)
                point = probe.measure(sweep.module, 0.0).point
                rate = point.proxy_success_rate if probe.triggered is None else point.attack_success_rate
                found.append((point.clean_accuracy, rate))
                on_point((before + column + 1) / points**2)
            return found

        figures = sweep.checkpoints.part(f"plane-{row}", measured_row)
        accuracy.append([rate for rate, _ in figures])
        attack.append([rate for _, rate in figures])
    return LossPlane(
        x=xs,
        y=ys,
        accuracy=accuracy,
        attack=_complete(attack),
        attack_measured=probe.triggered is not None,
        bends=bends,
        path=path,
        chosen=basis.position(_weights_at(sweep.path, chosen_t)),
    )


class _Basis:
    """The plane's axes: x from end to end, y towards the bend, both as long as the ends lie apart.

    bend: where the bend that spans it lies; its y is not negative.
    """

    def __init__(self, path: ModePath) -> None:
        first_D, last_D = path.points[0], path.points[-1]
        middle_D = path.points[(path.bends + 1) // 2]
        self._corners_3D = torch.stack([first_D, middle_D, last_D])
        along_D = last_D.double() - first_D.double()
        self._unit = along_D.norm()
        self._x_D = along_D / self._unit
        aside_D = middle_D.double() - first_D.double()
        aside_D -= (aside_D @ self._x_D) * self._x_D
        self._y_D = aside_D / aside_D.norm().clamp_min(1e-12)
        self.bend = self.position(middle_D)

    def position(self, weights_D: Tensor) -> Position:
        """Of these weights' projection onto the plane."""
        offset_D = (weights_D.double() - self._corners_3D[0].double()) / self._unit
        return float(offset_D @ self._x_D), float(offset_D @ self._y_D)

    def write(self, x: float, y: float, out_D: Tensor) -> float:
        """Write the weights at (x, y) into ``out_D``; the share in 0..1 of the first end's weights in them.

        In barycentric coordinates, so that the ends and the bend come out as they are.
        """
        of_bend = y / self.bend[1]
        of_last = x - of_bend * self.bend[0]
        of_first = 1.0 - of_bend - of_last
        shares_3 = torch.tensor([of_first, of_bend, of_last], dtype=out_D.dtype, device=out_D.device)
        torch.mv(self._corners_3D.T, shares_3, out=out_D)
        return min(max(of_first, 0.0), 1.0)


def _weights_at(path: ModePath, t: float) -> Tensor:
    weights_D = torch.empty_like(path.points[0])
    path.write(t, weights_D)
    return weights_D


def _axis(values: list[float], points: int) -> list[float]:
    """``points`` coordinates over all ``values``, with a margin."""
    low, high = min(values), max(values)
    margin = MARGIN * (high - low)
    return torch.linspace(low - margin, high + margin, points, dtype=torch.float64).tolist()


def _narrowed(probe: Probe, proxies: Sequence[Sequence[Trigger]]) -> Probe:
    """Fewer images than at a point of the curve; stand-ins only where there are no triggered images."""
    triggered = _some(probe.triggered)
    some = _every(len(probe.images), IMAGES)
    return replace(
        probe,
        images=probe.images[some],
        labels=probe.labels[some],
        triggered=triggered,
        proxies=proxies if triggered is None else (),
        most_stamped=STAMPED_IMAGES,
        disputed=_some(probe.disputed) if triggered is None else None,
    )


def _some(images: TriggeredSet | None) -> TriggeredSet | None:
    if images is None:
        return None
    every = _every(len(images.images), STAMPED_IMAGES)
    return TriggeredSet(images=images.images[every], targets=images.targets[every])


def _every(count: int, most: int) -> slice:
    """Evenly spread, at most ``most`` of ``count``."""
    return slice(None, None, -(-count // most))


def _complete(rows: list[list[float | None]]) -> list[list[float]] | None:
    """The rows, or None where nothing was measured."""
    known = [[rate for rate in row if rate is not None] for row in rows]
    return known if all(known) else None
