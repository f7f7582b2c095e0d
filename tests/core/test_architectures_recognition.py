"""From tensors to names: round trips over families and libraries, published suspects, and what is said of misfits."""

import json
from typing import Any

import pytest
import torch

from modeconn_core.architectures import Candidate, Mismatch, build, check, index, make_index, recognise, strip_prefix

Tensors = dict[str, tuple[str, tuple[int, ...]]]


def tensors_of(name: str, num_classes: int = 10, **options: Any) -> Tensors:
    with torch.device("meta"):
        state = build(name, num_classes, **options).state_dict()
    return {key: (str(value.dtype).removeprefix("torch."), tuple(value.shape)) for key, value in state.items()}


def ibau_tensors() -> Tensors:
    """Names and shapes of the suspects published with I-BAU (checkpoint/badnets_8_02_ckpt.pth, under `net`)."""
    found: Tensors = {}
    convolutions = ((0, 32, 3), (3, 32, 32), (8, 64, 32), (11, 64, 64), (16, 128, 64), (19, 128, 128))
    for at, outputs, inputs in convolutions:
        found[f"features.{at}.weight"] = ("float32", (outputs, inputs, 3, 3))
        found[f"features.{at}.bias"] = ("float32", (outputs,))
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"features.{at + 1}.{part}"] = ("float32", (outputs,))
        found[f"features.{at + 1}.num_batches_tracked"] = ("int64", ())
    return found | {"classifier.weight": ("float32", (10, 2048)), "classifier.bias": ("float32", (10,))}


def test_the_published_ibau_suspects_are_recognised() -> None:
    assert recognise(ibau_tensors()) == [Candidate("ibau_vgg", 10, {})]


FAMILIES = [
    ("preact_resnet18", {}),
    ("preact_resnet18", {"width": 16}),
    ("preact_resnet34", {"in_channels": 1}),
    ("preact_resnet50", {}),
    ("resnet18_cifar", {}),
    ("resnet18_cifar", {"naming": "torchvision"}),
    ("resnet34_cifar", {"width": 32}),
    ("resnet50_cifar", {}),
    ("resnet20_cifar", {}),
    ("resnet20_cifar", {"shortcut": "conv"}),
    ("resnet32_cifar", {"naming": "torchvision", "shortcut": "conv"}),
    ("resnet44_cifar", {"width": 32}),
    ("resnet56_cifar", {}),
    ("vgg11_bn_cifar", {}),
    ("vgg13_bn_cifar", {"naming": "chenyaofo"}),
    ("vgg16_bn_cifar", {"naming": "chengyangfu"}),
    ("vgg19_bn_cifar", {"width": 16}),
    ("wide_resnet28_10", {}),
    ("wide_resnet40_2", {"naming": "meliketoy"}),
    ("wide_resnet16_1", {}),
    ("mobilenet_v2_cifar", {}),
    ("mobilenet_v2_cifar", {"naming": "chenyaofo"}),
    ("mobilenet_v2_cifar", {"naming": "chenyaofo", "width": 1.4}),
    ("ibau_vgg", {"width": 16}),
]


@pytest.mark.parametrize(("name", "options"), FAMILIES)
def test_a_family_is_recognised_with_its_options(name: str, options: dict[str, Any]) -> None:
    assert recognise(tensors_of(name, 10, **options))[0] == Candidate(name, 10, dict(sorted(options.items())))


LIBRARY = [
    "torchvision/resnet18",
    "torchvision/vgg16_bn",
    "torchvision/mobilenet_v3_large",
    "torchvision/densenet121",
    "torchvision/efficientnet_b0",
    "torchvision/convnext_tiny",
    "torchvision/vit_b_16",
    "torchvision/swin_t",
    "torchvision/squeezenet1_0",
    "torchvision/googlenet",
    "torchvision/inception_v3",
    "timm/vit_tiny_patch16_224",
    "timm/convnext_tiny",
    "timm/efficientnet_b3",
    "timm/deit_tiny_distilled_patch16_224",
    "timm/resnet26d",
]


@pytest.mark.parametrize("name", LIBRARY)
def test_a_library_model_is_recognised(name: str) -> None:
    found = recognise(tensors_of(name, 43))
    assert Candidate(name, 43, {}) in found
    assert found[0].name.startswith(name.partition("/")[0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("timm/vit_tiny_patch16_224", {"img_size": 32, "patch_size": 4}),
        ("torchvision/vit_b_16", {"image_size": 64}),
        ("torchvision/googlenet", {"aux_logits": False}),
        ("torchvision/inception_v3", {"aux_logits": False}),
    ],
)
def test_a_library_model_is_recognised_with_its_options(name: str, options: dict[str, Any]) -> None:
    assert Candidate(name, 10, options) in recognise(tensors_of(name, 10, **options))


def test_twins_are_all_named_and_the_image_size_decides_which_is_first() -> None:
    twins = tensors_of("torchvision/mobilenet_v2", 43)
    assert recognise(twins)[0].name == "torchvision/mobilenet_v2"
    assert recognise(twins, image_size=(224, 224))[0].name == "torchvision/mobilenet_v2"
    small = recognise(twins, image_size=(32, 32))
    assert small[0] == Candidate("mobilenet_v2_cifar", 43, {"naming": "chenyaofo"})
    assert "torchvision/mobilenet_v2" in [each.name for each in small]


