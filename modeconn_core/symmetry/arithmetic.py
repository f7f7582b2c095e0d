"""Rules of operations that compute: elementwise, reductions, products, convolutions, normalisations, pooling."""

from __future__ import annotations

import re

from modeconn_core.symmetry.call import Axes, Call, Unsupported, fixed, frozen, pin_all, rule, tie_all
from modeconn_core.symmetry.layout import ONE, Fixed, free, mark_residual, pin, product, split_product, tie


@rule(
    "copy _to_copy alias detach lift_fresh _prelu_kernel log_sigmoid_forward rrelu_with_noise "
    "hardswish leaky_relu hardtanh elu celu selu mish hardsigmoid threshold "  # some versions do not tag them pointwise
    "_softmax _log_softmax _safe_softmax native_dropout bernoulli"
)
def pointwise(call: Call) -> list[Axes]:
    """Broadcast element by element. Softmax belongs here: permuting the dimension it sums over permutes its result."""
    shape = call.outputs[0].shape
    inputs = [t for t in call.tensors() if t.ndim]
    result: Axes = []
    for i, size in enumerate(shape):
        from_end = len(shape) - i
        terms = [(t, call.axes(t)[-from_end]) for t in inputs if t.ndim >= from_end and t.shape[-from_end] == size != 1]
        if not terms:
            result.append(free(size))
            continue
        for _, term in terms[1:]:
            tie(terms[0][1], term)
        if call.name in ("add", "add_", "sub", "sub_") and sum(call.from_input(t) for t, _ in terms) > 1:
            mark_residual(terms[0][1])
        result.append(terms[0][1])
    return [list(result) if out.shape == shape else frozen(out, call) for out in call.outputs]


@rule("empty zeros ones full new_empty new_zeros new_ones new_full rand randn empty_strided new_empty_strided")
@rule("empty_like zeros_like ones_like full_like rand_like randn_like")
def constant(call: Call) -> list[Axes]:
    """Every element alike: any permutation of any axis leaves the tensor as it is."""
    return [[free(size) for size in out.shape] for out in call.outputs]


@rule("fill zero bernoulli_ uniform normal")
def overwrite(call: Call) -> list[Axes]:
    return [call.axes(call.first())]


@rule("sum mean amax amin var std var_mean std_mean prod logsumexp linalg_vector_norm norm any all")
def reduction(call: Call) -> list[Axes]:
    x = call.first()
    gone = set(call.dims())
    axes = call.axes(x)
    if call.outputs[0].ndim == x.ndim:
        kept = [ONE if i in gone else axis for i, axis in enumerate(axes)]
    else:
        kept = [axis for i, axis in enumerate(axes) if i not in gone]
    return [list(kept) for _ in call.outputs]


@rule("max min")
def extremum(call: Call) -> list[Axes]:
    """Global or elementwise, or along a dimension; the latter also returns positions, so that dimension stays."""
    if "dim" not in call.args:
        return pointwise(call) if call.outputs[0].ndim else [[]]
    pin(call.axes(call.first())[call.dims()[0]])
    return reduction(call)


@rule("cumsum cumprod flip roll sort topk argsort")
def positional(call: Call) -> list[Axes]:
    """Operations along dimensions whose order matters."""
    x = call.first()
    dims = call.dims("dims" if "dims" in call.args else "dim")
    axes = call.axes(x)
    pin_all([axes[dim] for dim in dims])
    return [[Fixed(out.shape[i]) if i in dims else axis for i, axis in enumerate(axes)] for out in call.outputs]


@rule("argmax argmin")
def position_of(call: Call) -> list[Axes]:
    pin_all([call.axes(call.first())[dim] for dim in call.dims()])
    return reduction(call)


