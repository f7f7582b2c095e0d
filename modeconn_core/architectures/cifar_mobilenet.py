"""MobileNetV2 for small images (Sandler et al. 2018, arXiv:1801.04381), with two public sets of tensor names.

`naming="kuangliu"`: layers.N.conv1, a projected shortcut where the stride is 1, ReLU. `naming="chenyaofo"`:
torchvision's own network with two strides set to 1, so its tensors are those of `torchvision/mobilenet_v2`.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.architectures.family import IN_CHANNELS, Family, Option, Options, Shapes

# expansion, channels, blocks, stride
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
WIDTHS = (1.0, 0.5, 0.75, 1.4)


class ExpandBlock(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection; a shortcut wherever the size stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.conv1 = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.keeps_size = stride == 1
        self.shortcut = nn.Sequential()
        if self.keeps_size and inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(x_BCHW)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(hidden))
        return hidden + self.shortcut(x_BCHW) if self.keeps_size else hidden


class CifarMobileNetV2(nn.Module):
    """kuangliu's form. Any input size, by global average pooling."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks: list[nn.Module] = []
        inputs = 32
        for expansion, outputs, count, stride in STAGES:
            for index in range(count):
                blocks.append(ExpandBlock(inputs, outputs, expansion, 1 if index else stride))
                inputs = outputs
        self.layers = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(inputs, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.layers(F.relu(self.bn1(self.conv1(x_BCHW))))
        return self.linear(F.relu(self.bn2(self.conv2(x_BCHW))).mean((2, 3)))


def _make(num_classes: int, in_channels: int = 3, naming: str = "kuangliu", width: float = 1.0) -> nn.Module:
    if naming == "kuangliu":
        if width != 1.0:
            raise ValueError("width other than 1.0 exists with naming 'chenyaofo' only")
        return CifarMobileNetV2(num_classes=num_classes, in_channels=in_channels)
    with torch.device("cpu"):  # a first import inside a meta-device build would leave torchvision's constants there
        from torchvision.models import MobileNetV2
    if in_channels != 3:
        raise ValueError("in_channels other than 3 exists with naming 'kuangliu' only")
    stages = [list(stage) for stage in STAGES]
    model = MobileNetV2(num_classes=num_classes, width_mult=width, inverted_residual_setting=stages)
    model.features[0][0].stride = (1, 1)
    return model


def _guess(shapes: Shapes) -> Iterator[Options]:
    if "layers.0.conv1.weight" in shapes and len(shapes.get("conv1.weight", ())) == 4:
        yield {"in_channels": shapes["conv1.weight"][1]}
    last = shapes.get("features.17.conv.2.weight", ())
    if len(last) == 4:
        yield {"naming": "chenyaofo", "width": min(WIDTHS, key=lambda width: abs(320 * width - last[0]))}


FAMILIES = (
    Family(
        name="mobilenet_v2_cifar",
        make=_make,
        options={
            "in_channels": IN_CHANNELS,
            "naming": Option(default="kuangliu", accepts=("kuangliu", "chenyaofo")),
            "width": Option(default=1.0, accepts=WIDTHS),
        },
        guess=_guess,
    ),
)
