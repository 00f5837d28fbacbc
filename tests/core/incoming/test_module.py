"""A module and the network that is read from it put out the same scores, or the module is refused in words."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from core.incoming import module
from core.incoming.module import Read
from core.networks import models
from core.networks.graph import BaselineError

Shape = tuple[int, int, int]


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """With weights and statistics that leave no step without effect."""
    torch.manual_seed(0)
    net = make()
    for own in net.modules():
        if isinstance(own, nn.modules.batchnorm._BatchNorm) and own.running_mean is not None:
            own.running_mean.uniform_(-0.5, 0.5)
            own.running_var.uniform_(0.5, 2)
            if own.affine:
                own.weight.data.uniform_(-1, 1.5)
                own.bias.data.uniform_(-0.5, 0.5)
    return net


@torch.no_grad()
def same(net: nn.Module, shape: Shape, given: Shape | tuple[int, ...] | None = None) -> Read:
    """Read, with the scores compared: on images (5, *shape), which the module gets as (5, *given)."""
    found = module.read(net, shape)
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))

    assert net.training
    expected = net.eval()(x.reshape(5, *(given or shape)))
    net.train()
    scores = models.scores(found.network, found.tensors, x)
    torch.testing.assert_close(scores, expected.flatten(1), rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    return found


class Of(nn.Module):
    """A forward of a few lines, with these parts; `Of(lambda net, x: ..., fc=nn.Linear(4, 3))`."""

    def __init__(self, compute: Callable[["Of", Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def head(compute: Callable[["Of", Tensor], Tensor], features: int, **parts: nn.Module) -> Of:
    """With a linear layer for 3 classes behind it."""
    return Of(lambda net, x: net.head(compute(net, x).flatten(1)), **parts, head=nn.Linear(features, 3))


def conv(inputs: int, outputs: int, size: int = 3, **settings: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, **({"padding": size // 2} | settings))


def block(inputs: int, outputs: int, *more: nn.Module) -> list[nn.Module]:
    return [conv(inputs, outputs, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), *more]


# Networks of known shapes.


class Residual(nn.Module):
    """He et al. 2016, with the shortcut as a 1 x 1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, stride=stride, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, bias=False)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return F.relu(out)


class PreActivation(Residual):
    """Normalization and ReLU before the convolutions (He et al. 2016b)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(inputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x), inplace=True)
        return self.conv2(F.relu(self.bn2(self.conv1(y)), inplace=True)) + self.shortcut(y)


def resnet(kind: type[Residual] = Residual, blocks: int = 3) -> nn.Module:
    widths = [4] * (blocks + 1) + [8] * blocks + [16] * blocks
    steps = [kind(i, o, 1 + (i != o)) for i, o in pairwise(widths)]
    return nn.Sequential(*block(1, 4), nn.Sequential(*steps), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


class Inverted(nn.Module):
    """Sandler et al. 2018."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = 2 * inputs
        self.adds = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            conv(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(inplace=True),
            conv(inner, inner, stride=stride, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(inplace=True),
            conv(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class Fire(nn.Module):
    """Iandola et al. 2016."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.squeeze, self.narrow, self.wide = conv(inputs, inner, 1), conv(inner, outputs, 1), conv(inner, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.narrow(x)), torch.relu(self.wide(x))], 1)


class Tutorial(nn.Module):
    """In the style of PyTorch's first convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, 1), nn.Conv2d(4, 8, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.fc1, self.fc2 = nn.Linear(8 * 5 * 5, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(x.view(-1, 8 * 5 * 5)))
        return self.fc2(F.dropout(x, training=self.training))


KNOWN: dict[str, tuple[Callable[[], nn.Module], Shape, int]] = {
    "a network of linear layers": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 10)), (1, 8, 8), 2
    ),
    "the tutorial's": (Tutorial, (1, 14, 14), 4),
    "LeNet-5": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Sigmoid(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 20), nn.Sigmoid(), nn.Linear(20, 10),
        ), (1, 16, 16), 4,
    ),
    "VGG": (
        lambda: nn.Sequential(
            *block(3, 4), *block(4, 4, nn.MaxPool2d(2)), *block(4, 8), *block(8, 8, nn.MaxPool2d(2)),
            nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(8, 10),
        ), (3, 8, 8), 5,
    ),
    "ResNet-20": (resnet, (1, 8, 8), 22),
    "pre-activation": (partial(resnet, PreActivation, 1), (1, 8, 8), 10),
    "MobileNetV2": (
        lambda: nn.Sequential(
            *block(3, 4), Inverted(4, 4, 1), Inverted(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)
        ), (3, 8, 8), 8,
    ),
    "SqueezeNet": (
        lambda: nn.Sequential(
            conv(1, 4), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(4, 2, 3), Fire(6, 2, 4), conv(8, 10, 1),
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ), (1, 8, 8), 8,
    ),
    "signals": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 5, stride=2, padding=2), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 6, 3),
            nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 4),
        ), (2, 1, 32), 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "layers"), KNOWN.values(), ids=KNOWN)
