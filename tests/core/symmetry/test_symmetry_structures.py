"""Channel symmetries, one small module per structural feature: what is found is what the structure allows."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.symmetry import Symmetries, find_symmetries, permute

X = torch.randn(2, 3, 8, 8)  # every module here takes these


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first, self.norm, self.second = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Conv2d(12, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.second(F.relu(self.norm(self.first(F.relu(x)))))
        return self.head(x.mean((2, 3)))


class PaddedShortcut(nn.Module):
    """ResNet-20's option A: stride by slicing, channels padded with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.branch(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        return self.head(x.mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, groups=12)
        self.down, self.up = nn.Conv2d(12, 6, 1), nn.Conv2d(6, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.depthwise(F.relu6(self.expand(x))))
        scale = F.hardsigmoid(self.up(F.silu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(F.adaptive_avg_pool2d(scale * x, 1).flatten(1))


class Dense(nn.Module):
    """Concatenation, and a flatten of concatenated maps in front of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 6, 3, padding=1), nn.BatchNorm2d(13)
        self.head = nn.Linear(13 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, torch.tanh(self.a(x))], 1)
        x = torch.cat([x, F.gelu(self.b(x))], 1)
        return self.head(F.max_pool2d(self.c(x), 2).flatten(1))


class Shuffle(nn.Module):
    """ShuffleNet: halves, a branch on one of them, concatenation, channel shuffle, halves again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.stem(x)).chunk(2, dim=1)
        x = torch.cat([a, F.relu(self.branch(b))], 1)
        x = x.view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8)
        _, b = x.chunk(2, dim=1)
        return self.head(F.relu(self.last(b)).mean((2, 3)))


class FusedAttention(nn.Module):
    """A transformer block as timm writes it: q, k, v in one linear layer."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 5, width))
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 20), nn.Linear(20, width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x[:, 0])


class TorchAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.layer = nn.TransformerEncoderLayer(12, 3, dim_feedforward=20, batch_first=True)
        self.mix, self.head = nn.MultiheadAttention(12, 4, batch_first=True), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.patch(x).flatten(2).transpose(1, 2))
        return self.head((x + self.mix(x, x, x, need_weights=False)[0]).mean(1))


class Functional(nn.Module):
    """No layer objects: weights in a list and a dict, used by functions, one written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(10, 3, 3, 3), torch.randn(5, 160)])
        self.scales = nn.ParameterDict({"gain": torch.rand(1, 10, 1, 1)})

    def forward(self, x: Tensor) -> Tensor:
        x = torch.conv2d(x, self.weights[0], padding=1)
        x = x.mul_(self.scales["gain"]).clamp_(-2, 2)
        out = torch.zeros(len(x), 10, 4, 4, dtype=x.dtype)
        out[:, :6] = F.avg_pool2d(x[:, :6], 2)
        out[:, 6:] += F.max_pool2d(x[:, 6:], 2)
        return torch.einsum("nk,ck->nc", out.flatten(1), self.weights[1])


class Tied(nn.Module):
    """One convolution used twice, so that its inputs and outputs must move alike."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)
        self.alias = self.shared

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(self.alias(F.relu(self.shared(x))).mean((2, 3)))


class AuxiliaryHead(nn.Module):
    """Two outputs while training, one in eval."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.aux, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), nn.Linear(8, 5)
        self.forgotten = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.relu(self.stem(x)).mean((2, 3))
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.PReLU(12),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(12 * 16, 20),
        nn.ELU(),
        nn.Linear(20, 5),
        nn.LogSoftmax(1),
    )


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3),
        nn.GroupNorm(2, 12),
        nn.SiLU(),
        nn.Conv2d(12, 24, 3, groups=4),
        nn.InstanceNorm2d(24, affine=True),
        nn.ConvTranspose2d(24, 12, 2, groups=2),
        nn.Upsample(scale_factor=2),
        nn.LeakyReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def weight_normed() -> nn.Module:
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Flatten(), norm(nn.Linear(8 * 36, 9)), nn.Linear(9, 5))


MOVABLE: dict[str, Callable[[], nn.Module]] = {
    "chain": chain,
    "grouped": grouped,
    "weight_normed": weight_normed,
    **{
        cls.__name__: cls
        for cls in (
            *(Residual, PaddedShortcut, SqueezeExcite, Dense, Shuffle, FusedAttention, TorchAttention),
            *(Functional, Tied, AuxiliaryHead),
        )
    },
}


@pytest.mark.parametrize("name", sorted(MOVABLE))
def test_structures_keep_their_function(name: str, assert_same_function: Callable[..., None]) -> None:
    torch.manual_seed(0)
    module = MOVABLE[name]()
    symmetries = find_symmetries(module, X)
    assert "dropped" not in symmetries.report
    assert "not followed" not in symmetries.report
    assert_same_function(module, symmetries, 8, least_moved=0.75)


def sizes(symmetries: Symmetries, name: str, dim: int) -> list[tuple[int, int, bool]]:
    """(channels, block, residual) of every group on one dimension of one tensor."""
    return [
        (group.size, placement.block, group.residual)
        for group in symmetries.groups
        for placement in group.placements
        if (placement.name, placement.dim) == (name, dim)
    ]


def test_flatten_gives_blocks_of_pixels() -> None:
    found = find_symmetries(chain(), X)
    assert sizes(found, "8.weight", 1) == [(12, 16, False)]


def test_residual_stream_is_told_from_the_channels_inside_the_block() -> None:
    found = find_symmetries(Residual(), X)
    assert sizes(found, "first.weight", 0) == [(12, 1, False)]
    assert sizes(found, "stem.weight", 0) == [(8, 1, True)]
    assert [group.size for group in found.inside_branches.groups] == [12]


def test_fused_attention_moves_whole_heads_and_within_them() -> None:
    found = find_symmetries(FusedAttention(width=12, heads=3), X)
    assert sorted(sizes(found, "qkv.weight", 0)) == [(3, 4, False), (4, 1, False)]
    assert sizes(found, "up.weight", 0) == [(20, 1, False)]


def test_group_norm_keeps_its_groups_together() -> None:
    found = find_symmetries(nn.Sequential(nn.Conv2d(3, 12, 1), nn.GroupNorm(3, 12), nn.Flatten(), nn.Linear(768, 5)), X)
    assert sorted(sizes(found, "0.weight", 0)) == [(3, 4, False), (4, 1, False)]


def test_input_and_output_stay_where_they_are() -> None:
    found = find_symmetries(Residual(), X)
    assert sizes(found, "stem.weight", 1) == []
    assert sizes(found, "head.weight", 0) == []
    assert sizes(found, "head.bias", 0) == []


def test_parts_that_no_run_uses_stay_where_they_are() -> None:
    found = find_symmetries(AuxiliaryHead(), X)
    assert sizes(found, "forgotten.weight", 1) == []
    assert sizes(found, "aux.weight", 1) == [(8, 1, False)]


def test_tied_tensors_are_moved_once_and_stay_tied() -> None:
    module = Tied()
    state = module.state_dict()
    moved = permute(state, find_symmetries(module, X), seed=0)
    assert moved["alias.weight"] is moved["shared.weight"]
    assert not torch.equal(moved["shared.weight"], state["shared.weight"])
