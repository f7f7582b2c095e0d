"""Families by name: the tensor names of public checkpoints, published sizes, forward passes, refused options."""

import pytest
import torch

from modeconn_core.architectures import (
    ArchitectureError,
    OptionsNotAccepted,
    UnknownArchitecture,
    build,
    names,
    nearest,
)
from modeconn_core.architectures.registry import BUILT_IN

BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def batch_norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in BATCH_NORM]


def keys(name: str, **options: object) -> list[str]:
    with torch.device("meta"):
        return list(build(name, 10, **options).state_dict())


def parameters(name: str, **options: object) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(name, 10, **options).parameters())


def block_keys(at: str, order: tuple[str, ...]) -> list[str]:
    return [key for part in order for key in (batch_norm(at + part) if "bn" in part else [f"{at}{part}.weight"])]


def test_preact_resnet18_has_the_names_of_kuangliu_and_backdoorbench() -> None:
    expected = ["conv1.weight"]
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            expected += block_keys(f"layer{stage}.{block}.", ("bn1", "conv1", "bn2", "conv2"))
            if stage > 1 and block == 0:
                expected.append(f"layer{stage}.{block}.shortcut.0.weight")
    assert keys("preact_resnet18") == [*expected, "linear.weight", "linear.bias"]


@pytest.mark.parametrize(
    ("options", "shortcut", "head"),
    [
        pytest.param({"shortcut": "pad"}, None, "linear", id="akamaster"),
        pytest.param({"shortcut": "conv"}, "shortcut", "linear", id="akamaster option B"),
        pytest.param({"shortcut": "conv", "naming": "torchvision"}, "downsample", "fc", id="chenyaofo"),
    ],
)
def test_resnet20_has_the_names_of(options: dict[str, str], shortcut: str | None, head: str) -> None:
    expected = ["conv1.weight", *batch_norm("bn1")]
    for stage in (1, 2, 3):
        for block in (0, 1, 2):
            at = f"layer{stage}.{block}."
            expected += block_keys(at, ("conv1", "bn1", "conv2", "bn2"))
            if shortcut and stage > 1 and block == 0:
                expected += [f"{at}{shortcut}.0.weight", *batch_norm(f"{at}{shortcut}.1")]
    assert keys("resnet20_cifar", **options) == [*expected, f"{head}.weight", f"{head}.bias"]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_cifar_resnets_in_torchvision_naming_differ_from_torchvision_in_the_stem_only(name: str) -> None:
    with torch.device("meta"):
        ours = build(f"{name}_cifar", 10, naming="torchvision").state_dict()
        theirs = build(f"torchvision/{name}", 10).state_dict()
    assert list(ours) == list(theirs)
    assert [key for key in ours if ours[key].shape != theirs[key].shape] == ["conv1.weight"]
    assert ours["conv1.weight"].shape == (64, 3, 3, 3)


def test_vgg_heads_have_the_names_of_their_projects() -> None:
    assert [key for key in keys("vgg16_bn_cifar") if "classifier" in key] == ["classifier.weight", "classifier.bias"]
    for naming, layers in (("chenyaofo", (0, 3, 6)), ("chengyangfu", (1, 4, 6))):
        head = [key for key in keys("vgg16_bn_cifar", naming=naming) if "classifier" in key]
        assert head == [f"classifier.{layer}.{part}" for layer in layers for part in ("weight", "bias")]


def test_vgg16_body_has_the_names_of_torchvision() -> None:
    body = [key for key in keys("torchvision/vgg16_bn") if key.startswith("features")]
    assert [key for key in keys("vgg16_bn_cifar") if key.startswith("features")] == body


def test_wide_resnet_has_the_names_of_its_two_projects() -> None:
    first = keys("wide_resnet16_2")
    assert first[0] == "conv1.weight"
    assert first[1:14] == [
        *batch_norm("block1.layer.0.bn1"),
        "block1.layer.0.conv1.weight",
        *batch_norm("block1.layer.0.bn2"),
        "block1.layer.0.conv2.weight",
        "block1.layer.0.convShortcut.weight",
    ]
    assert first[-7:] == [*batch_norm("bn1"), "fc.weight", "fc.bias"]
    second = keys("wide_resnet16_2", naming="meliketoy")
    assert second[:2] == ["conv1.weight", "conv1.bias"]
    assert {"layer1.0.shortcut.0.bias", "layer3.1.conv2.bias", "linear.weight"} <= set(second)
    assert "layer1.1.shortcut.0.weight" not in second


def test_mobilenet_v2_has_the_names_of_its_two_projects() -> None:
    ours = keys("mobilenet_v2_cifar")
    assert ours[0] == "conv1.weight"
    assert {"layers.0.shortcut.1.running_var", "layers.16.conv3.weight", "conv2.weight", "linear.bias"} <= set(ours)
    assert keys("mobilenet_v2_cifar", naming="chenyaofo") == keys("torchvision/mobilenet_v2")


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("resnet20_cifar", {}, 269_722),
        ("resnet56_cifar", {}, 853_018),
        ("resnet20_cifar", {"shortcut": "conv", "naming": "torchvision"}, 272_474),
        ("resnet18_cifar", {}, 11_173_962),
        ("preact_resnet18", {}, 11_171_146),
        ("vgg16_bn_cifar", {}, 14_728_266),
        ("vgg16_bn_cifar", {"naming": "chenyaofo"}, 15_253_578),
        ("wide_resnet28_10", {}, 36_479_194),
        ("wide_resnet40_2", {}, 2_243_546),
        ("mobilenet_v2_cifar", {}, 2_296_922),
        ("mobilenet_v2_cifar", {"naming": "chenyaofo"}, 2_236_682),
    ],
)
def test_the_size_is_the_one_the_projects_state(name: str, options: dict[str, object], count: int) -> None:
    assert parameters(name, **options) == count