@rule("mm bmm addmm baddbmm mv addmv dot _addmm_activation linear")
def matrix_product(call: Call) -> list[Axes]:
    """Rows of the left factor, columns of the right one; the summed dimension is permuted alike in both."""
    *bias, left, right = call.tensors()
    if call.name == "linear":
        left, right, *bias = call.tensors()
    a, b = call.axes(left), call.axes(right)
    if call.name == "linear":
        b = b[::-1]
    rows, columns, batch = a[-2:-1], b[1:][-1:] if len(b) > 1 else [], a[:-2]
    tie(a[-1], b[-2] if len(b) > 1 else b[0])
    if len(b) == 3:
        tie(a[0], b[0])
    result = [*batch, *rows, *columns]
    for extra in bias:
        for axis, size, term in zip(reversed(result), reversed(extra.shape), reversed(call.axes(extra)), strict=False):
            if size != 1:
                tie(axis, term)
    return [result]


@rule("convolution _convolution cudnn_convolution mkldnn_convolution conv1d conv2d conv3d")
def convolution(call: Call) -> list[Axes]:
    x, weight = call.args["input" if "input" in call.args else "self"], call.args["weight"]
    bias = call.args.get("bias")
    groups, transposed = call.args["groups"], call.args.get("transposed", False)
    axes_x, axes_w = call.axes(x), call.axes(weight)
    if x.ndim != weight.ndim:
        raise Unsupported("unbatched convolution")
    pin_all([*axes_x[2:], *axes_w[2:]])
    grid, block = split_product(axes_w[0], groups)
    if transposed:
        tie(axes_x[1], axes_w[0])
        channels = product([grid, axes_w[1]])
    else:
        tie(axes_x[1], product([grid, axes_w[1]]))
        channels = product([grid, block])
    if bias is not None:
        tie(call.axes(bias)[0], channels)
    return [[axes_x[0], channels, *fixed(call.outputs[0])[2:]]]


@rule("native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_no_update")
@rule("_native_batch_norm_legit_functional _batch_norm_with_update cudnn_batch_norm batch_norm")
def batch_norm(call: Call) -> list[Axes]:
    x, *per_channel = call.tensors()
    axes = call.axes(x)
    for tensor in per_channel:
        tie(axes[1], call.axes(tensor)[0])
    return [
        list(axes) if out.shape == x.shape else [axes[1]] if out.shape == x.shape[1:2] else frozen(out, call)
        for out in call.outputs
    ]


@rule("native_layer_norm layer_norm rms_norm _fused_rms_norm")
def layer_norm(call: Call) -> list[Axes]:
    x, *affine = call.tensors()
    axes = call.axes(x)
    for tensor in affine:
        tie_all(call.axes(tensor), axes[-tensor.ndim :])
    moments = [*axes[: -len(call.args["normalized_shape"])], *[ONE] * len(call.args["normalized_shape"])]
    return [list(axes), *[moments for _ in call.outputs[1:]]]


@rule("native_group_norm group_norm")
def group_norm(call: Call) -> list[Axes]:
    """Whole groups may be permuted, and channels alike within every group."""
    x, *affine = call.tensors()
    axes = call.axes(x)
    groups = call.args["group" if "group" in call.args else "num_groups"]
    grid, block = split_product(axes[1], groups)
    axes[1] = product([grid, block])
    for tensor in affine:
        tie(axes[1], call.axes(tensor)[0])
    return [axes, *[[axes[0], grid] for _ in call.outputs[1:]]]


@rule("_weight_norm_interface")
def weight_norm(call: Call) -> list[Axes]:
    """v scaled by g / |v|, the norm over every dimension but `dim`; g keeps that dimension."""
    v, g = call.tensors()
    tie_all([a for a in call.axes(g) if a.size > 1], [a for a, n in zip(call.axes(v), g.shape, strict=True) if n > 1])
    return [call.axes(v), call.axes(g)]


@rule(
    "max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d"
)
@rule("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_max_pool2d adaptive_max_pool3d")
@rule("upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d")
@rule("_upsample_bilinear2d_aa _upsample_bicubic2d_aa upsample_linear1d reflection_pad2d replication_pad2d")
def spatial(call: Call) -> list[Axes]:
    """Works on the trailing one, two or three dimensions and leaves channels alone."""
    found = re.search(r"(\d)d", call.name)
    assert found is not None
    count = int(found[1])
    axes = call.axes(call.first())
    pin_all(axes[-count:])
    return [[*axes[:-count], *fixed(out)[-count:]] for out in call.outputs]
