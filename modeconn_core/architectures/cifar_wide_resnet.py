"""Wide ResNets for small images (Zagoruyko and Komodakis 2016, arXiv:1605.07146), with two public sets of tensor names.

`naming="xternalz"`: block1.layer.0.convShortcut, fc (also NAD and most robustness code); the shortcut reads the
normalised activation, no convolution has a bias. `naming="meliketoy"`: layer1.0.shortcut.0, linear (also the published
mode-connectivity code); the shortcut reads the raw input, convolutions have biases, the stride sits on the second one.
"""

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.architectures.family import IN_CHANNELS, Family, Option, Options, Shapes, block_counts

SIZES = ((16, 1), (16, 2), (16, 4), (16, 8), (22, 8), (28, 2), (28, 4), (28, 10), (34, 10), (40, 1), (40, 2), (40, 4))
NAMINGS = ("xternalz", "meliketoy")


class SharedActivationBlock(nn.Module):
    """xternalz's block: where the shape changes, both branches start from the same BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.projects = inputs != outputs
        if self.projects:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        active = F.relu(self.bn1(x_BCHW))
        skip = self.convShortcut(active) if self.projects else x_BCHW
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + skip


class RawShortcutBlock(nn.Module):
    """meliketoy's block: the shortcut starts from the raw input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential() if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = self.conv1(F.relu(self.bn1(x_BCHW)))
        return self.conv2(F.relu(self.bn2(hidden))) + self.shortcut(x_BCHW)


class Stage(nn.Module):
    """xternalz keeps the blocks of a stage one name deeper, under `layer`."""

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__()
        self.layer = blocks

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.layer(x_BCHW)


class WideResNet(nn.Module):
    """Three stages of widen * (16, 32, 64) channels. Any input size, by global average pooling."""

    def __init__(self, depth: int, widen: int, *, num_classes: int, in_channels: int, naming: str) -> None:
        super().__init__()
        shared = naming == "xternalz"
        block = SharedActivationBlock if shared else RawShortcutBlock
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=not shared)
        self.stages = [f"{'block' if shared else 'layer'}{stage}" for stage in (1, 2, 3)]
        inputs = 16
        for stage, name in enumerate(self.stages):
            outputs = 16 * widen * 2**stage
            first = block(inputs, outputs, 2 if stage else 1)
            blocks = nn.Sequential(first, *(block(outputs, outputs, 1) for _ in range((depth - 4) // 6 - 1)))
            self.add_module(name, Stage(blocks) if shared else blocks)
            inputs = outputs
        self.bn1 = nn.BatchNorm2d(inputs)
        self.head_name = "fc" if shared else "linear"
        self.add_module(self.head_name, nn.Linear(inputs, num_classes))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.conv1(x_BCHW)
        for stage in self.stages:
            x_BCHW = getattr(self, stage)(x_BCHW)
        return getattr(self, self.head_name)(F.relu(self.bn1(x_BCHW)).mean((2, 3)))


def _guess(shapes: Shapes, depth: int, widen: int) -> Iterator[Options]:
    shared = "block1.layer.0.conv1.weight" in shapes
    flat = {name.replace(".layer.", ".", 1): shape for name, shape in shapes.items()} if shared else shapes
    stages = "block" if shared else "layer"
    stem, first = shapes.get("conv1.weight", ()), flat.get(f"{stages}1.0.conv1.weight", ())
    if len(stem) != 4 or len(first) != 4 or first[0] != 16 * widen:
        return
    if block_counts(flat, stages) == ((depth - 4) // 6,) * 3:
        yield {"in_channels": stem[1], "naming": "xternalz" if shared else "meliketoy"}


def _family(depth: int, widen: int) -> Family:
    def make(num_classes: int, in_channels: int = 3, naming: str = "xternalz") -> nn.Module:
        return WideResNet(depth, widen, num_classes=num_classes, in_channels=in_channels, naming=naming)

    return Family(
        name=f"wide_resnet{depth}_{widen}",
        make=make,
        options={"in_channels": IN_CHANNELS, "naming": Option(default="xternalz", accepts=NAMINGS)},
        guess=partial(_guess, depth=depth, widen=widen),
    )


FAMILIES = tuple(_family(depth, widen) for depth, widen in SIZES)
