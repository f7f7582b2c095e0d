"""torchvision's and timm's classifiers as families: `torchvision/<name>`, `timm/<name>`. Never downloads weights.

Both libraries are imported at first need only. Auxiliary heads (googlenet, inception_v3) are built where the file has
them, so that it round-trips, but forward returns the main logits alone: training and evaluation see one output.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from math import isqrt
from typing import Any

from torch import Tensor, nn

from modeconn_core.architectures.errors import UnknownArchitecture
from modeconn_core.architectures.family import IN_CHANNELS, Family, Option, Options, Shapes, no_guess

TORCHVISION, TIMM = "torchvision/", "timm/"
AUXILIARY = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}
IMAGE_SIZES, PATCH_SIZES = range(8, 1025), range(1, 65)
POSITIONS = ("pos_embed", "encoder.pos_embedding")
PATCHES = ("patch_embed.proj.weight", "conv_proj.weight")


@lru_cache(maxsize=1)
def torchvision_names() -> tuple[str, ...]:
    """Names of torchvision's classifiers, sorted, without the prefix. Imports torchvision."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


@lru_cache(maxsize=1)
def timm_names() -> tuple[str, ...]:
    """Names of timm's models, sorted, without the prefix and weight tags. Imports timm."""
    import timm

    return tuple(timm.list_models())


def _main_logits_only(base: type[nn.Module]) -> type[nn.Module]:
    """The class with a forward that drops the auxiliary outputs of training mode."""

    def forward(self: nn.Module, x_BCHW: Tensor) -> Tensor:
        outputs = base.forward(self, x_BCHW)
        return outputs[0] if isinstance(outputs, tuple) else outputs

    return type(base.__name__, (base,), {"forward": forward, "__doc__": base.__doc__})


def _make_torchvision(num_classes: int, model_name: str, **options: Any) -> nn.Module:
    import torchvision

    if model_name not in AUXILIARY:
        return torchvision.models.get_model(model_name, weights=None, num_classes=num_classes, **options)
    base = torchvision.models.GoogLeNet if model_name == "googlenet" else torchvision.models.Inception3
    return _main_logits_only(base)(num_classes=num_classes, init_weights=True, **options)


def _make_timm(num_classes: int, model_name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(model_name, pretrained=False, num_classes=num_classes, **options)


def _guess_auxiliary(shapes: Shapes, prefix: str) -> Iterator[Options]:
    yield {"aux_logits": any(name.startswith(prefix) for name in shapes)}


def grid_options(shapes: Shapes, default: Shapes, *, size_option: str, patch_option: str | None) -> Options:
    """Image and patch size of a vision transformer, from its position embedding and patch convolution.

    `default` holds the shapes with default options: it tells how many tokens are not patches (class, registers).
    Returns {} where the tensors hold no such pair.
    """
    position = next((name for name in POSITIONS if name in shapes and name in default), None)
    patches = next((name for name in PATCHES if name in shapes and name in default), None)
    if position is None or patches is None:
        return {}
    shape, usual, patch = shapes[position], default[position], shapes[patches]
    if len(shape) != 3 or len(usual) != 3 or len(patch) != 4 or patch[2] != patch[3]:
        return {}
    extra = usual[1] - isqrt(usual[1]) ** 2
    side = isqrt(max(0, shape[1] - extra))
    if side * side + extra != shape[1] or side * patch[2] not in IMAGE_SIZES:
        return {}
    options: Options = {size_option: side * patch[2]}
    if patch_option is not None:
        options[patch_option] = patch[2]
    return options


def torchvision_family(name: str) -> Family:
    """The family `torchvision/<name>`. Raises UnknownArchitecture."""
    model_name = name.removeprefix(TORCHVISION)
    if model_name not in torchvision_names():
        raise UnknownArchitecture(name, [])
    options: dict[str, Option] = {}
    guess: Callable[[Shapes], Any] = no_guess
    if model_name in AUXILIARY:
        options["aux_logits"] = Option(default=True, accepts=(True, False))
        options["transform_input"] = Option(default=False, accepts=(True, False))
        guess = partial(_guess_auxiliary, prefix=AUXILIARY[model_name])
    if model_name.startswith("vit_"):
        options["image_size"] = Option(default=None, accepts=IMAGE_SIZES)
        guess = partial(_guess_grid, name=name, size_option="image_size", patch_option=None)
    return Family(name=name, make=partial(_make_torchvision, model_name=model_name), options=options, guess=guess)


def timm_family(name: str) -> Family:
    """The family `timm/<name>`; a weight tag (`resnet18.a1_in1k`) is dropped. Raises UnknownArchitecture."""
    model_name = name.removeprefix(TIMM).partition(".")[0]
    if model_name not in timm_names():
        raise UnknownArchitecture(name, [])
    options = {
        "img_size": Option(default=None, accepts=IMAGE_SIZES),
        "patch_size": Option(default=None, accepts=PATCH_SIZES),
        "in_chans": IN_CHANNELS,
    }
    guess = partial(_guess_grid, name=TIMM + model_name, size_option="img_size", patch_option="patch_size")
    return Family(name=TIMM + model_name, make=partial(_make_timm, model_name=model_name), options=options, guess=guess)


def _guess_grid(shapes: Shapes, name: str, size_option: str, patch_option: str | None) -> Iterator[Options]:
    from modeconn_core.architectures.signature import signature  # signatures are built from families

    if not any(position in shapes for position in POSITIONS):
        yield {}
        return
    usual = signature(name).shapes
    if all(shapes.get(tensor) == usual.get(tensor) for tensor in (*POSITIONS, *PATCHES)):
        yield {}
        return
    options = grid_options(shapes, usual, size_option=size_option, patch_option=patch_option)
    if options:
        yield options
