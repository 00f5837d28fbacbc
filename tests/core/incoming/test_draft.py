"""A network while it is read: what is folded, what stays, what things are called."""

import pytest
import torch

from core.incoming.draft import Draft
from core.networks import graph
from core.networks.graph import IMAGE, BaselineError


def run(draft: Draft, output: str, x: torch.Tensor) -> torch.Tensor:
    network, tensors = draft.finished(output)

    def product(node, x):
        parts = ("weight", "bias") if node.weighted else ("scale", "shift")
        return node.row.torch(node, x, *(tensors[f"{node.name}.{part}"] for part in parts))

    return graph.run(network.nodes, x, product)


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
    torch.testing.assert_close(run(draft, output, x), head(y.flatten(1)), rtol=1e-5, atol=1e-5)
    network, _ = draft.finished(output)
    assert ("bn" in network.named) == shared
    assert "unread" not in network.named
    assert network.layers[0].name == "net_conv_1"


def test_names_are_made_to_differ() -> None:
    draft = Draft((1, 6, 6))
    names = [draft.add(name, "relu", IMAGE) for name in ("a b", "a/b", "image", "")]
    assert names == ["a_b", "a_b_2", "image_2", "node"]


def test_an_image_alone_is_no_network() -> None:
    with pytest.raises(BaselineError, match="computes nothing"):
        Draft((1, 6, 6)).finished(IMAGE)
