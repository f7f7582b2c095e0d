"""Number types, layouts and the check for finite values, shared by the two model formats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from intake.limits import Limits
from intake.problems import is_plain_text, refusal, shown

if TYPE_CHECKING:
    import numpy as np

ITEM_BYTES: Final[dict[str, int]] = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "F16": 2, "BF16": 2, "F32": 4, "F64": 8,
}  # fmt: skip
"""Accepted safetensors dtypes and the bytes of one value."""

# A value is NaN or infinite exactly when all bits of its exponent are set.
_EXPONENT: Final[dict[str, tuple[str, int]]] = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}
_MAX_EXTENT = 2**31 - 1
_MAX_VALUES = 2**63 - 1


def check_name(name: object, limits: Limits) -> str:
    """The tensor's name, if it is one; raises `model-tensor-name-not-accepted`."""
    if not isinstance(name, str) or not name or len(name) > limits.max_name_chars or name == "__metadata__":
        raise refusal(
            "model-tensor-name-not-accepted",
            f"Tensor names are texts of 1 to {limits.max_name_chars} characters, not {shown(repr(name))}.",
            tensor=shown(name),
        )
    if not is_plain_text(name):
        raise refusal(
            "model-tensor-name-not-accepted",
            f"The name {shown(name)!r} holds control characters. Rename the tensor and save again.",
            tensor=shown(name),
        )
    return name


def check_shape(name: str, shape: object, limits: Limits) -> list[int]:
    """The shape as a list of non-negative ints; raises `model-too-many-dimensions` or `model-file-broken`."""
    if not isinstance(shape, list | tuple) or not all(type(n) is int and 0 <= n <= _MAX_EXTENT for n in shape[:64]):
        raise refusal("model-file-broken", f"The shape of {shown(name)!r} is not a list of sizes.", tensor=shown(name))
    if len(shape) > limits.max_dims:
        raise refusal(
            "model-too-many-dimensions",
            f"{shown(name)!r} has {len(shape)} dimensions; at most {limits.max_dims} are accepted.",
            tensor=shown(name),
        )
    # An empty tensor can have any other sizes; torch counts strides as if it were not empty.
    if math.prod(max(n, 1) for n in shape) > _MAX_VALUES:
        raise refusal("model-file-broken", f"The sizes of {shown(name)!r} overflow.", tensor=shown(name))
    return list(shape)


def dense_order(shape: Sequence[int], stride: Sequence[int]) -> list[int] | None:
    """Dimensions from outermost to innermost in memory, if the tensor fills its memory without gap or overlap.

    Contiguous tensors give 0..n-1; channels-last and transposed ones give another permutation; tensors with
    stride 0, with gaps or with overlaps give None.
    """
    if len(shape) != len(stride) or any(type(s) is not int for s in stride):
        return None
    moving = [d for d in range(len(shape)) if shape[d] != 1]
    if math.prod(shape) == 0:
        return list(range(len(shape)))
    expected = 1
    order: list[int] = []
    for dim in sorted(moving, key=lambda d: (stride[d], -d)):
        if stride[dim] != expected:
            return None
        expected *= shape[dim]
        order.insert(0, dim)
    # Dimensions of size 1 lie anywhere: put them where a contiguous tensor would have them.
    if order == moving:
        return list(range(len(shape)))
    return [d for d in range(len(shape)) if shape[d] == 1] + order


def check_finite(name: str, dtype: str, chunk: bytes | memoryview | np.ndarray) -> None:
    """Raise `model-tensor-not-finite` if the little-endian values in `chunk` hold NaN or infinity.

    Booleans are checked for being 0 or 1, as any other byte is undefined behaviour in torch.
    """
    import numpy as np

    if dtype == "BOOL":
        if np.frombuffer(chunk, np.uint8).max(initial=0) > 1:
            raise refusal(
                "model-file-broken", f"{shown(name)!r} is boolean but holds other values.", tensor=shown(name)
            )
        return
    if dtype not in _EXPONENT:
        return
    unsigned, mask = _EXPONENT[dtype]
    bits = np.frombuffer(chunk, unsigned)
    if bool(((bits & mask) == mask).any()):
        raise refusal(
            "model-tensor-not-finite",
            f"{shown(name)!r} holds NaN or infinity. A model that diverged in training cannot be repaired; "
            "upload a checkpoint from before that.",
            tensor=shown(name),
        )


def common_prefix(names: Sequence[str]) -> str:
    """The DataParallel or torch.compile prefix that all names share, such as "module." or "_orig_mod.", or ""."""
    prefix = ""
    while True:
        for part in ("module.", "_orig_mod."):
            if names and all(name.startswith(prefix + part) and len(name) > len(prefix + part) for name in names):
                prefix += part
                break
        else:
            return prefix
