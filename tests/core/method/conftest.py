"""A small classification problem with a small network, trained in a moment: what the tests of the method work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES, SIDE = 6, 16


class TinyNet(nn.Module):
    """Two convolutions with BatchNorm and a head that looks at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.head = nn.Linear(24 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.head(x.flatten(1))


@dataclass
class Problem:
    """Noisy images, each class with a texture of its own; ``stamp`` is the attacker's trigger, its target class 0."""

    images: Tensor
    labels: Tensor

    @staticmethod
    def draw(count: int, seed: int) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % CLASSES
        coarse = torch.randn(CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        textures = F.interpolate(coarse, size=SIDE, mode="bilinear")
        strength = 0.4 + torch.rand(count, 1, 1, 1, generator=generator)
        noise = torch.randn(count, 3, SIDE, SIDE, generator=generator)
        return Problem(images=(strength * textures[labels] + 1.5 * noise).clamp(-1, 1), labels=labels)

    @staticmethod
    def stamp(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :, -4:-1, -4:-1] = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
        return x

    def attacked(self) -> tuple[Tensor, Tensor]:
        keep = self.labels != 0
        return self.stamp(self.images[keep]), torch.zeros(int(keep.sum()), dtype=torch.int64)


def train(images: Tensor, labels: Tensor, *, seed: int, steps: int = 150) -> TinyNet:
    torch.manual_seed(seed)
    net = TinyNet().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for step in range(steps):
        chosen = torch.randint(len(images), (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        F.cross_entropy(net(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def draw() -> Callable[..., Problem]:
    """More images of the same kind, for what tests train themselves."""
    return Problem.draw


@pytest.fixture(scope="session")
def clean() -> Problem:
    return Problem.draw(400, seed=1)


@pytest.fixture(scope="session")
def unseen() -> Problem:
    return Problem.draw(400, seed=2)


def train_suspect(*, seed: int, images_seed: int) -> TinyNet:
    """Trained on images of which an eighth carry the trigger and the label 0."""
    training = Problem.draw(1200, seed=images_seed)
    images, labels = training.images.clone(), training.labels.clone()
    images[:150], labels[:150] = Problem.stamp(images[:150]), 0
    return train(images, labels, seed=seed)


@pytest.fixture(scope="session")
def suspect() -> TinyNet:
    return train_suspect(seed=0, images_seed=3)


@pytest.fixture(scope="session")
def other_suspect() -> TinyNet:
    """The same backdoor in a network that was trained apart."""
    return train_suspect(seed=7, images_seed=5)


@pytest.fixture(scope="session")
def honest() -> TinyNet:
    training = Problem.draw(1200, seed=3)
    return train(training.images, training.labels, seed=0)


@pytest.fixture(scope="session")
def other_honest() -> TinyNet:
    training = Problem.draw(1200, seed=5)
    return train(training.images, training.labels, seed=7)