def test_a_network_puts_out_the_scores_of_the_module(make: Callable[[], nn.Module], shape: Shape, layers: int) -> None:
    net = made(make)
    state = {name: own.clone() for name, own in net.state_dict().items()}
    found = same(net, shape, (2, 32) if shape == (2, 1, 32) else None)
    assert len(found.network.layers) == layers
    assert {layer.name for layer in found.network.layers} <= {name.rpartition(".")[0] for name in state}
    assert all(torch.equal(own, state[name]) for name, own in net.state_dict().items())
    assert not found.notes


def test_layers_keep_their_names_and_normalization_is_folded() -> None:
    found = same(made(partial(resnet, blocks=1)), (1, 8, 8))
    assert [layer.name for layer in found.network.layers][:4] == ["0", "3.0.conv1", "3.0.conv2", "3.1.conv1"]
    assert "affine" not in {node.operation for node in found.network.nodes}
    before = same(made(partial(resnet, PreActivation, 1)), (1, 8, 8)).network
    assert before.named["3.0.bn1"].operation == "affine"


# Spellings.

SPELLED: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "activations": (
        lambda: head(
            lambda net, x: F.gelu(F.hardswish(torch.tanh(F.leaky_relu(F.relu6(net.conv(x)), 0.2)).sigmoid())),
            128, conv=conv(2, 2),
        ), ["convolution", "clip", "leaky_relu", "tanh", "sigmoid", "hard_swish", "gelu", "flatten", "linear"],
    ),
    "bounds": (
        lambda: head(
            lambda net, x: F.threshold(F.hardtanh(net.conv(x).clamp(-2, 2)).clip(0, 0.5).clamp_min(0), 0, 0), 128,
            conv=conv(2, 2),
        ), ["convolution", "clip", "clip", "clip", "relu", "relu", "flatten", "linear"],
    ),
    "PReLU of one slope": (
        lambda: head(lambda net, x: net.act(net.conv(x)), 128, conv=conv(2, 2), act=nn.PReLU()),
        ["convolution", "leaky_relu", "flatten", "linear"],
    ),
    "same padding, groups and gaps": (
        lambda: head(lambda net, x: net.conv(x), 256, conv=conv(2, 4, 4, padding="same", groups=2, dilation=2)),
        ["convolution", "flatten", "linear"],
    ),
    "padding before a convolution": (
        lambda: head(lambda net, x: net.conv(F.pad(x, (1, 2, 0, 1))), 126, conv=nn.Conv2d(2, 2, 3)),
        ["convolution", "flatten", "linear"],
    ),
    "normalization of images": (
        lambda: head(lambda net, x: 1 - 2 * (x - torch.tensor([0.1, 0.2]).view(2, 1, 1)) / 0.5, 128),
        ["affine", "flatten", "linear"],
    ),
    "products": (
        lambda: Of(
            lambda net, x: torch.addmm(net.b.bias, (x.flatten(1) @ net.a.weight.t()).relu(), net.b.weight.t()),
            a=nn.Linear(128, 4), b=nn.Linear(4, 3),
        ), ["flatten", "linear", "relu", "linear"],
    ),
    "sums and differences": (
        lambda: head(
            lambda net, x: sum([net.a(x), net.b(x)]) - torch.add(x, x, alpha=2), 128, a=conv(2, 2), b=conv(2, 2)
        ),
        ["convolution", "convolution", "add", "affine", "add", "affine", "add", "flatten", "linear"],
    ),
    "means": (
        lambda: head(lambda net, x: x.mean((-1, -2)) + x.mean((2, 3), keepdim=True).flatten(1) + x.mean(3).mean(2), 2),
        ["global_average_pool", "global_average_pool", "add", "average_pool", "global_average_pool", "add", "flatten",
         "linear"],
    ),
    "maxima": (
        lambda: head(lambda net, x: x.amax((2, 3), keepdim=True) + F.adaptive_max_pool2d(x, 1), 2),
        ["max_pool", "max_pool", "add", "flatten", "linear"],
    ),
    "pools": (
        lambda: head(
            lambda net, x: F.adaptive_avg_pool2d(F.avg_pool2d(F.max_pool2d(x, 3, 2, 1), 3, 1, 1, False, False), 2), 8
        ), ["max_pool", "average_pool", "average_pool", "flatten", "linear"],
    ),
    "shapes": (
        lambda: head(lambda net, x: _reshaped(net.conv(_reshaped_back(x)).mean((2, 3))), 2, conv=conv(2, 2)),
        ["convolution", "global_average_pool", "flatten", "linear"],
    ),
    "features in channels": (
        lambda: head(lambda net, x: net.bn(net.conv(x).flatten(2)).mean(2), 2, conv=conv(2, 2), bn=nn.BatchNorm1d(2)),
        ["convolution", "global_average_pool", "flatten", "linear"],
    ),
    "normalization of features": (
        lambda: head(lambda net, x: net.bn(x.flatten(1)), 128, bn=nn.BatchNorm1d(128, affine=False)),
        ["flatten", "affine", "linear"],
    ),
    "in place": (
        lambda: head(lambda net, x: _changed_in_place(net.conv(x)), 128, conv=conv(2, 2)),
        ["convolution", "relu", "affine", "add", "flatten", "linear"],
    ),
    "concatenated features": (
        lambda: head(lambda net, x: torch.cat([x.flatten(1), net.conv(x).flatten(1)], -1), 256, conv=conv(2, 2)),
        ["convolution", "flatten", "flatten", "concatenate", "linear"],
    ),
    "one image at a time": (
        lambda: Of(lambda net, x: torch.cat([net.head(net.conv(each[None]).view(1, -1)) for each in x])
                   if len(x) > 1 else net.head(net.conv(x).view(1, -1)), conv=conv(2, 2), head=nn.Linear(128, 3)),
        ["convolution", "flatten", "linear"],
    ),
    "a map for each class": (
        lambda: Of(lambda net, x: F.adaptive_avg_pool2d(net.conv(x), 1), conv=conv(2, 3)),
        ["convolution", "global_average_pool", "flatten"],
    ),
    "a box around one output": (
        lambda: head(lambda net, x: x, 128), ["flatten", "linear"],
    ),
    "gradients switched off": (
        lambda: head(lambda net, x: _without_gradient(x), 128), ["affine", "flatten", "linear"],
    ),
    "a mask over the weight": (
        lambda: Of(lambda net, x: F.linear(x.flatten(1), net.fc.weight * (net.fc.weight > 0)), fc=nn.Linear(128, 3)),
        ["flatten", "linear"],
    ),
}  # fmt: skip


