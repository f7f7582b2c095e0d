"""Rules of operations that only rearrange: views, cuts, joins, indexing."""

from __future__ import annotations

import torch

from modeconn_core.symmetry.call import Axes, Call, Unsupported, fixed, pin_all, rule, tie_all
from modeconn_core.symmetry.layout import (
    ONE,
    Fixed,
    Layout,
    concat,
    free,
    pin,
    product,
    split_concat,
    split_product,
    tie,
)


@rule("view _unsafe_view reshape _reshape_alias unflatten flatten")
def view(call: Call) -> list[Axes]:
    """Same elements in the same order, other dimensions."""
    if call.outputs[0].numel() != call.first().numel() or not call.first().numel():
        raise Unsupported("reinterpreted or empty tensor")
    rest = call.axes(call.first())
    result: Axes = []
    pending: Layout = ONE
    for size in call.outputs[0].shape:
        while pending.size % size:
            pending = product([pending, rest.pop(0)])
        axis, pending = split_product(pending, size)
        result.append(axis)
    return [result]


@rule("as_strided")
def as_strided(call: Call) -> list[Axes]:
    """Only where it changes nothing but the stride of dimensions of size 1, as pooling to 1 x 1 does."""
    shape, out = call.first().shape, call.outputs[0]
    same = [a == b for a, b, size in zip(call.strides, call.args["stride"], shape, strict=True) if size != 1]
    if out.shape != shape or not all(same) or call.args["storage_offset"] not in (None, call.first().storage_offset()):
        raise Unsupported("as_strided")
    return [call.axes(call.first())]


@rule("permute transpose t numpy_T swapaxes")
def transposition(call: Call) -> list[Axes]:
    axes = call.axes(call.first())
    if call.name == "permute":
        return [[axes[dim] for dim in call.dims("dims")]]
    if call.name == "transpose":
        a, b = call.dims("dim0")[0], call.dims("dim1")[0]
        axes[a], axes[b] = axes[b], axes[a]
        return [axes]
    return [axes[::-1]]


@rule("unsqueeze")
def unsqueeze(call: Call) -> list[Axes]:
    axes = call.axes(call.first())
    axes.insert(call.args["dim"] % (len(axes) + 1), ONE)
    return [axes]


@rule("squeeze")
def squeeze(call: Call) -> list[Axes]:
    gone = {dim for dim in call.dims() if call.first().shape[dim] == 1}
    return [[axis for i, axis in enumerate(call.axes(call.first())) if i not in gone]]


@rule("expand")
def expand(call: Call) -> list[Axes]:
    """A repeated element looks the same wherever it is."""
    axes, shape = call.axes(call.first()), call.outputs[0].shape
    axes = [ONE] * (len(shape) - len(axes)) + axes
    return [[axis if axis.size == size else free(size) for axis, size in zip(axes, shape, strict=True)]]


@rule("repeat")
def repeat(call: Call) -> list[Axes]:
    axes, times = call.axes(call.first()), call.args["repeats"]
    axes = [ONE] * (len(times) - len(axes)) + axes
    return [[product([free(count), axis]) for axis, count in zip(axes, times, strict=True)]]


@rule("select")
def select(call: Call) -> list[Axes]:
    axes = call.axes(call.first())
    axis = axes.pop(call.dims()[0])
    index = call.args["index"] % axis.size
    split_concat(axis, [index, 1, axis.size - index - 1])
    return [axes]


@rule("unbind")
def unbind(call: Call) -> list[Axes]:
    axes = call.axes(call.first())
    pin(axes.pop(call.dims()[0]))
    return [list(axes) for _ in call.outputs]


@rule("slice")
def slice_(call: Call) -> list[Axes]:
    axes, dim = call.axes(call.first()), call.dims()[0]
    size, kept = axes[dim].size, call.outputs[0].shape[dim]
    if kept == size:
        return [axes]
    if call.args["step"] != 1:
        pin(axes[dim])
        axes[dim] = Fixed(kept)
        return [axes]
    start = call.args["start"] or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    axes[dim] = split_concat(axes[dim], [start, kept, size - start - kept])[1]
    return [axes]


@rule("split split_with_sizes unsafe_split unsafe_split_with_sizes chunk unsafe_chunk tensor_split")
def split(call: Call) -> list[Axes]:
    axes, dim = call.axes(call.first()), call.dims()[0]
    parts = split_concat(axes[dim], [out.shape[dim] for out in call.outputs])
    return [[*axes[:dim], part, *axes[dim + 1 :]] for part in parts]


@rule("glu")
def gated(call: Call) -> list[Axes]:
    axes, dim = call.axes(call.first()), call.dims()[0]
    value, gate = split_concat(axes[dim], [axes[dim].size // 2] * 2)
    tie(value, gate)
    axes[dim] = value
    return [axes]


@rule("cat concat")
def cat(call: Call) -> list[Axes]:
    ndim = call.outputs[0].ndim
    dim = call.args["dim"] % ndim
    inputs = [call.axes(t) for t in call.tensors() if t.ndim == ndim and t.numel()]
    for other in inputs[1:]:
        tie_all(inputs[0][:dim] + inputs[0][dim + 1 :], other[:dim] + other[dim + 1 :])
    return [[*inputs[0][:dim], concat([axes[dim] for axes in inputs]), *inputs[0][dim + 1 :]]]


@rule("stack")
def stack(call: Call) -> list[Axes]:
    inputs = [call.axes(t) for t in call.tensors()]
    for other in inputs[1:]:
        tie_all(inputs[0], other)
    dim = call.args["dim"] % call.outputs[0].ndim
    return [[*inputs[0][:dim], Fixed(len(inputs)), *inputs[0][dim:]]]


@rule("constant_pad_nd")
def constant_pad(call: Call) -> list[Axes]:
    axes, pad = call.axes(call.first()), call.args["pad"]
    for i, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        if before < 0 or after < 0:
            raise Unsupported("negative padding")
        axes[-1 - i] = concat([free(before), axes[-1 - i], free(after)])
    return [axes]


@rule("embedding")
def embedding(call: Call) -> list[Axes]:
    rows, columns = call.axes(call.args["weight"])
    pin_all([rows, *call.axes(call.args["indices"])])
    return [[*fixed(call.outputs[0])[:-1], columns]]


@rule("index_select")
def index_select(call: Call) -> list[Axes]:
    axes, dim = call.axes(call.args["self"]), call.dims()[0]
    pin_all([axes[dim], *call.axes(call.args["index"])])
    axes[dim] = Fixed(call.outputs[0].shape[dim])
    return [axes]


@rule("index")
def index(call: Call) -> list[Axes]:
    """x[:, i, j]: the indexed dimensions stay where they are; adjacent ones are replaced in place, others come
    first."""
    axes, indices = call.axes(call.args["self"]), call.args["indices"]
    if any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices):
        raise Unsupported("boolean mask")
    used = [dim for dim, i in enumerate(indices) if i is not None]
    for dim in used:
        pin_all([axes[dim], *call.axes(indices[dim])])
    kept = [axis for dim, axis in enumerate(axes) if dim not in used]
    at = used[0] if used == list(range(used[0], used[-1] + 1)) else 0
    count = call.outputs[0].ndim - len(kept)
    return [[*kept[:at], *fixed(call.outputs[0])[at : at + count], *kept[at:]]]
