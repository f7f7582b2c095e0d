"""The second end of a path: what it is made of, and what is said where it cannot be made as asked."""

import pytest
import torch
from torch import Tensor, nn

from modeconn_core.architectures import build
from modeconn_core.endpoints import Endpoint, NoSymmetryError, permuted_copy, second_end

X = torch.randn(2, 3, 8, 8)


def network(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 5)
    )


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))


def never(module: nn.Module) -> None:
    raise AssertionError("fine-tuning was not asked for")


def add_one(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data.add_(1)


def make(module: nn.Module, kind: str = "permuted", **overrides: object) -> Endpoint:
    arguments = {"kind": kind, "example_input": X, "seed": 0, "fine_tune": never, "given": None, **overrides}
    return second_end(module, **arguments)  # type: ignore[arg-type]


def test_the_permuted_end_is_the_same_function_elsewhere() -> None:
    module = network().eval()
    end = make(module)
    assert end.kind == "permuted"
    assert end.share_moved > 0.9
    with torch.no_grad():
        before = module(X)
        module.load_state_dict(end.state_dict)
        torch.testing.assert_close(module(X), before, rtol=1e-5, atol=1e-5)


def test_a_residual_network_is_permuted_inside_its_blocks() -> None:
    module = build("preact_resnet18", 10, width=16)
    end = permuted_copy(module, torch.randn(2, 3, 32, 32), 0)
    assert "inside blocks" in end.description
    assert end.share_moved > 0.9
    stem = "conv1.weight"
    assert torch.equal(end.state_dict[stem], module.state_dict()[stem])


class OnlyAStream(nn.Module):
    """Nearly all weights sit between a residual stream and the output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.into, self.out = nn.Conv2d(3, 40, 3), nn.Conv2d(40, 2, 1), nn.Conv2d(2, 40, 1)
        self.head = nn.Linear(40, 50)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.out(self.into(x).relu())).mean((2, 3)))


def test_residual_streams_are_moved_where_the_blocks_hold_too_little() -> None:
    end = make(OnlyAStream())
    assert "residual streams included" in end.description
    assert end.share_moved > 0.9


def test_without_a_symmetry_the_fall_back_is_made_and_named() -> None:
    module = linear()
    end = make(module, fine_tune=add_one)
    assert end.kind == "fine_tuned"
    assert "no permuted copy could be made" in end.description
    assert "No interchangeable channels were found" in end.description
    assert torch.equal(end.state_dict["1.bias"], module.state_dict()["1.bias"] + 1)


def test_a_permuted_copy_without_a_symmetry_is_refused() -> None:
    with pytest.raises(NoSymmetryError, match="A fine-tuned copy can serve"):
        permuted_copy(linear(), X, 0)


class BarelyMovable(nn.Module):
    """A small hidden layer beside a large linear path."""

    def __init__(self) -> None:
        super().__init__()
        self.direct, self.down, self.up = nn.Linear(192, 5), nn.Linear(192, 2), nn.Linear(2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.direct(x) + self.up(self.down(x).relu())


def test_a_symmetry_that_moves_too_little_is_not_enough() -> None:
    with pytest.raises(NoSymmetryError, match=r"would move only 2\d\.\d% of the weights"):
        permuted_copy(BarelyMovable(), X, 0)


def test_a_fine_tuned_end_trains_a_copy() -> None:
    module = network()
    weight = module[0].weight.detach().clone()
    end = make(module, "fine_tuned", fine_tune=add_one)
    assert end.kind == "fine_tuned"
    assert torch.equal(module[0].weight, weight)
    assert torch.equal(end.state_dict["0.weight"], weight + 1)
    assert not end.state_dict["0.weight"].requires_grad


def test_a_given_model_whose_channels_lie_right_is_taken_as_it_is() -> None:
    module, other = network(), network()
    add_one(other)
    end = make(module, given=other)
    assert end.kind == "given"
    assert list(end.state_dict) == list(module.state_dict())
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in end.state_dict.items())
    assert end.as_given is None
    assert "another order" in str(end.alignment)


def test_a_given_model_is_aligned_and_kept_as_it_was_given_too() -> None:
    module, other = network(), network()
    for parameter in other.parameters():
        torch.manual_seed(parameter.numel())
        parameter.data = torch.randn_like(parameter)
    end = make(module, given=other.eval())
    assert not torch.equal(end.state_dict["0.weight"], other[0].weight)
    assert end.as_given is not None
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in end.as_given.items())
    assert "moved" in str(end.alignment)
    with torch.no_grad():
        before = other(X)
        other.load_state_dict(end.state_dict)
        torch.testing.assert_close(other(X), before, rtol=1e-4, atol=1e-4)


def test_a_permuted_copy_of_the_suspect_is_not_brought_back_onto_it() -> None:
    module, other = network().eval(), network()
    other.load_state_dict(permuted_copy(module, X, 3).state_dict)
    end = make(module, given=other)
    assert end.share_moved > 0.9
    assert end.as_given is None
    assert "no path" in str(end.alignment)


def test_a_given_model_without_symmetries_is_taken_as_it_is_and_says_so() -> None:
    module, other = linear(), linear()
    end = make(module, given=other)
    assert torch.equal(end.state_dict["1.weight"], other[1].weight)
    assert end.as_given is None
    assert "nothing could be aligned" in str(end.alignment)


def test_a_given_model_of_another_shape_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"0\.weight \(6, 3, 3, 3\) instead of \(8, 3, 3, 3\).* and 2 more"):
        make(network(), given=network(6))


def test_a_given_model_of_another_kind_is_refused_with_what_it_lacks_and_adds() -> None:
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5))
    with pytest.raises(ValueError, match=r"missing: 1\.weight.*not in the suspect: 2\.weight, 2\.bias"):
        make(network(), given=other)


def test_the_suspect_itself_is_no_second_model() -> None:
    module = network()
    with pytest.raises(ValueError, match="exactly the suspect's weights"):
        make(module, given=module)