def _reshaped_back(x: Tensor) -> Tensor:
    x = x.unsqueeze(1).squeeze(1).contiguous().clone().detach().to(torch.float32)
    return x.reshape(x.size(0), -1).view(-1, 2, 8, 8)


def _reshaped(x: Tensor) -> Tensor:
    return x[:, :, None, None].permute(0, 2, 1, 3).squeeze().transpose(0, 0)


def _changed_in_place(x: Tensor) -> Tensor:
    """What lies in the same memory changes, and a copy does not."""
    flat, copy = x.flatten(1), x.clone()
    flat.relu_()
    x.mul_(2)
    return flat + copy.flatten(1)


def _without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 2


@pytest.mark.parametrize(("make", "steps"), SPELLED.values(), ids=SPELLED)
def test_each_spelling_is_understood(make: Callable[[], nn.Module], steps: list[str]) -> None:
    assert [node.operation for node in same(made(make), (2, 8, 8)).network.nodes] == steps


# What it is given, and what it gives.


def test_it_is_given_features_grey_images_or_signals_where_it_does_not_take_images() -> None:
    features = same(made(lambda: nn.Sequential(nn.Linear(50, 4), nn.ReLU(), nn.Linear(4, 3))), (2, 5, 5), (50,))
    assert [node.operation for node in features.network.nodes] == ["flatten", "linear", "relu", "linear"]
    grey = same(made(lambda: head(lambda net, x: net.conv(x.unsqueeze(1)), 25, conv=conv(1, 1))), (1, 5, 5), (5, 5))
    assert [node.operation for node in grey.network.nodes] == ["convolution", "flatten", "linear"]
    signals = same(
        made(lambda: head(lambda net, x: net.conv(x), 18, conv=nn.Conv1d(1, 2, 3, padding="same"))), (1, 1, 9), (1, 9)
    )
    assert signals.network.nodes[0]["kernel"] == (1, 3)


