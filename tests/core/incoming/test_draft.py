"""A network while it is read: what is folded, what stays, what things are called."""

import pytest
import torch

from core.incoming.draft import Draft
from core.networks.graph import IMAGE, BaselineError
from core.networks.models import scores


def begun(shared: bool = False) -> tuple[Draft, torch.nn.BatchNorm2d, torch.nn.Conv2d, str]:
    torch.manual_seed(0)
    draft, conv, norm = Draft((1, 6, 6)), torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4).eval()
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    x = draft.convolution("net/conv 1", IMAGE, conv.weight, conv.bias)
    y = draft.normalization("bn", x, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    y = draft.add("relu", "relu", y)
    if shared:
        y = draft.add("sum", "add", y, x)
    draft.add("unread", "relu", x)
    return draft, norm, conv, draft.add("flat", "flatten", y)


@torch.no_grad()
@pytest.mark.parametrize("shared", [False, True])
def test_a_normalization_is_folded_where_nothing_else_reads_its_layer(shared: bool) -> None:
    draft, norm, conv, flat = begun(shared)
    head = torch.nn.Linear(64, 10)
    output = draft.linear("head", flat, head.weight, head.bias)
    x = torch.randn(5, 1, 6, 6)
    y = norm(conv(x)).relu() + (conv(x) if shared else 0)
    torch.testing.assert_close(scores(*draft.finished(output), x), head(y.flatten(1)), rtol=1e-5, atol=1e-5)
    network, _ = draft.finished(output)
    assert ("bn" in network.named) == shared
    assert "unread" not in network.named
    assert network.layers[0].name == "net_conv_1"


def test_a_scale_behind_a_scale_becomes_one_unless_both_are_read() -> None:
    for shared in (False, True):
        draft = Draft((2, 3, 3))
        first = draft.affine("first", IMAGE, torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
        second = draft.affine("second", first, torch.tensor([5.0, 6.0]), torch.tensor([7.0, 8.0]))
        flat = draft.add("flat", "flatten", draft.add("sum", "add", second, first) if shared else second)
        head = torch.nn.Linear(18, 2)
        output, x = draft.linear("head", flat, head.weight, head.bias), torch.randn(5, 2, 3, 3)
        y = x * torch.tensor([5.0, 12.0]).view(2, 1, 1) + torch.tensor([22.0, 32.0]).view(2, 1, 1)
        if shared:
            y = y + x * torch.tensor([1.0, 2.0]).view(2, 1, 1) + torch.tensor([3.0, 4.0]).view(2, 1, 1)
        torch.testing.assert_close(scores(*draft.finished(output), x), head(y.flatten(1)), rtol=1e-5, atol=1e-4)
        scales = [each.name for each in draft.finished(output)[0].nodes if each.operation == "affine"]
        assert scales == (["first", "second"] if shared else ["first"])


def test_names_are_made_to_differ() -> None:
    draft = Draft((1, 6, 6))
    names = [draft.add(name, "relu", IMAGE) for name in ("a b", "a/b", "image", "")]
    assert names == ["a_b", "a_b_2", "image_2", "node"]


def test_an_image_alone_is_no_network() -> None:
    with pytest.raises(BaselineError, match="computes nothing"):
        Draft((1, 6, 6)).finished(IMAGE)


@torch.no_grad()
def test_affine_steps_one_after_another_are_one() -> None:
    draft, head = Draft((2, 1, 1)), torch.nn.Linear(2, 3)
    x = IMAGE
    for _ in range(3):
        x = draft.affine("scaling", x, torch.tensor([2.0, -1.0]), torch.tensor([0.5, 1.0]))
    output = draft.linear("head", draft.add("flat", "flatten", x), head.weight, head.bias)
    network, tensors = draft.finished(output)
    assert [node.operation for node in network.nodes] == ["affine", "flatten", "linear"]
    images = torch.randn(4, 2, 1, 1)
    scaled = images[:, :, 0, 0] * torch.tensor([8.0, -1.0]) + torch.tensor([3.5, 1.0])
    torch.testing.assert_close(scores(network, tensors, images), head(scaled))