SMALL = [name for name in BUILT_IN if not name.endswith(("101", "152", "101_cifar", "152_cifar", "_10"))]


@pytest.mark.parametrize("name", SMALL)
def test_forward_and_backward_at_32_and_at_larger_images(name: str) -> None:
    model = build(name, 7)
    scores = model(torch.randn(2, 3, 32, 32))
    assert scores.shape == (2, 7)
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 48)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("preact_resnet18", {"width": 16, "in_channels": 1}),
        ("resnet18_cifar", {"width": 8, "naming": "torchvision", "max_pool": True}),
        ("resnet20_cifar", {"width": 4, "shortcut": "conv"}),
        ("vgg11_bn_cifar", {"width": 8, "naming": "chengyangfu"}),
        ("vgg11_bn_cifar", {"width": 8, "naming": "chenyaofo"}),
        ("wide_resnet16_1", {"naming": "meliketoy"}),
        ("mobilenet_v2_cifar", {"naming": "chenyaofo", "width": 0.5}),
        ("ibau_vgg", {"width": 8}),
    ],
)
def test_options_change_the_network_and_it_still_runs(name: str, options: dict[str, object]) -> None:
    model = build(name, 5, **options).eval()
    with torch.no_grad():
        assert model(torch.randn(2, options.get("in_channels", 3), 32, 32)).shape == (2, 5)
    assert parameters(name, **options) != parameters(name)


def test_mobilenet_keeps_the_resolution_of_small_images() -> None:
    seen: list[torch.Size] = []
    model = build("mobilenet_v2_cifar", 10, naming="chenyaofo").eval()
    model.features.register_forward_hook(lambda _, __, output: seen.append(output.shape))
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    assert seen == [(1, 1280, 4, 4)]


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/squeezenet1_1", "timm/resnet18.a1_in1k"])
def test_library_models_run(name: str) -> None:
    model = build(name, 6).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, 6)


def test_a_vision_transformer_takes_the_size_of_its_images() -> None:
    model = build("timm/vit_tiny_patch16_224", 6, img_size=32, patch_size=4).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, 6)


def test_auxiliary_heads_are_kept_but_training_sees_one_output() -> None:
    model = build("torchvision/googlenet", 4)
    assert "aux1.fc2.weight" in model.state_dict()
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 4)
    assert "aux1.fc2.weight" not in build("torchvision/googlenet", 4, aux_logits=False).state_dict()


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("preact_resnet18", {"wdith": 16}, "has no option 'wdith'. It accepts in_channels, width."),
        ("preact_resnet18", {"width": 0}, "a whole number from 1 to 1024"),
        ("preact_resnet18", {"width": True}, "width = True is not accepted"),
        ("preact_resnet18", {"width": 16.0}, "width = 16.0 is not accepted"),
        ("resnet20_cifar", {"naming": "mine"}, "one of 'kuangliu', 'torchvision'"),
        ("timm/resnet18", {"pretrained": True}, "has no option 'pretrained'"),
        ("timm/resnet18", {"checkpoint_path": "/etc/passwd"}, "has no option 'checkpoint_path'"),
        ("torchvision/resnet18", {"weights": "DEFAULT"}, "It accepts none."),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_accepted(name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(OptionsNotAccepted, match=says.replace(".", r"\.")):
        build(name, 10, **options)


@pytest.mark.parametrize("num_classes", [1, 0, -3, 10**9, 10.0, "10"])
def test_an_impossible_class_count_is_refused(num_classes: object) -> None:
    with pytest.raises(OptionsNotAccepted, match="num_classes"):
        build("resnet20_cifar", num_classes)


def test_an_option_the_library_refuses_is_named_with_its_reason() -> None:
    with pytest.raises(ArchitectureError, match=r"timm/resnet18 with \{'img_size': 64\} cannot be built"):
        build("timm/resnet18", 10, img_size=64)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("resnet18", ["resnet18_cifar", "torchvision/resnet18", "timm/resnet18"]),
        ("PreActResNet18", ["preact_resnet18"]),
        ("torchvision/resnet81", ["torchvision/resnet18"]),
        ("timm/vit_base_patch16_244", ["timm/vit_base_patch16_224"]),
        ("WideResNet28-10", ["wide_resnet28_10"]),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(typed: str, meant: list[str]) -> None:
    with pytest.raises(UnknownArchitecture, match="Did you mean") as refused:
        build(typed, 10)
    assert set(meant) <= set(refused.value.nearest)
    assert nearest(typed)[0] == meant[0] or len(meant) == 1


@pytest.mark.parametrize("name", ["", "hf-hub:someone/model", "timm/hf-hub:someone/model", "timm/../x", "zzzzqqqq"])
def test_a_name_that_is_no_name_builds_nothing(name: str) -> None:
    with pytest.raises(UnknownArchitecture):
        build(name, 10)


def test_names_lists_every_source_once() -> None:
    known = names()
    assert len(known) == len(set(known))
    assert {"preact_resnet18", "ibau_vgg", "torchvision/resnet18", "timm/resnet18"} <= set(known)
