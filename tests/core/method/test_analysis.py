"""An analysis from end to end on the small problem, and its figures on curves whose answer is known."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modeconn_core import (
    AnalysisConfig,
    AnalysisPoint,
    AnalysisResult,
    EigenSettings,
    ImageBox,
    PgdSettings,
    Progress,
    RepairStopped,
    analyse,
)
from modeconn_core.analysis_figures import barrier, correlation
from modeconn_core.robustness import pgd

UNIT = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # the tests' images lie in [-1, 1]
ATTACK = PgdSettings(epsilon=0.16, steps=3, step_size=0.08)
CONFIG = AnalysisConfig(
    seed=3,
    steps=80,
    rate=0.1,
    points=5,
    pgd=ATTACK,
    eigenvalues=EigenSettings(images=6, iterations=8),
    max_images=80,
    device="cpu",
)


@pytest.fixture(scope="session")
def robust(honest, draw) -> torch.nn.Module:
    """The honest model after some adversarial training."""
    training = draw(1200, seed=3)
    net = copy.deepcopy(honest)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        chosen = torch.randint(1200, (64,), generator=generator)
        images, labels = training.images[chosen], training.labels[chosen]
        attacked = pgd(net.eval(), images, labels, ATTACK, ImageBox(**UNIT), generator)
        optimizer.zero_grad()
        F.cross_entropy(net.train()(attacked), labels).backward()
        optimizer.step()
    return net.eval()


class InAList(torch.nn.Module):
    """A network whose answer is not the logits themselves."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.inner(x)]


@pytest.fixture(scope="session")
def events() -> list[Progress]:
    return []


@pytest.fixture(scope="session")
def analysis(honest, robust, clean, events) -> AnalysisResult:
    return analyse(honest, robust, clean.images, clean.labels, **UNIT, config=CONFIG, on_progress=events.append)


def test_both_paths_are_measured_from_end_to_end(analysis) -> None:
    assert [path.path for path in analysis.paths] == ["standard", "robust"]
    for path in analysis.paths:
        assert [point.t for point in path.points] == [0.0, 0.25, 0.5, 0.75, 1.0]
        assert all(point.path == path.path for point in path.points)
        assert all(0 <= point.clean_error <= point.robust_error <= 1 for point in path.points)
        assert all(point.clean_loss <= point.robust_loss for point in path.points)
    assert analysis.fit_images == pytest.approx(240, abs=3)
    assert analysis.report_images == 80


def test_the_ends_are_the_models_that_were_given(analysis, honest, robust, clean) -> None:
    standard, attacked = analysis.paths
    for end, module in ((0, honest), (-1, robust)):
        assert replace(attacked.points[end], path="standard") == standard.points[end]
        wrong = (module(clean.images).argmax(dim=1) != clean.labels).float().mean().item()
        low, high = standard.points[end].clean_error_interval
        assert low <= wrong <= high, "an end's error should be that of its own model"


def test_the_robust_model_is_seen_to_be_more_robust(analysis) -> None:
    standard = analysis.paths[0].points
    assert standard[-1].robust_error < standard[0].robust_error - 0.05
    assert analysis.warnings == []


def test_a_path_trained_under_attack_withstands_it_better(analysis) -> None:
    highest = {path.path: max(point.robust_loss for point in path.points[1:-1]) for path in analysis.paths}
    assert highest["robust"] < highest["standard"] - 0.3


def test_every_point_is_reported_and_the_work_done_grows_to_one(analysis, events) -> None:
    reported = [event.point for event in events if event.point is not None]
    assert reported == [point for path in analysis.paths for point in path.points]
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    stages = dict.fromkeys(event.stage for event in events)
    assert list(stages) == ["validating", "preparing_ends", "fitting_path", "fitting_robust_path", "sweeping"]


def test_the_work_done_grows_to_one_without_a_robust_path_too(honest, robust, clean) -> None:
    config = replace(CONFIG, points=3, robust_path=False, eigenvalues=None)
    seen: list[Progress] = []
    analyse(honest, robust, clean.images, clean.labels, **UNIT, config=config, on_progress=seen.append)
    assert seen[-1].fraction == pytest.approx(1.0)


def test_images_that_come_class_by_class_are_measured_in_every_class(honest, robust, clean) -> None:
    never_the_last, order = copy.deepcopy(honest), clean.labels.argsort(stable=True)
    never_the_last.head.bias.data[-1] = -1e3
    config = replace(CONFIG, points=3, robust_path=False, eigenvalues=None, max_images=100)  # of 160
    result = analyse(never_the_last, robust, clean.images[order], clean.labels[order], **UNIT, config=config)
    end = result.paths[0].points[0]
    assert end.clean_error == pytest.approx(1 / 6, abs=0.1)


def test_eigenvalues_are_positive_and_say_how_many_converged(analysis) -> None:
    for point in analysis.paths[0].points:
        assert point.eigenvalue is not None
        assert point.eigenvalue > 0
        assert point.eigenvalue_interval[0] <= point.eigenvalue <= point.eigenvalue_interval[1]
        assert 0 <= point.eigenvalue_converged <= 1


