"""Channel symmetries of real architectures: nearly all weights move, the function stays."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision

from modeconn_core.architectures import build
from modeconn_core.symmetry import find_symmetries

Check = Callable[..., None]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("preact_resnet18", {"width": 16}),
        ("resnet20_cifar", {}),
        ("resnet18_cifar", {}),
        ("vgg11_bn_cifar", {}),
        ("wide_resnet40_2", {}),
        ("mobilenet_v2_cifar", {}),
        ("ibau_vgg", {}),
    ],
)
def test_cifar_families_move_nearly_all_weights(
    name: str, options: dict[str, int], assert_same_function: Check
) -> None:
    torch.manual_seed(0)
    module = build(name, 10, **options)
    symmetries = find_symmetries(module, torch.randn(2, 3, 32, 32))
    assert "dropped" not in symmetries.report
    assert_same_function(copy.deepcopy(module), symmetries, 32, least_moved=0.99)
    assert_same_function(module, symmetries.inside_branches, 32, least_moved=0.9)


@pytest.mark.parametrize(
    ("name", "least_moved"),
    [
        ("resnet18", 0.99),
        ("resnet50", 0.99),
        ("mobilenet_v2", 0.99),
        ("mobilenet_v3_small", 0.99),
        ("densenet121", 0.99),
        ("shufflenet_v2_x0_5", 0.95),
        ("efficientnet_b0", 0.99),
        ("convnext_tiny", 0.99),
        ("resnext50_32x4d", 0.99),
        ("swin_t", 0.99),
    ],
)
def test_torchvision(name: str, least_moved: float, assert_same_function: Check) -> None:
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, num_classes=10)
    symmetries = find_symmetries(module, torch.randn(2, 3, 32, 32))
    assert "dropped" not in symmetries.report
    assert_same_function(module, symmetries, 32, least_moved=least_moved)


def test_vision_transformers(assert_same_function: Check) -> None:
    for module in (
        timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10, depth=3),
        torchvision.models.VisionTransformer(32, 8, 2, 4, 48, 96, num_classes=10),
    ):
        symmetries = find_symmetries(module, torch.randn(2, 3, 32, 32))
        assert_same_function(module, symmetries, 32, least_moved=0.95)
