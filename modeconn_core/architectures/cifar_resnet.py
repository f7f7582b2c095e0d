"""ResNets for small images: 3x3 stem, no pooling before the first stage. Three stages (6n+2) and four stages.

He et al. 2015, arXiv:1512.03385. Tensor names follow the public checkpoints:
`naming="kuangliu"` (shortcut, linear; also akamaster's ResNet-20 to -110, with `shortcut="pad"`) and
`naming="torchvision"` (downsample, fc; chenyaofo, timm and torchvision ResNets with the stem replaced).
"""

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.architectures.family import IN_CHANNELS, WIDTH_LIMIT, Family, Option, Options, Shapes, block_counts

NAMINGS = ("kuangliu", "torchvision")
SIX_N_PLUS_TWO = {depth: ((depth - 2) // 6,) * 3 for depth in (20, 32, 44, 56, 110)}
FOUR_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECKS = (50, 101, 152)


class PadShortcut(nn.Module):
    """Option A of the paper: every second pixel, new channels filled with zeros on both sides; no weights."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.before, self.after = new_channels // 2, new_channels - new_channels // 2

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.pad(x_BCHW[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Option B of the paper: a 1x1 convolution and BatchNorm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is kept under the checkpoint's own name for it."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: nn.Module, shortcut_name: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut_name = shortcut_name
        self.add_module(shortcut_name, shortcut)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(x_BCHW)))
        return F.relu(self.bn2(self.conv2(hidden)) + getattr(self, self.shortcut_name)(x_BCHW))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; the stride sits on the 3x3."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, shortcut: nn.Module, shortcut_name: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut_name = shortcut_name
        self.add_module(shortcut_name, shortcut)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(x_BCHW)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return F.relu(self.bn3(self.conv3(hidden)) + getattr(self, self.shortcut_name)(x_BCHW))


class CifarResNet(nn.Module):
    """Post-activation ResNet; stage s has width * 2^s channels. Any input size, by global average pooling."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        *,
        bottleneck: bool,
        num_classes: int,
        width: int,
        in_channels: int = 3,
        naming: str = "kuangliu",
        shortcut: str = "conv",
        max_pool: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if max_pool else nn.Identity()
        self.stages = [f"layer{stage + 1}" for stage in range(len(blocks))]
        block = Bottleneck if bottleneck else BasicBlock
        shortcut_name = "shortcut" if naming == "kuangliu" else "downsample"
        inputs = width
        for stage, count in enumerate(blocks):
            layers: list[nn.Module] = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                outputs = width * 2**stage * block.expansion
                skip: nn.Module = nn.Identity()
                if stride != 1 or inputs != outputs:
                    skip = PadShortcut(outputs - inputs) if shortcut == "pad" else projection(inputs, outputs, stride)
                layers.append(block(inputs, width * 2**stage, stride, skip, shortcut_name))
                inputs = outputs
            self.add_module(self.stages[stage], nn.Sequential(*layers))
        self.head_name = "linear" if naming == "kuangliu" else "fc"
        self.add_module(self.head_name, nn.Linear(inputs, num_classes))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.maxpool(F.relu(self.bn1(self.conv1(x_BCHW))))
        for stage in self.stages:
            x_BCHW = getattr(self, stage)(x_BCHW)
        return getattr(self, self.head_name)(x_BCHW.mean((2, 3)))


def _guess(shapes: Shapes, blocks: tuple[int, ...], bottleneck: bool) -> Iterator[Options]:
    stem = shapes.get("conv1.weight", ())
    if len(stem) != 4 or block_counts(shapes) != blocks:
        return
    if ("layer1.0.conv3.weight" in shapes) != bottleneck:
        return
    options: Options = {"width": stem[0], "in_channels": stem[1]}
    options["naming"] = "torchvision" if "fc.weight" in shapes else "kuangliu"
    if len(blocks) == 3:
        projects = any(".shortcut.0." in name or ".downsample.0." in name for name in shapes)
        yield {**options, "shortcut": "conv" if projects else "pad"}
        return
    yield options
    if options["naming"] == "torchvision" and stem[2:] == (3, 3):  # some keep the stem's max-pooling: no tensor tells
        yield {**options, "max_pool": True}


def _small(depth: int) -> Family:
    blocks = SIX_N_PLUS_TWO[depth]

    def make(
        num_classes: int,
        width: int = 16,
        in_channels: int = 3,
        naming: str = "kuangliu",
        shortcut: str = "pad",
    ) -> nn.Module:
        return CifarResNet(
            blocks,
            bottleneck=False,
            num_classes=num_classes,
            width=width,
            in_channels=in_channels,
            naming=naming,
            shortcut=shortcut,
        )

    return Family(
        name=f"resnet{depth}_cifar",
        make=make,
        options={
            "width": Option(default=16, accepts=WIDTH_LIMIT),
            "in_channels": IN_CHANNELS,
            "naming": Option(default="kuangliu", accepts=NAMINGS),
            "shortcut": Option(default="pad", accepts=("pad", "conv")),
        },
        guess=partial(_guess, blocks=blocks, bottleneck=False),
    )


def _large(depth: int) -> Family:
    blocks, bottleneck = FOUR_STAGES[depth], depth in BOTTLENECKS

    def make(
        num_classes: int,
        width: int = 64,
        in_channels: int = 3,
        naming: str = "kuangliu",
        max_pool: bool = False,
    ) -> nn.Module:
        return CifarResNet(
            blocks,
            bottleneck=bottleneck,
            num_classes=num_classes,
            width=width,
            in_channels=in_channels,
            naming=naming,
            max_pool=max_pool,
        )

    return Family(
        name=f"resnet{depth}_cifar",
        make=make,
        options={
            "width": Option(default=64, accepts=WIDTH_LIMIT),
            "in_channels": IN_CHANNELS,
            "naming": Option(default="kuangliu", accepts=NAMINGS),
            "max_pool": Option(default=False, accepts=(False, True)),
        },
        guess=partial(_guess, blocks=blocks, bottleneck=bottleneck),
    )


FAMILIES = (*map(_large, FOUR_STAGES), *map(_small, SIX_N_PLUS_TWO))