def test_a_layer_that_is_used_twice_is_two_layers() -> None:
    found = same(made(lambda: head(lambda net, x: net.conv(F.relu(net.conv(x))), 128, conv=conv(2, 2))), (2, 8, 8))
    assert [layer.name for layer in found.network.layers] == ["conv", "conv_2", "head"]
    assert torch.equal(found.tensors["conv.weight"], found.tensors["conv_2.weight"])


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(-1)])
def test_a_softmax_at_the_end_is_left_out_and_said(end: nn.Module) -> None:
    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 3)))
    found, plain = module.read(nn.Sequential(*net, end), (2, 2, 2)), module.read(net, (2, 2, 2))
    assert found.network == plain.network
    assert "softmax at the end is left out" in found.notes[0]


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "apply",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5), nn.utils.weight_norm, parametrizations.weight_norm,
        parametrizations.spectral_norm, parametrizations.orthogonal,
    ],
    ids=["pruned", "weight norm", "its new form", "spectral norm", "orthogonal"],
)  # fmt: skip
def test_weights_that_are_computed_from_parameters_are_taken_as_they_are_used(
    apply: Callable[[nn.Module], object],
) -> None:
    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 3)))
    apply(net[1])
    net.eval()
    weight = net[1].weight.clone()
    found = module.read(net, (2, 2, 2))
    torch.testing.assert_close(found.tensors["1.weight"], weight, rtol=1e-5, atol=1e-6)
    assert not net.training
    assert type(net[1].weight) in (Tensor, nn.Parameter)


