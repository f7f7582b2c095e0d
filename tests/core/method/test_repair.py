"""The whole method on a tiny backdoored network: what a user notices."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from modeconn_core import Progress, RepairConfig, RepairStopped, materialise, repair
from modeconn_core.metrics import evaluate

CONFIG = RepairConfig(seed=0, steps=120, rate=1.0, mirror=False, device="cpu", max_accuracy_drop=0.06)


@pytest.fixture(scope="module")
def events() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def repaired(suspect, clean, unseen, events):
    return repair(
        suspect, clean.images, clean.labels, triggered=unseen.attacked(), config=CONFIG, on_progress=events.append
    )


def test_the_backdoor_goes_and_the_accuracy_stays_on_images_nobody_saw(suspect, repaired, unseen) -> None:
    images, targets = unseen.attacked()
    assert evaluate(suspect, images, targets).rate > 0.9
    floor = (~evaluate(suspect, unseen.images, unseen.labels).correct).float().mean().item()
    assert evaluate(repaired.model, images, targets).rate < 0.1 + floor
    lost = (
        evaluate(suspect, unseen.images, unseen.labels).rate
        - evaluate(repaired.model, unseen.images, unseen.labels).rate
    )
    assert lost < 0.06


def test_the_true_target_is_flagged_and_its_trigger_shown(repaired) -> None:
    flagged = [finding for finding in repaired.targets if finding.flagged]
    assert [finding.target_class for finding in flagged] == [0]
    assert flagged[0].pattern.shape == (3, 16, 16)
    assert flagged[0].mask.shape == (1, 16, 16)
    assert flagged[0].success_rate > 0.9
    assert flagged[0].success_rate_after < 0.5
    corner = flagged[0].mask[0, -5:, -5:].sum()
    assert corner > 0.5 * flagged[0].mask.sum()


def test_images_are_shown_that_the_trigger_fools_and_what_the_repaired_model_says(suspect, repaired) -> None:
    (flagged,) = (finding for finding in repaired.targets if finding.flagged)
    fooled = flagged.fooled
    assert fooled is not None
    assert set(fooled.taken_for) == {0}
    assert set(fooled.labels) == {1, 2, 3, 4}
    assert evaluate(suspect, fooled.images, torch.tensor(fooled.labels)).rate == 1
    assert evaluate(suspect, fooled.stamped, torch.tensor(fooled.taken_for)).rate == 1
    assert evaluate(repaired.model, fooled.stamped, torch.tensor(fooled.repaired_says)).rate == 1


def test_classes_confusions_and_confidence_are_of_the_reported_images(repaired) -> None:
    assert sum(repaired.class_images) == repaired.report_images
    for figures, accuracies, mistakes in zip(
        (repaired.before, repaired.after), repaired.per_class, repaired.confusions, strict=True
    ):
        wrong = sum(count * (1 - rate) for count, rate in zip(repaired.class_images, accuracies, strict=True))
        assert sum(mistakes.values()) == pytest.approx(wrong) == (1 - figures.clean_accuracy) * repaired.report_images
        assert 1 / 5 < figures.clean_confidence <= 1
    assert all(1 / 5 < point.clean_confidence <= 1 for point in repaired.curve)


def test_the_answer_says_what_was_chosen_and_why(repaired) -> None:
    drop = repaired.before.clean_accuracy - repaired.after.clean_accuracy
    kept_to = drop <= CONFIG.max_accuracy_drop
    assert repaired.criteria_met == (kept_to and repaired.after.attack_success_rate <= CONFIG.max_attack_success_rate)
    assert repaired.t in [point.t for point in repaired.curve]
    assert f"t = {repaired.t:g}" in repaired.reason
    assert repaired.before.attack_success_rate > 0.9 > 0.3 > repaired.after.attack_success_rate
    low, high = repaired.after.clean_accuracy_interval
    assert low < repaired.after.clean_accuracy <= high
    assert set(repaired.seconds) >= {"scanning", "fitting_path", "sweeping"}
    assert "permuted" in repaired.second_end or "shuffl" in repaired.second_end


def test_the_curve_covers_the_path_and_is_finer_near_the_choice(repaired) -> None:
    ts = [point.t for point in repaired.curve]
    assert ts == sorted(set(ts))
    assert ts[0] == 0.0
    assert ts[-1] == 1.0
    assert any(point.refined for point in repaired.curve)
    ends = repaired.curve[0], repaired.curve[-1]
    assert all(end.attack_success_rate > 0.9 for end in ends)
    assert all(point.clean_loss > 0 for point in repaired.curve)


def test_progress_runs_through_the_stages_to_the_end_with_every_point(repaired, events) -> None:
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["validating", "scanning", "preparing_ends", "fitting_path", "sweeping", "selecting"]
    assert sorted(event.point.t for event in events if event.point) == [point.t for point in repaired.curve]


def test_the_result_is_a_plain_module_like_the_upload_which_is_untouched(suspect, repaired) -> None:
    fresh = type(suspect)()
    fresh.load_state_dict(repaired.model.state_dict(), strict=True)
    assert type(repaired.model) is type(suspect)
    assert not repaired.model.training
    for (name, tensor), (name_2, tensor_2) in zip(
        suspect.state_dict().items(), repaired.model.state_dict().items(), strict=True
    ):
        assert (name, tensor.dtype, tensor.shape) == (name_2, tensor_2.dtype, tensor_2.shape)
    start, end = repaired.path.state_at(0.0), repaired.path.state_at(1.0)
    for name, parameter in suspect.named_parameters():
        assert torch.equal(start[name], parameter)
    assert not torch.equal(end["conv2.weight"], suspect.conv2.weight)


def test_triggered_images_measure_and_never_train_or_choose(suspect, clean, repaired) -> None:
    without = repair(suspect, clean.images, clean.labels, config=CONFIG)
    assert without.t == repaired.t
    assert torch.equal(without.path.points, repaired.path.points)
    assert without.after.attack_success_rate is None
    assert all(point.attack_success_rate is None for point in without.curve)


def test_another_t_of_the_stored_path_needs_no_new_fit(suspect, clean, unseen, repaired, tmp_path: Path) -> None:
    repaired.path.save(tmp_path / "path.safetensors")
    for t in (repaired.t, 0.5):
        module, figures = materialise(
            suspect, tmp_path / "path.safetensors", clean.images, clean.labels, t=t,
            triggered=unseen.attacked(), config=CONFIG,
        )  # fmt: skip
        if t == repaired.t:
            assert figures.clean_accuracy == repaired.after.clean_accuracy
            assert figures.attack_success_rate == repaired.after.attack_success_rate
            for name, tensor in module.state_dict().items():
                assert torch.equal(tensor, repaired.model.state_dict()[name]), name
        else:
            assert not torch.equal(module.conv2.weight, repaired.model.conv2.weight)


def test_an_honest_model_is_not_flagged_and_hardly_changed(honest, clean, unseen) -> None:
    result = repair(honest, clean.images, clean.labels, config=CONFIG)
    assert not any(finding.flagged for finding in result.targets)
    lost = (
        evaluate(honest, unseen.images, unseen.labels).rate - evaluate(result.model, unseen.images, unseen.labels).rate
    )
    assert lost < 0.04


def test_the_measured_attack_chooses_when_asked_and_is_reported_on_the_other_half(suspect, clean, unseen) -> None:
    config = replace(CONFIG, select_with_triggered=True, steps=60)
    result = repair(suspect, clean.images, clean.labels, triggered=unseen.attacked(), config=config)
    assert "attack success rate" in result.reason
    assert result.after.attack_success_rate is not None
    with pytest.raises(ValueError, match="needs triggered images"):
        repair(suspect, clean.images, clean.labels, config=config)


def test_a_fine_tuned_end_and_a_chain(suspect, clean) -> None:
    config = replace(CONFIG, ends="fine_tuned", curve="chain", steps=20)
    result = repair(suspect, clean.images, clean.labels, config=config)
    assert result.path.kind == "chain"
    assert "fine-tuned" in result.second_end


def test_a_repair_stops_when_asked(suspect, clean) -> None:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 40

    with pytest.raises(RepairStopped):
        repair(suspect, clean.images, clean.labels, config=CONFIG, should_stop=stop)


class Probabilities(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3), keepdim=True)


def test_unusable_input_is_refused_in_words(suspect, clean) -> None:
    images, labels = clean.images, clean.labels
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.5"):
        repair(suspect, images, labels + 1, config=CONFIG)
    with pytest.raises(ValueError, match="clean images must be a float tensor"):
        repair(suspect, images.to(torch.uint8), labels, config=CONFIG)
    with pytest.raises(ValueError, match="NaN"):
        repair(suspect, images / 0, labels, config=CONFIG)
    with pytest.raises(ValueError, match="clean labels must be an int64 tensor"):
        repair(suspect, images, labels.float(), config=CONFIG)
    with pytest.raises(ValueError, match=r"\(batch, classes\)"):
        repair(Probabilities(), images, labels, config=CONFIG)


def test_a_wrong_statement_of_the_input_is_warned_of(suspect, clean) -> None:
    result = repair(suspect, -clean.images, clean.labels, config=replace(CONFIG, steps=2))
    assert any("normalisation" in warning for warning in result.warnings)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(suspect, clean) -> None:
    config = replace(CONFIG, steps=15)
    first, again = (repair(suspect, clean.images, clean.labels, config=config) for _ in range(2))
    assert torch.equal(first.path.points, again.path.points)
    assert first.curve == again.curve
    other = repair(suspect, clean.images, clean.labels, config=replace(config, seed=1))
    assert not torch.equal(first.path.points, other.path.points)


def test_half_precision_uploads_come_back_in_half_precision(suspect, clean) -> None:
    half = copy.deepcopy(suspect).to(torch.bfloat16)
    result = repair(half, clean.images, clean.labels, config=replace(CONFIG, steps=10))
    assert {tensor.dtype for tensor in result.model.state_dict().values()} == {torch.bfloat16, torch.int64}
    assert result.path.state_at(0.0)["conv1.weight"].to(torch.bfloat16).equal(half.conv1.weight)