def test_a_stem_with_max_pooling_is_named_as_the_second_possibility() -> None:
    found = recognise(tensors_of("resnet18_cifar", naming="torchvision"))
    assert [each.options for each in found] == [
        {"naming": "torchvision"},
        {"max_pool": True, "naming": "torchvision"},
    ]


def test_a_model_that_cannot_be_built_without_memory_is_recognised() -> None:
    state = build("torchvision/regnet_y_400mf", 43).state_dict()
    tensors = {key: (str(value.dtype), tuple(value.shape)) for key, value in state.items()}
    assert recognise(tensors)[0] == Candidate("torchvision/regnet_y_400mf", 43, {})


def test_torchvision_and_cifar_resnet18_are_told_apart_by_the_stem() -> None:
    assert {each.name for each in recognise(tensors_of("torchvision/resnet18"))} >= {
        "torchvision/resnet18",
        "timm/resnet18",
    }
    assert all(each.name == "resnet18_cifar" for each in recognise(tensors_of("resnet18_cifar")))


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("module.", ["module.conv1.weight", "module.fc.bias"]),
        ("_orig_mod.", ["_orig_mod.conv1.weight"]),
        ("module._orig_mod.", ["module._orig_mod.a", "module._orig_mod.b"]),
        ("_orig_mod.module.", ["_orig_mod.module.a"]),
        ("", ["module.a", "b"]),
        ("", []),
    ],
)
def test_strip_prefix_finds_what_wrappers_put_before_every_name(prefix: str, names: list[str]) -> None:
    assert strip_prefix(names) == prefix


def test_a_wrapped_half_precision_file_from_an_old_torch_is_recognised_and_loads() -> None:
    model = build("preact_resnet18", 10, width=4)
    state = {f"module.{key}": value.half() for key, value in model.state_dict().items() if "num_batches" not in key}
    tensors = {key: (str(value.dtype), tuple(value.shape)) for key, value in state.items()}
    assert recognise(tensors) == [Candidate("preact_resnet18", 10, {"width": 4})]
    assert check("preact_resnet18", 10, {"width": 4}, tensors) == []
    prefix = strip_prefix(state)
    build("preact_resnet18", 10, width=4).load_state_dict(
        {key.removeprefix(prefix): value for key, value in state.items()}, strict=True
    )


def test_safetensors_dtype_names_are_understood() -> None:
    written = {"float32": "F32", "int64": "I64"}
    tensors = {key: (written[dtype], shape) for key, (dtype, shape) in tensors_of("resnet20_cifar").items()}
    assert check("resnet20_cifar", 10, {}, tensors) == []


def test_check_names_every_tensor_that_does_not_fit_as_the_file_spells_it() -> None:
    tensors = {f"module.{key}": value for key, value in tensors_of("resnet20_cifar").items()}
    del tensors["module.bn1.running_mean"]
    tensors["module.conv1.weight"] = ("float32", (16, 3, 7, 7))
    tensors["module.layer1.0.conv1.weight"] = ("int8", (16, 16, 3, 3))
    tensors["module.total_ops"] = ("float64", (1,))
    assert check("resnet20_cifar", 10, {}, tensors) == [
        Mismatch("missing", "module.bn1.running_mean", (16,), None),
        Mismatch("shape", "module.conv1.weight", (16, 3, 3, 3), (16, 3, 7, 7)),
        Mismatch("dtype", "module.layer1.0.conv1.weight", "a floating dtype", "int8"),
        Mismatch("extra", "module.total_ops", None, (1,)),
    ]


def test_check_against_another_class_count_names_the_head() -> None:
    wrong = check("preact_resnet18", 43, {}, tensors_of("preact_resnet18", 10))
    assert [(each.tensor, each.expected, each.found) for each in wrong] == [
        ("linear.weight", (43, 512), (10, 512)),
        ("linear.bias", (43,), (10,)),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"extra.weight": ("float32", (3,))},
        {"conv1.weight": ("float32", (64, 3, 5, 5))},
        {"linear.weight": ("float32", (11, 512))},
        {"linear.weight": ("float32", ())},
    ],
)
def test_tensors_that_fit_nothing_are_not_recognised(change: Tensors) -> None:
    assert recognise(tensors_of("preact_resnet18") | change) == []


def test_nothing_and_a_language_model_are_not_recognised() -> None:
    assert recognise({}) == []
    assert (
        recognise({"wte.weight": ("float32", (50257, 768)), "h.0.attn.c_attn.weight": ("float32", (768, 2304))}) == []
    )


def test_the_committed_index_is_what_its_maker_makes() -> None:
    committed = json.loads(index.PATH.read_text())["groups"]
    names = ("torchvision/resnet18", "timm/resnet18", "timm/resnetblur18", "timm/vit_tiny_patch16_224")
    for key, groups in make_index.groups_of((name, {}) for name in names).items():
        for made, kept in zip(groups, committed[key], strict=True):
            assert made["head"] == kept["head"]
            for kind in ("same", "resized"):
                assert all(set(twins) <= set(kept[kind][shapes]) for shapes, twins in made[kind].items())


def test_recognition_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    recognise(tensors_of("resnet32_cifar", width=12))
    assert torch.equal(torch.rand(3), expected)