def test_the_module_is_left_as_it_was() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.seen, self.counted = nn.Linear(8, 3), 0, torch.zeros(1)
            self.register_buffer("total", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1
            self.total += 1
            self.counted += 1
            self.last = x
            return self.fc(x.flatten(1))

    net = Counting()
    net.fc.eval()
    module.read(net, (2, 2, 2))
    assert (net.seen, float(net.total), float(net.counted), hasattr(net, "last")) == (0, 0, 0, False)
    assert (net.training, net.fc.training) == (True, False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_of_numbers_become_float32(dtype: torch.dtype) -> None:
    net = made(lambda: nn.Sequential(*block(1, 2), nn.Flatten(), nn.Linear(32, 3))).to(dtype)
    found = module.read(net, (1, 4, 4))
    assert {own.dtype for own in found.tensors.values()} == {torch.float32}
    assert net[0].weight.dtype == dtype


def test_what_parallel_training_and_the_compiler_put_around_it_comes_off() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    compiled = nn.Module()  # as torch.compile makes it
    compiled._orig_mod = net
    for outer in (nn.DataParallel(net), nn.DataParallel(compiled)):
        assert [layer.name for layer in module.read(outer, (2, 2, 2)).network.layers] == ["1"]


# Refusals.


def flat(compute: Callable[[Tensor], Tensor], shape: Shape = (2, 8, 8)) -> tuple[Callable[[], nn.Module], Shape]:
    """Something of the images behind a convolution, before a linear layer of 128 features."""
    return lambda: head(lambda net, x: compute(net.conv(x)), 128, conv=conv(2, 2)), shape


def plain(compute: Callable[[Tensor], Tensor], **parts: nn.Module) -> tuple[Callable[[], nn.Module], Shape]:
    return lambda: Of(lambda net, x: compute(x), **parts), (2, 8, 8)


def layers(*parts: Callable[[], nn.Module]) -> tuple[Callable[[], nn.Module], Shape]:
    return lambda: nn.Sequential(*(part() for part in parts)), (2, 8, 8)


class Counts(nn.Module):
    """Puts out one thing at the first call and another at the second."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(128, 3)

    def forward(self, x: Tensor) -> Tensor:
        Counts.calls += 1
        return self.fc(x.flatten(1)) * float(Counts.calls)


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


REFUSED: dict[str, tuple[tuple[Callable[[], nn.Module], Shape], str]] = {
    "SiLU": (layers(partial(conv, 2, 2), nn.SiLU), r"silu in 1 is not known here: hard-swish or ReLU can stand"),
    "ELU": (flat(F.elu), r"elu in forward is not known here: ReLU, leaky ReLU"),
    "layer norm": (layers(nn.Flatten, partial(nn.LayerNorm, 128)),
                   r"layer_norm in 1 is not known .*batch normalization"),
    "group norm": (layers(partial(nn.GroupNorm, 1, 2)), r"group_norm in 0 .*batch normalization"),
    "LSTM": (((lambda: Of(lambda net, x: net.rnn(x)[0][:, -1], rnn=nn.LSTM(8, 3, batch_first=True))), (1, 8, 8)),
             r"lstm in rnn is not known here: convolutions over the signal"),
    "attention": (flat(lambda x: F.scaled_dot_product_attention(x, x, x)), r"scaled_dot_product_attention in forward"),
    "resizing": (layers(partial(nn.Upsample, scale_factor=2, mode="bilinear")),
                 r"upsample_bilinear2d in 0 .*resized before"),
    "transposed": (layers(partial(nn.ConvTranspose2d, 2, 2, 2)), r"conv_transpose2d in 0 .*get smaller"),
    "unheard of": (flat(torch.erf), r"erf in forward is not known here: known are convolution, linear"),
    "chunks": (flat(lambda x: torch.cat(x.chunk(2, 1), 1)), r"chunk in forward .*a layer of its own for each part"),
    "autocast": (flat(lambda x: _autocast(x)), r"wrap_with_autocast in forward is not known here"),
    "an approximation": (layers(partial(nn.GELU, approximate="tanh")), r"gelu in 0 cannot be taken over: .*'none'"),
    "slopes": (layers(partial(nn.PReLU, 2)), r"prelu in 0 cannot be taken over: it has a slope for each channel"),
    "one bound": (flat(lambda x: x.clamp(max=1)), r"clamp in forward .*both a lower and an upper bound"),
    "a threshold": (flat(lambda x: F.threshold(x, 1, 0)), r"threshold in forward .*which is ReLU"),
    "a gate": (flat(lambda x: x * x.mean((2, 3), keepdim=True)), r"mul in forward .*two feature maps are multiplied"),
    "broadcasting": (flat(lambda x: x + x.mean((2, 3), keepdim=True)),
                     r"add in forward .*must add shapes that are equal"),
    "rounding": (flat(lambda x: torch.div(x, 2, rounding_mode="floor")), r"div in forward .*it rounds"),
    "pixels": (flat(lambda x: x - torch.arange(64.0).view(8, 8)), r"sub in forward .*another number for each pixel"),
    "joined in height": (plain(lambda x: torch.cat([x, x], 2)), r"cat in forward .*axis 1\. Got axis 2"),
    "gaps": (layers(partial(nn.MaxPool2d, 2, 2, dilation=2)), r"max_pool2d in 0 .*has gaps"),
    "a divisor": (layers(partial(nn.AvgPool2d, 2, divisor_override=3)), r"avg_pool2d in 0 .*divisor_override"),
    "over the edge": (layers(partial(nn.AvgPool2d, 3, ceil_mode=True)), r"avg_pool2d in 0 .*Use ceil_mode=False"),
    "uneven": (layers(partial(nn.AdaptiveAvgPool2d, 3)), r"adaptive_avg_pool2d in 0 .*From \(8, 8\) to \(3, 3\)"),
    "indices": (plain(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]), r"max_pool2d_with_indices in forward"),
    "over channels": (plain(lambda x: x.mean(1)), r"mean in forward .*must go over height and width"),
    "over all": (plain(lambda x: x.flatten(1) * x.mean()), r"mean in forward .*height and width"),
    "a sum": (plain(lambda x: x.sum((2, 3))), r"sum in forward is not known here: a mean can stand in its place"),
    "transposed axes": (flat(lambda x: x.permute(0, 2, 3, 1)), r"permute in forward .*axes change places"),
    "rearranged": (layers(nn.Flatten, partial(nn.Unflatten, 1, (8, 4, 4)), partial(conv, 8, 2)),
                   r"conv2d in 2 .*change places or sizes"),
    "images put together": (plain(lambda x: x.view(-1, 64)), r"view in forward .*images of a batch must stay apart"),
    "integers": (flat(lambda x: x.long()), r"to in forward .*numbers of type torch.int64"),
    "a step": (plain(lambda x: x[:, :, ::2]), r"slice in forward .*read whole here"),
    "dropout in evaluation": (flat(lambda x: F.dropout(x)), r"dropout in forward .*training=self\.training"),
    "reflection": (layers(partial(nn.Conv2d, 2, 2, 3, padding=1, padding_mode="reflect")),
                   r"pad in 0 .*only zeros around"),
    "padding before a pool": (layers(partial(nn.ZeroPad2d, 1), partial(nn.MaxPool2d, 2)),
                              r"max_pool2d in 1 .*before a convolution"),
    "batch statistics": (layers(partial(nn.BatchNorm2d, 2, track_running_stats=False)),
                         r"batch_norm in 0 .*track_running_stats"),
    "softmax inside": (layers(nn.Flatten, partial(nn.Softmax, 1), partial(nn.Linear, 128, 3)),
                       r"linear in 2 .*softmax is known here only at the end"),
    "softmax over pixels": (layers(partial(nn.Softmax, 2)), r"softmax in 0 .*the classes at the end"),
    "a layer for each row": (layers(partial(nn.Linear, 8, 3)), r"linear in 0 .*must read features"),
    "random numbers": (flat(lambda x: x + torch.randn(8)), r"randn draws random numbers"),
    "noise": (flat(lambda x: x + torch.randn_like(x)), r"randn_like in forward is not known"),
    "the number of images": (flat(lambda x: x / x.shape[0]), r"div in forward .*number of images in a batch"),
    "data dependence": (flat(lambda x: x if x.mean() > 0 else -x),
                        r"must not depend on the numbers .*test_module\.py, line"),
    "numbers taken out": (flat(lambda x: x * float(x.mean())), r"must not depend on the numbers"),
    "two outputs": (plain(lambda x: (x.flatten(1), x)), r"puts out 2: return one"),
    "two inputs": ((TwoInputs, (2, 8, 8)), r"forward of TwoInputs wants x, y"),
    "one score": (layers(nn.Flatten, partial(nn.Linear, 128, 1), nn.Sigmoid),
                  r"puts out one number: .*nn.CrossEntropyLoss"),
    "a map": (layers(partial(conv, 2, 2)), r"must put out scores, \(n, classes\)\. Got \(n, 2, 8, 8\)"),
    "constants": (plain(lambda x: torch.ones(3)), r"must depend on the images"),
    "nothing": (plain(lambda x: x.flatten(1)), r"no weights at all"),
    "another each time": ((Counts, (2, 8, 8)), r"computes other scores than the module does"),
    "another size": (layers(partial(conv, 3, 2)),
                     r"With images, \(n, 2, 8, 8\): RuntimeError: .* With features, \(n, 128\): "),
    "its own error": (plain(lambda x: _fails(x)),
                      r"ValueError: 8 is too small \(test_module\.py, line \d+: raise ValueError"),
    "TorchScript": ((lambda: torch.jit.script(nn.Linear(8, 3)), (2, 8, 8)), r"TorchScript .*that it was made of"),
    "uninitialized": (layers(nn.Flatten, partial(nn.LazyLinear, 3)), r"1\.weight must hold numbers"),
}  # fmt: skip


def _autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return x * 2


def _fails(x: Tensor) -> Tensor:
    raise ValueError(f"{x.shape[-1] if x.dim() > 2 else 8} is too small")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("net", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_over_is_refused_in_words(
    net: tuple[Callable[[], nn.Module], Shape], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, shape = net
    with pytest.raises(BaselineError, match=said):
        module.read(make(), shape)
    assert capsys.readouterr() == ("", "")


# Any small network.

LAYERS: dict[str, Callable[[int, int], list[nn.Module]]] = {
    "conv": lambda i, o: [conv(i, o)],
    "strided": lambda i, o: [conv(i, o, stride=2)],
    "wide": lambda i, o: [conv(i, o, 3, padding="same", dilation=2)],
    "depthwise": lambda i, o: [conv(i, i, groups=i), conv(i, o, 1, bias=False)],
}
BETWEEN: dict[str, Callable[[int], nn.Module]] = {
    "batch normalization": nn.BatchNorm2d,
    "ReLU": lambda width: nn.ReLU(inplace=True),
    "ReLU6": lambda width: nn.ReLU6(),
    "leaky": lambda width: nn.LeakyReLU(0.1, inplace=True),
    "tanh": lambda width: nn.Tanh(),
    "dropout": lambda width: nn.Dropout2d(),
    "max": lambda width: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    "mean": lambda width: nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
}


@given(st.data())
@settings(max_examples=12)
def test_any_small_network_puts_out_the_scores_of_the_module(data: st.DataObject) -> None:
    width, parts = 2, list[nn.Module]()
    for _ in range(data.draw(st.integers(1, 3))):
        wider = data.draw(st.integers(1, 4))
        parts += LAYERS[data.draw(st.sampled_from(sorted(LAYERS)))](width, wider)
        parts += [BETWEEN[name](wider) for name in data.draw(st.lists(st.sampled_from(sorted(BETWEEN)), max_size=3))]
        width = wider
    skips, joins = data.draw(st.booleans()), data.draw(st.booleans())

    def compute(net: Of, x: Tensor) -> Tensor:
        x = net.body(x)
        x = x + net.skip(x) if skips else x
        x = torch.cat([x, net.skip(x)], 1) if joins else x
        return F.adaptive_avg_pool2d(x, 1)

    make = lambda: head(compute, width * (1 + joins), body=nn.Sequential(*parts), skip=conv(width, width))  # noqa: E731
    same(made(make), (2, data.draw(st.integers(5, 9)), 8))
