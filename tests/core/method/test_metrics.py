"""Rates and their intervals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import nn

from modeconn_core.metrics import confusions, evaluate, per_class_accuracy, wilson_interval


@given(trials=st.integers(1, 3000), data=st.data())
def test_intervals_are_wilsons(trials: int, data) -> None:
    successes = data.draw(st.integers(0, trials))
    reference = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_no_trials_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        wilson_interval(0, 0)


def test_accuracy_loss_and_classes() -> None:
    outputs = torch.tensor([[5.0, 0, 0], [0, 5.0, 0], [5.0, 0, 0], [0, 5.0, 0]])
    labels = torch.tensor([0, 1, 1, 1])
    found = evaluate(nn.Identity(), outputs, labels, exact=True)
    right, wrong = math.log(1 + 2 * math.exp(-5)), 5 + math.log(1 + 2 * math.exp(-5))
    assert found.rate == 0.75
    assert found.loss == pytest.approx((3 * right + wrong) / 4, rel=1e-5)
    assert found.interval == wilson_interval(3, 4)
    assert found.predictions.tolist() == [0, 1, 0, 1]
    assert found.confidence == pytest.approx(math.exp(-right), rel=1e-5)
    assert confusions(found, labels) == {(1, 0): 1}
    assert per_class_accuracy(found, labels, 3) == [1.0, pytest.approx(2 / 3), None]