def test_the_models_stay_as_they_are_and_the_same_seed_gives_the_same_figures(honest, robust, clean) -> None:
    config = replace(CONFIG, points=3, robust_path=False, eigenvalues=None)
    before = {name: tensor.clone() for name, tensor in robust.state_dict().items()}
    first, again = (analyse(honest, robust, clean.images, clean.labels, **UNIT, config=config) for _ in range(2))
    assert first.paths == again.paths
    assert [path.path for path in first.paths] == ["standard"]
    assert first.paths[0].correlation is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in robust.state_dict().items())


def test_channels_are_matched_first_unless_that_is_not_wanted(analysis, honest, robust, clean) -> None:
    assert "interchangeable channels" in analysis.alignment
    config = replace(CONFIG, points=3, robust_path=False, eigenvalues=None, align=False)
    left = analyse(honest, robust, clean.images, clean.labels, **UNIT, config=config)
    assert "left as they are" in left.alignment


def test_two_regular_models_are_warned_of(honest, suspect, clean) -> None:
    config = replace(CONFIG, points=3, robust_path=False, eigenvalues=None)
    result = analyse(honest, suspect, clean.images, clean.labels, **UNIT, config=config)
    assert any("hardly more robust" in warning for warning in result.warnings)


def test_it_stops_when_asked(honest, robust, clean, analysis) -> None:
    asked = iter([False] * 40 + [True] * 1000)
    with pytest.raises(RepairStopped):
        analyse(honest, robust, clean.images, clean.labels, **UNIT, config=CONFIG, should_stop=lambda: next(asked))


def test_unusable_input_is_refused_in_words(honest, robust, clean) -> None:
    def start(
        images: Tensor = clean.images, labels: Tensor = clean.labels, first=honest, second=robust, **stated
    ) -> None:
        analyse(first, second, images, labels, **{**UNIT, **stated}, config=CONFIG)

    with pytest.raises(ValueError, match="not from 0 to 1"):
        start(images=clean.images * 3)
    with pytest.raises(ValueError, match="regular model's tensors"):
        start(second=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 6)))
    with pytest.raises(ValueError, match="labels must lie"):
        start(labels=clean.labels + 1)
    with pytest.raises(ValueError, match="tensor of logits"):
        start(second=InAList(robust), first=InAList(honest))
    with pytest.raises(ValueError, match="std must be positive"):
        start(std=(0.5, 0.0, 0.5))
    with pytest.raises(ValueError, match="points"):
        replace(CONFIG, points=2)


def test_a_fit_that_diverges_is_said_and_not_crashed_on(honest, robust, clean) -> None:
    config = replace(CONFIG, points=3, robust_path=False, eigenvalues=None, rate=1e30)
    result = analyse(honest, robust, clean.images, clean.labels, **UNIT, config=config)
    assert any("diverged" in warning for warning in result.warnings)
    assert result.paths[0].clean_barrier.height > 1e3


T = [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_barrier_is_the_excess_over_the_line_between_the_ends() -> None:
    losses = torch.tensor([1.0, 1.5, 4.0, 2.5, 3.0]).repeat(50, 1).T
    found = barrier(T, losses, seed=0)
    assert (found.height, found.t) == (2.0, 0.5)
    assert found.interval == pytest.approx((2.0, 2.0))


def test_a_path_below_its_ends_has_no_barrier() -> None:
    found = barrier(T, torch.tensor([3.0, 1.0, 1.0, 1.0, 2.0]).repeat(50, 1).T, seed=0)
    assert found.height == 0.0
    assert found.interval == (0.0, 0.0)


def test_the_barriers_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(100):
        noise = torch.randn(5, 60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        low, high = barrier(T, torch.tensor([0.0, 0, 5, 0, 0])[:, None] + noise, seed=0).interval
        covered += low <= 5 <= high
    assert covered >= 87


def points(eigenvalues: list[float], losses: list[float]) -> list[AnalysisPoint]:
    blank = dict.fromkeys(AnalysisPoint.__dataclass_fields__)
    return [
        AnalysisPoint(**{**blank, "eigenvalue": eigenvalue, "robust_loss": loss})
        for eigenvalue, loss in zip(eigenvalues, losses, strict=True)
    ]


def test_correlations_of_known_data() -> None:
    found = correlation(points([1, 2, 3, 4, 5, 6, 7], [2, 1, 4, 3, 7, 5, 60]))
    assert found is not None
    assert found.pearson == pytest.approx(0.664, abs=0.005)
    assert found.spearman == pytest.approx(0.893, abs=0.001)
    assert found.pearson_interval[0] < found.pearson < found.pearson_interval[1] < 1
    assert found.spearman_interval[0] < found.spearman < found.spearman_interval[1] < 1


def test_no_correlation_where_one_side_does_not_vary() -> None:
    assert correlation(points([1.0] * 6, [1, 2, 3, 4, 5, 6])) is None
    assert correlation(points([1, 2, 3, 4], [1, 2, 3, 4])) is None
