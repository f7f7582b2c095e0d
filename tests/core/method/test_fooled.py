"""Which images are shown as fooled by an inverted trigger."""

import torch
from torch import Tensor, nn

from modeconn_core.fooled import MOST_SHOWN, fooled_images
from modeconn_core.triggers import Patch


class ByTheFirstPixel(nn.Module):
    """Answers with the class that the first pixel names, and with class 0 where the last one is 9 and `backdoor`."""

    def __init__(self, *, backdoor: bool) -> None:
        super().__init__()
        self.backdoor = backdoor

    def forward(self, x: Tensor) -> Tensor:
        answers = x[:, 0, 0, 0].long()
        if self.backdoor:
            answers = torch.where(x[:, 0, -1, -1] == 9, 0, answers)
        return nn.functional.one_hot(answers, 4).float()


def corner_patch() -> Patch:
    mask = torch.zeros(1, 4, 4)
    mask[0, -1, -1] = 1
    return Patch(
        wanted=torch.zeros(4, dtype=torch.int64), success_rate=1.0, mask=mask, pattern=torch.full((1, 4, 4), 9.0)
    )


def images_of(*labels: int) -> tuple[Tensor, Tensor]:
    images = torch.zeros(len(labels), 1, 4, 4)
    images[:, 0, 0, 0] = torch.tensor(labels, dtype=torch.float32)
    return images, torch.tensor(labels)


def test_images_of_all_other_classes_are_shown_with_what_both_models_say() -> None:
    suspect, repaired = ByTheFirstPixel(backdoor=True), ByTheFirstPixel(backdoor=False)
    images, labels = images_of(1, 1, 1, 1, 1, 2, 3, 0)
    found = fooled_images(suspect, repaired, corner_patch(), images, labels)
    assert found is not None
    assert found.labels == found.repaired_says == [1, 2, 3, 1]
    assert found.taken_for == [0, 0, 0, 0]
    assert len(found.images) == MOST_SHOWN
    assert torch.equal(found.stamped[:, 0, -1, -1], torch.full((4,), 9.0))
    assert torch.equal(found.images[:, 0, -1, -1], torch.zeros(4))


def test_an_image_that_was_wrong_without_the_trigger_proves_nothing() -> None:
    images, labels = images_of(1, 2)
    images[:, 0, 0, 0] = 3
    model = ByTheFirstPixel(backdoor=True)
    assert fooled_images(model, model, corner_patch(), images, labels) is None


def test_there_are_none_where_the_trigger_does_not_work_or_nothing_is_left_to_fool() -> None:
    sound = ByTheFirstPixel(backdoor=False)
    assert fooled_images(sound, sound, corner_patch(), *images_of(1, 2)) is None
    assert fooled_images(sound, sound, corner_patch(), *images_of(0, 0)) is None
