"""A network as it is trained: batch normalization folds away, and dropout acts on hidden linear layers alone."""

import pytest
import torch
from conftest import untrained
from hypothesis import given, settings
from random_networks import feature_maps, filled, graphs
from torch import Tensor, nn

from core.networks import families
from core.networks.graph import Network
from core.networks.models import Baseline
from core.networks.normalized import NormalizedNetwork
from core.networks.operations import NetworkError

FAMILIES = sorted(families.families())


@torch.no_grad()
def after_training(module: NormalizedNetwork) -> NormalizedNetwork:
    """Statistics and affine parameters that are not 0 and 1, ready to predict."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.2, 3)
            part.weight.normal_()
            part.bias.normal_()
    return module.eval()


@torch.no_grad()
def check_folded(module: NormalizedNetwork, x: Tensor) -> None:
    baseline = Baseline("folded", module.folded(), graph=module.network)
    expected = module(x)
    found = feature_maps(baseline, x)[baseline.network.output]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("name", FAMILIES)
def test_folding_changes_no_output_of_a_family(name: str) -> None:
    check_folded(after_training(untrained(name, dropout=0.3)), torch.randn(4, 1, 28, 28))


@settings(max_examples=30)
@given(graphs())
def test_folding_changes_no_output_of_a_random_network(network: Network) -> None:
    if network.affine_shapes:
        with pytest.raises(NetworkError, match="affine nodes is not trained from nothing"):
            NormalizedNetwork(network)
        return
    check_folded(after_training(NormalizedNetwork(network)), torch.randn(3, *network.shape))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_of_a_family_is_trained(name: str) -> None:
    module = untrained(name).train()
    module(torch.randn(8, 1, 28, 28)).square().mean().backward()
    assert all(own.grad is not None and own.grad.abs().sum() > 0 for own in module.parameters())
    convolutions = [layer for layer in module.network.layers if layer.kind == "conv"]
    assert sum(isinstance(part, nn.BatchNorm2d) for part in module.modules()) == len(convolutions)


@pytest.mark.parametrize("name", FAMILIES)
def test_dropout_acts_behind_hidden_linear_layers_while_training_and_nowhere_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, dropped = families.named(name).build((1, 28, 28), 10), list[tuple[int, ...]]()
    drop = nn.functional.dropout

    def see(x: Tensor, share: float, training: bool) -> Tensor:
        assert share == 0.3
        dropped.extend([tuple(x.shape)] if training else [])
        return drop(x, share, training)

    monkeypatch.setattr(nn.functional, "dropout", see)
    x = torch.randn(4, 1, 28, 28)
    module = NormalizedNetwork(network, 0.3)
    module.train()(x)
    hidden = [layer.shape[0] for layer in network.layers if layer.kind == "linear"][:-1]
    assert dropped == [(4, width) for width in hidden]
    dropped.clear()
    module.eval()(x)
    assert not dropped


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_begins_as_its_seed_says(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(untrained(name).state_dict())
    assert all(torch.equal(own, states[1][key]) for key, own in states[0].items())
    assert not all(torch.equal(own, states[2][key]) for key, own in states[0].items())
    assert filled(families.named(name).build((1, 28, 28), 10)).network == untrained(name).network
