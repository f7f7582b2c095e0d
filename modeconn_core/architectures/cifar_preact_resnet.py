"""Pre-activation ResNets for small images, with the tensor names of kuangliu's and BackdoorBench's checkpoints.

He et al. 2016, arXiv:1603.05027, in the form those projects train: the shortcut's 1x1 convolution reads the
normalised activation, and no BatchNorm follows the last block.
"""

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.architectures.cifar_resnet import BOTTLENECKS, FOUR_STAGES
from modeconn_core.architectures.family import IN_CHANNELS, WIDTH_LIMIT, Family, Option, Options, Shapes, block_counts


class PreActBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice; `shortcut` exists only where the shape changes."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.projects = stride != 1 or inputs != width
        if self.projects:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        active = F.relu(self.bn1(x_BCHW))
        skip = self.shortcut(active) if self.projects else x_BCHW
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + skip


class PreActBottleneck(nn.Module):
    """BatchNorm, ReLU, convolution of 1x1, 3x3, 1x1; `shortcut` exists only where the shape changes."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.projects = stride != 1 or inputs != 4 * width
        if self.projects:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        active = F.relu(self.bn1(x_BCHW))
        skip = self.shortcut(active) if self.projects else x_BCHW
        hidden = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return self.conv3(F.relu(self.bn3(hidden))) + skip


class PreActResNet(nn.Module):
    """Four stages of width * (1, 2, 4, 8) channels. Any input size, by global average pooling."""

    def __init__(
        self, blocks: tuple[int, ...], *, bottleneck: bool, num_classes: int, width: int, in_channels: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        block = PreActBottleneck if bottleneck else PreActBlock
        self.stages = [f"layer{stage + 1}" for stage in range(len(blocks))]
        inputs = width
        for stage, count in enumerate(blocks):
            layers: list[nn.Module] = []
            for index in range(count):
                layers.append(block(inputs, width * 2**stage, 2 if stage and not index else 1))
                inputs = width * 2**stage * block.expansion
            self.add_module(self.stages[stage], nn.Sequential(*layers))
        self.linear = nn.Linear(inputs, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv1(x_BCHW)
        for stage in self.stages:
            x_BCHW = getattr(self, stage)(x_BCHW)
        return self.linear(x_BCHW.mean((2, 3)))


def _guess(shapes: Shapes, blocks: tuple[int, ...], bottleneck: bool) -> Iterator[Options]:
    stem = shapes.get("conv1.weight", ())
    is_preact = "bn1.weight" not in shapes and "linear.weight" in shapes
    if len(stem) != 4 or not is_preact or block_counts(shapes) != blocks:
        return
    if ("layer1.0.conv3.weight" in shapes) == bottleneck:
        yield {"width": stem[0], "in_channels": stem[1]}


def _family(depth: int) -> Family:
    blocks, bottleneck = FOUR_STAGES[depth], depth in BOTTLENECKS

    def make(num_classes: int, width: int = 64, in_channels: int = 3) -> nn.Module:
        return PreActResNet(
            blocks, bottleneck=bottleneck, num_classes=num_classes, width=width, in_channels=in_channels
        )

    return Family(
        name=f"preact_resnet{depth}",
        make=make,
        options={"width": Option(default=64, accepts=WIDTH_LIMIT), "in_channels": IN_CHANNELS},
        guess=partial(_guess, blocks=blocks, bottleneck=bottleneck),
    )


FAMILIES = tuple(map(_family, FOUR_STAGES))
