"""State dicts alone: what their keys tell, what their shapes leave open, and what images decide of that."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from own_networks import random_batch_norms
from random_networks import feature_maps
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from core.config import ConfigError
from core.datasets import Scaling
from core.incoming import scaling, state_dict
from core.incoming.reading import Reading
from core.networks.graph import BaselineError, Network
from core.networks.models import Baseline, Overflow, Tensors

SHAPE, CLASSES = (1, 28, 28), 10
STANDARD = scaling.standard(Scaling((0.2860,), (0.3530,)))

State = Mapping[str, Tensor]


def read(state: State, **given: Any) -> list[Reading]:
    return state_dict.readings(state_dict.layers(state), SHAPE, CLASSES, **given)


def folded(state: State) -> Tensors:
    """The tensors of the likeliest reading."""
    return read(state)[0].build()[1]


def outputs(reading: Reading, x: Tensor) -> Tensor:
    network, tensors = reading.build()
    return feature_maps(Baseline("theirs", tensors, graph=network), x)[network.output]


@torch.no_grad()
def true_ones(module: nn.Module, shape: tuple[int, ...] = SHAPE, **given: Any) -> list[Reading]:
    """Of the readings of a module's state dict, those that compute what it computes."""
    x = torch.randn(4, *shape)
    found = state_dict.readings(state_dict.layers(module.state_dict()), shape, CLASSES, **given)
    assert len({reading.network for reading in found}) == len(found)
    return [each for each in found if torch.allclose(outputs(each, x), module(x), rtol=1e-3, atol=1e-4)]


def tried(make: Callable[[], Any]) -> tuple[Any, str]:
    """What is made, or in which words it is refused."""
    try:
        return make(), ""
    except BaselineError as error:
        return None, str(error)


# Modules as people write them.


def block(inputs: int, outputs: int, kernel: int = 3, padding: int | str = 1, bn: bool = False) -> nn.Sequential:
    norm = [nn.BatchNorm2d(outputs)] if bn else []
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=padding), *norm, nn.ReLU(), nn.MaxPool2d(2))


def head(*widths: int) -> list[nn.Module]:
    every = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
    return [nn.Flatten(), *every[:-1]]


class Apart(nn.Module):
    """Layers and normalizations under names of their own, declared in whatever order."""

    def __init__(self, order: str = "layers first", place: str = "before", widths: tuple[int, int] = (6, 7)) -> None:
        super().__init__()
        self.place = place
        norms = {"bn1": nn.BatchNorm2d(widths[0]), "bn2": nn.BatchNorm2d(widths[1])}
        layers = {
            "conv1": nn.Conv2d(1, widths[0], 3, padding=1),
            "conv2": nn.Conv2d(*widths, 3, padding=1),
            "fc1": nn.Linear(widths[1] * 49, 11),
            "fc2": nn.Linear(11, 10),
        }
        for name, own in ((norms | layers) if order == "norms first" else (layers | norms)).items():
            self.add_module(name, own)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = conv(x)
            x = F.relu(norm(x)) if self.place == "before" else F.relu(x)
            x = norm(x) if self.place == "behind" else x
            x = F.max_pool2d(x, 2)
            x = norm(x) if self.place == "after" else x
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Deep(nn.Module):
    """A sequence of more than ten: sorted by their names its layers come as 1, 11, 3, 5."""

    def __init__(self) -> None:
        super().__init__()
        hidden = [own for _ in range(5) for own in (nn.ReLU(), nn.Linear(12, 12))]
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 12), *hidden, nn.ReLU())
        self.out = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x))


class Listed(nn.Module):
    """Layers in a list, without a gap; activations between them all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(784, 9), nn.Linear(9, 9), nn.Linear(9, 10)])

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def foreign_cnn(kernel: int = 3, bias: bool = True, affine: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 5, kernel, padding=kernel // 2, bias=bias),
        nn.BatchNorm2d(5, affine=affine),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 7, kernel, padding=kernel // 2, bias=bias),
        nn.BatchNorm2d(7, affine=affine),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(7 * 49, 11, bias=bias),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(11, 10, bias=bias),
    )


def foreign_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 10))


def strided() -> nn.Module:
    down = [nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*down, *head(245, 10))


def average_tanh() -> nn.Module:
    convs = [(nn.Conv2d(1, 4, 5, padding=2), 0), (nn.Conv2d(4, 5, 5), 0)]
    return nn.Sequential(*(part for conv, _ in convs for part in (conv, nn.Tanh(), nn.AvgPool2d(2))),
                         nn.Flatten(), nn.Linear(125, 9), nn.Tanh(), nn.Linear(9, 10))  # fmt: skip


def vgg() -> nn.Module:
    parts = list[nn.Module]()
    for inputs, outputs in ((1, 4), (4, 8)):
        parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        parts += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, *head(8 * 49, 12, 10))


def averaged() -> nn.Module:
    return nn.Sequential(block(1, 4), block(4, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))


def all_convolutions() -> nn.Module:
    return nn.Sequential(block(1, 4), nn.Conv2d(4, 10, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def depthwise() -> nn.Module:
    first = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(4, 6, 1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, *head(6 * 49, 10))


def behind() -> nn.Module:
    parts = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2)]
    parts += [nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(5), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, *head(245, 9, 10))


def behind_linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.BatchNorm1d(9), nn.Linear(9, 10))


def no_room() -> nn.Module:
    linear = [nn.Flatten(), nn.Linear(64 * 36, 9), nn.Dropout(0.25), nn.Linear(9, 8), nn.Linear(8, 10)]
    return nn.Sequential(block(1, 3, bn=True), block(3, 64, 3, 0, bn=True), *linear)


def linear_between() -> nn.Module:
    return nn.Sequential(block(1, 4), block(4, 5), nn.Flatten(), nn.Linear(245, 9), nn.Identity(), nn.Linear(9, 10))


READ = {
    "mlp": (nn.Sequential(*head(784, 9, 8, 10)), "3 linear layers, ReLU"),
    "softmax regression": (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "1 linear layer, no activation"),
    "a list": (Listed(), "3 linear layers, ReLU"),
    "two and one": (nn.Sequential(block(1, 4, 5, 2, True), block(4, 5, 5, 2, True), *head(245, 10)),
                    "2 convolutions with padding, max pooling behind each, 1 linear layer, ReLU"),
    "two and three": (nn.Sequential(block(1, 4), block(4, 5), *head(245, 9, 8, 10)),
                      "2 convolutions with padding, max pooling behind each, 3 linear layers, ReLU"),
    "one": (nn.Sequential(block(1, 4), *head(784, 10)),
            "1 convolution with padding, max pooling behind it, 1 linear layer, ReLU"),
    "no padding 5": (nn.Sequential(block(1, 4, 5, 0), block(4, 6, 5, 0), *head(96, 9, 10)),
                     "2 convolutions without padding, max pooling behind each, 2 linear layers, ReLU"),
    "no padding 3": (nn.Sequential(block(1, 4, 3, 0), block(4, 6, 3, 0), *head(150, 9, 10)),
                     "2 convolutions without padding, max pooling behind each, 2 linear layers, ReLU"),
    "even kernels": (nn.Sequential(block(1, 4, 4, "same"), block(4, 5, 4, "same"), *head(245, 9, 10)),
                     "2 convolutions with padding, less above, max pooling behind each, 2 linear layers, ReLU"),
    "even kernels, padded by half": (nn.Sequential(block(1, 4, 4, 2), block(4, 5, 4, 2), *head(245, 9, 10)),
                                     "2 convolutions with padding, max pooling behind each, 2 linear layers, ReLU"),
    "no room": (no_room(), "2 convolutions with padding around 0.0 alone, max pooling behind each, 3 linear layers, "
                           "ReLU, but not behind 3, 5"),
    "linear between": (linear_between(), "2 convolutions with padding, max pooling behind each, 2 linear layers, ReLU, "
                                         "but not behind 3"),
    "strides": (strided(), "2 convolutions with padding, stride 2 in each, 1 linear layer, ReLU"),
    "average, tanh": (average_tanh(), "2 convolutions with padding around 0 alone, average pooling behind each, 2 "
                                      "linear layers, tanh"),
    "every second": (vgg(), "4 convolutions with padding, max pooling behind every second, 2 linear layers, ReLU"),
    "averaged": (averaged(), "2 convolutions with padding, max pooling behind each, the mean of each channel, 1 linear "
                             "layer, ReLU"),
    "no linear layer": (all_convolutions(), "2 convolutions with padding, max pooling behind 0.0, the mean of each "
                                            "channel, ReLU"),
    "depthwise": (depthwise(), "3 convolutions with padding, max pooling behind 0, 5, 1 linear layer, ReLU"),
    "behind the activation": (behind(), "2 convolutions with padding, max pooling behind each, 2 linear layers, ReLU, "
                                        "normalization behind the activation"),
    "before": (Apart(), "2 convolutions with padding, max pooling behind each, 2 linear layers, ReLU, "
                        "normalization before the activation"),
    "after pooling": (Apart(place="after"), "2 convolutions with padding, max pooling behind each, 2 linear layers, "
                                            "ReLU, normalization behind the pooling"),
    "apart, behind": (Apart(place="behind"), "2 convolutions with padding, max pooling behind each, 2 linear layers, "
                                             "ReLU, normalization behind the activation"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "words"), READ.values(), ids=READ)
def test_what_a_network_computes_is_one_of_its_readings_and_no_other_computes_it(module: nn.Module, words: str) -> None:
    (found,) = true_ones(random_batch_norms(module))
    assert str(found) == words
    assert all(name in found.network.named for name in {key.rpartition(".")[0] for key in module.state_dict()})


def test_a_normalization_that_turns_no_channel_around_may_change_places_with_pooling() -> None:
    module = Apart(place="after")
    straight = read(module.state_dict())
    turned = read(random_batch_norms(module).state_dict())
    assert {reading.normalized for reading in straight} < {reading.normalized for reading in turned}


def test_what_a_person_says_narrows_the_list() -> None:
    state = nn.Sequential(block(1, 4), block(4, 5), *head(245, 9, 10)).state_dict()
    every = read(state)
    assert {reading.pool for reading in every} == {"max", "average", "stride"}
    assert {reading.activation for reading in every} == {"relu", "sigmoid", "tanh"}
    assert {reading.pool for reading in read(state, pool="none")} == {"stride"}
    assert [str(reading) for reading in read(state, pool="average", activation="gelu")] == [
        "2 convolutions with padding, average pooling behind each, 2 linear layers, GELU",
        "2 convolutions with padding, average pooling behind each, 2 linear layers, GELU, but not behind 3",
    ]
    words = [str(reading) for reading in read(state, pool="max", activation="sigmoid,leaky_relu=0.2")]
    assert words[0].endswith("2 linear layers, sigmoid, then leaky ReLU 0.2")
    with pytest.raises(ConfigError, match="pool must be one of max, average, none"):
        read(state, pool="sum")
    for wrong in ("swish", "relu=2", "relu,", "leaky_relu=x", "sigmoid,relu,tanh"):
        with pytest.raises(ConfigError, match=r"activation must be one of relu|slope"):
            read(state, activation=wrong)


@pytest.mark.parametrize("activation", ["leaky_relu", "gelu"])
def test_an_activation_that_is_asked_for_is_read(activation: str) -> None:
    act = {"leaky_relu": nn.LeakyReLU(), "gelu": nn.GELU()}[activation]
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), act, nn.MaxPool2d(2), *head(784, 10))
    assert not true_ones(module)
    (found,) = true_ones(module, activation=activation)
    assert found.pool == "max"


def test_three_channels_and_other_classes_are_read() -> None:
    module = nn.Sequential(block(3, 4), block(4, 5), *head(5 * 64, 7))
    assert state_dict.readings(state_dict.layers(module.state_dict()), (3, 32, 32), 7)


# Refusals.

NO_FIT = {
    "other classes": (nn.Sequential(nn.Flatten(), nn.Linear(784, 62)), "1 must have 10 outputs, a class each. Got 62"),
    "groups": (
        nn.Sequential(block(1, 4), nn.Conv2d(4, 8, 3, padding=1, groups=2), *head(8, 10)),
        "1.weight must have 4 inputs",
    ),
    "other images": (nn.Sequential(*head(1024, 9, 10)), "1.weight must have 784 inputs, from images of 1 x 28 x 28"),
    "colours": (nn.Sequential(block(3, 4), *head(784, 10)), "0.0.weight must have 1 inputs"),
    "a branch": (
        nn.ModuleDict({"a": nn.Linear(784, 9), "b": nn.Linear(784, 9), "c": nn.Linear(9, 10)}),
        "b.weight must have 9 inputs",
    ),
    "another padding": (
        nn.Sequential(block(1, 4, 7, 1), *head(4 * 144, 10)),
        "The first linear layer, 2, reads 576 numbers, and 0.0 puts out 4 channels: from images of 28 x 28",
    ),
    "no class for each": (nn.Sequential(block(1, 9)), "0.0 must have 10 outputs"),
    "a normalization of the image": (
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10)), "nothing says of which layer"
    ),
    "a linear layer before a convolution": (
        nn.Sequential(nn.Linear(784, 784), nn.Conv2d(1, 4, 3)), "convolutions and then linear layers"
    ),
    "too many layers": (
        nn.Sequential(nn.Linear(784, 10), *(nn.Linear(10, 10) for _ in range(100))), "too large. It has 101 layers"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("module", "words"), NO_FIT.values(), ids=NO_FIT)
def test_what_fits_no_reading_is_refused_with_what_was_expected(module: nn.Module, words: str) -> None:
    with pytest.raises(BaselineError) as refused:
        read(module.state_dict())
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "module",
    [foreign_cnn(), foreign_cnn(kernel=5), foreign_cnn(bias=False), foreign_cnn(affine=False), foreign_mlp()],
    ids=["cnn", "5x5 kernels", "without biases", "without affine", "mlp"],
)
@torch.no_grad()
def test_a_state_dict_of_other_names_and_widths_folds_to_the_same_network(module: nn.Module) -> None:
    random_batch_norms(module)
    x = torch.randn(8, 1, 28, 28)
    torch.testing.assert_close(outputs(read(module.state_dict())[0], x), module(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "module", [Apart(), Apart("norms first"), Deep(), foreign_cnn()], ids=["apart", "norms first", "deep", "sequence"]
)
@pytest.mark.parametrize("in_order", [False, True])
@torch.no_grad()
def test_the_order_of_the_keys_changes_nothing_that_names_and_numbers_say(module: nn.Module, in_order: bool) -> None:
    """Some tools sort them."""
    module.eval()
    random_batch_norms(module)
    state = module.state_dict()
    state = state if in_order else {key: state[key] for key in sorted(state)}
    x = torch.randn(8, 1, 28, 28)
    torch.testing.assert_close(outputs(read(state)[0], x), module(x), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_normalization_behind_a_gap_stands_behind_the_activation_where_the_numbers_leave_nothing_else() -> None:
    after = random_batch_norms(behind_linear())
    readings = read(after.state_dict(), activation="relu")
    x = torch.randn(8, 1, 28, 28)
    torch.testing.assert_close(outputs(readings[0], x), after(x), rtol=1e-3, atol=1e-3)
    assert len(readings) == 1
    assert readings[0].network.named["3"].operation == "affine"


def test_two_normalizations_of_one_layer_are_refused() -> None:
    state = {"conv1": nn.Linear(784, 10), "bn": nn.BatchNorm1d(10), "bn1": nn.BatchNorm1d(10)}
    with pytest.raises(BaselineError, match="bn1 is a batch normalization, and nothing says of which layer"):
        folded(nn.ModuleDict(state).state_dict())


def test_a_normalization_that_could_belong_to_two_layers_is_refused() -> None:
    state = nn.ModuleDict(
        {"a": nn.Linear(784, 9), "b": nn.Linear(9, 9), "n": nn.BatchNorm1d(9), "m": nn.BatchNorm1d(9)}
    )
    with pytest.raises(BaselineError, match="nothing says of which layer"):
        folded(state.state_dict())


BESIDE = {
    "a mask": {"1.mask": torch.ones(9, 784)},
    "a pruned bias": {"1.bias_orig": torch.zeros(9), "1.bias_mask": torch.ones(9)},
    "steps of eight bits": {"1.SCB": torch.ones(9)},
    "an adapter": {"1.lora_A": torch.zeros(2, 784), "1.lora_B": torch.zeros(9, 2)},
    "beside a normalization": {"2.mask": torch.ones(9)},
}


@pytest.mark.parametrize("more", BESIDE.values(), ids=BESIDE)
def test_what_stands_beside_a_weight_is_refused_by_its_name(more: dict[str, Tensor]) -> None:
    with pytest.raises(BaselineError, match=r"stands beside a weight|is no plain weight") as refused:
        folded(foreign_mlp().state_dict() | more)
    assert any(key in str(refused.value) for key in more)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int64])
def test_whole_numbers_are_no_weights(kind: torch.dtype) -> None:
    with pytest.raises(BaselineError, match=r"1\.weight holds whole numbers \(torch\.u?int\d+\)"):
        folded(foreign_mlp().state_dict() | {"1.weight": torch.ones(9, 784, dtype=kind)})


def test_a_state_dict_in_half_precision_folds_to_float32() -> None:
    tensors = folded(foreign_mlp().half().state_dict())
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


BAD_STATES = {
    "nothing": {},
    "a mean without channels": foreign_mlp().state_dict() | {"2.running_mean": torch.tensor(0.5)},
    "a batch normalization first": {"bn.running_mean": torch.zeros(3), "bn.running_var": torch.ones(3)},
    "a batch normalization of other width": foreign_mlp().state_dict()
    | {"2.running_mean": torch.zeros(8), "2.running_var": torch.ones(8)},
    "a batch normalization without variance": {
        k: v for k, v in foreign_mlp().state_dict().items() if k != "2.running_var"
    },
    "a batch normalization of two widths": foreign_mlp().state_dict() | {"2.weight": torch.ones(8)},
    "a variance below zero": foreign_mlp().state_dict() | {"2.running_var": -torch.ones(9)},
    "a recurrent layer": nn.LSTM(28, 10).state_dict(),
    "a convolution over time": nn.Conv1d(28, 10, 3).state_dict(),
    "an embedding": nn.Embedding(784, 10).state_dict(),
    "three convolutions": nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(3))).state_dict(),
    "a bias that does not fit": foreign_mlp().state_dict() | {"4.bias": torch.zeros(9)},
    "a bias of no dimension": foreign_mlp().state_dict() | {"1.bias": torch.tensor(0.0)},
}


@pytest.mark.parametrize("state", BAD_STATES.values(), ids=BAD_STATES.keys())
def test_a_state_dict_of_no_family_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(BaselineError) as refused:
        folded(state)
    assert str(refused.value)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.Linear(9, 10))


STATE = network().state_dict()


def _changed(change: Callable[[nn.Module], object]) -> dict[str, Tensor]:
    module = copy.deepcopy(network())
    change(module[1])
    return module.state_dict()


SIGNS = {
    "pruned": (_changed(lambda own: prune.l1_unstructured(own, "weight", 0.5)), "prune.remove"),
    "a pruned bias": (_changed(lambda own: prune.l1_unstructured(own, "bias", 0.5)), "prune.remove"),
    "weight norm": (_changed(parametrizations.weight_norm), "remove_parametrizations"),
    "old weight norm": (
        {"1.bias": torch.zeros(9), "1.weight_g": torch.ones(9, 1), "1.weight_v": torch.ones(9, 784)},
        "remove_weight_norm",
    ),
    "old spectral norm": (
        {"1.bias": torch.zeros(9), "1.weight_orig": torch.ones(9, 784), "1.weight_u": torch.ones(9)},
        "remove_spectral_norm",
    ),
    "observers": ({**STATE, "act.activation_post_process.min_val": torch.tensor(0.0)}, "prepared for quantization"),
    "recurrent": (nn.LSTM(28, 10).state_dict(), "recurrent layers"),
    "meta": ({key: own.to("meta") for key, own in STATE.items()}, "has a shape and no numbers (meta)"),
    "sparse": ({key: own.to_sparse() if own.dim() == 2 else own for key, own in STATE.items()}, ".to_dense()"),
    "rows apart": ({key: own.to_sparse_csr() if own.dim() == 2 else own for key, own in STATE.items()}, ".to_dense()"),
    "complex": ({key: own.cfloat() for key, own in STATE.items()}, "complex numbers"),
    "a counter": ({**STATE, "n_averaged": torch.tensor(3)}, "n_averaged belongs to no layer"),
    "an average": ({**STATE, "mean": torch.tensor([0.286])}, "mean belongs to no layer"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("state", "named"), SIGNS.values(), ids=SIGNS)
def test_what_a_key_is_a_sign_of_is_said_with_the_way_out(state: Any, named: str) -> None:
    with pytest.raises(BaselineError) as refused:
        folded(state.state_dict() if isinstance(state, nn.Module) else state)
    assert named in str(refused.value)


NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)


@given(NAMES | st.integers(1, 12).map(lambda n: [f"fc{i}" for i in range(1, n + 1)]), st.data())
def test_sorted_keys_give_the_same_network_or_are_refused(names: list[str], data: st.DataObject) -> None:
    """As safetensors and some helpers sort them, whatever the layers are called."""
    widths = [784, *data.draw(st.lists(st.sampled_from([5, 6]), min_size=len(names) - 1, max_size=len(names) - 1)), 10]
    module = nn.ModuleDict({name: nn.Linear(widths[i], widths[i + 1]) for i, name in enumerate(names)})
    state = module.state_dict()
    declared = folded(state)
    found, refusal = tried(lambda: folded({key: state[key] for key in sorted(state)}))
    if refusal:
        assert "were sorted" in refusal
        assert names[0] != "fc1", "numbers say it"
        assert len(names) > 3, "widths say it"
    else:
        assert all(torch.equal(found[key], declared[key]) for key in declared)


@given(st.permutations(["a", "b", "c"]), st.booleans())
def test_in_sorted_keys_neighbours_are_none(names: list[str], second: bool) -> None:
    """A normalization that only stood next to another layer belongs to neither."""
    assume(names != sorted(names))
    first, norm, last = names
    module = nn.ModuleDict({first: nn.Linear(784, 9), norm: nn.BatchNorm1d(9), last: nn.Linear(9, 10)})
    if second:
        module = nn.ModuleDict({f"{first}1": module[first], f"{norm}1": module[norm], f"{last}2": module[last]})
    state, declared = module.state_dict(), folded(module.state_dict())
    found, refusal = tried(lambda: folded({key: state[key] for key in sorted(state)}))
    if refusal:
        assert "nothing says of which layer" in refusal
        assert not second, "numbers say it"
    else:
        assert all(torch.equal(found[key], declared[key]) for key in declared)


# What images decide.


def choose(readings: list[Reading], accuracy: Callable[[Reading, scaling.Scale], float]) -> state_dict.Choice:
    """accuracy : a table; a network is known by its graph"""
    asked, known = [], {reading.build()[0]: reading for reading in readings}

    def measured(network: Network, tensors: Tensors, scale: scaling.Scale) -> float:
        asked.append((network, scale))
        return accuracy(known[network], scale)

    choice, refusal = tried(lambda: state_dict.chosen(readings, STANDARD, measured, True))
    assert len(asked) == len(set(asked)) <= state_dict.MEASUREMENTS
    if refusal:
        raise BaselineError(refusal)
    return choice


def alike(reading: Reading, scale: scaling.Scale, truth: Reading, name: str) -> float:
    """The more right, the less a reading differs from the truth."""
    differences = sum(own != true for own, true in zip(reading.facets, truth.facets, strict=True))
    return max(0.1, 0.9 - 0.2 * differences - 0.1 * (scale.name != name))


@pytest.mark.parametrize("name", [each.name for each in STANDARD])
@pytest.mark.parametrize("module", [READ["mlp"], READ["two and three"], READ["before"], READ["averaged"]])
def test_the_reading_and_the_scaling_that_win_are_taken(module: tuple[nn.Module, str], name: str) -> None:
    """Also where there are too many to measure all of them."""
    readings = read(module[0].state_dict())
    for truth in (readings[0], readings[len(readings) // 2], readings[-1]):
        choice = choose(readings, partial(alike, truth=truth, name=name))
        assert (choice.reading, choice.scale.name, choice.accuracy) == (truth, name, 0.9)
        assert choice.table.splitlines()[0].endswith(f"{truth}; {choice.scale}")


def test_a_winner_by_three_points_is_none() -> None:
    readings = read(READ["mlp"][0].state_dict())

    def accuracy(reading: Reading, scale: scaling.Scale) -> float:
        return 0.0 if scale.name != "unit" else 0.8 if reading is readings[1] else 0.77

    with pytest.raises(BaselineError) as refused:
        choose(readings, accuracy)
    said = str(refused.value)
    assert "--activation relu|sigmoid" in said
    assert "--scale" not in said
    assert "--pool" not in said
    assert "ONNX" in said
    assert f"{readings[1]}; unit" in said


def test_what_a_person_can_say_is_asked_for_and_what_not_is_left_to_the_other_roads() -> None:
    readings = read(READ["two and three"][0].state_dict())
    with pytest.raises(BaselineError, match=r"--pool max.*--activation.*--scale dataset\|unit\|half\|raw, or --mean"):
        choose(readings, lambda reading, scale: 0.1)
    tied = [reading for reading in read(READ["even kernels"][0].state_dict(), pool="max", activation="relu")]
    assert len(tied) > 1
    with pytest.raises(BaselineError, match=r"three points ahead") as refused:
        choose(tied, lambda reading, scale: 0.9 if scale.name == "unit" else 0.1)
    assert "--" not in str(refused.value).replace("--weights", "")


def test_a_network_that_is_blind_to_the_scale_is_said_to_be_so() -> None:
    readings = read(READ["mlp"][0].state_dict(), activation="relu")
    with pytest.raises(BaselineError, match=r"all alike within three points.*--scale"):
        choose(readings, lambda reading, scale: 0.9)


def test_where_nothing_can_be_computed_it_is_said() -> None:
    def overflow(*of: Any) -> float:
        raise Overflow("The scores")

    with pytest.raises(Overflow):
        state_dict.chosen(read(READ["mlp"][0].state_dict()), STANDARD, overflow, True)


# Real digits, 8 x 8.


def digits() -> tuple[Tensor, Tensor]:
    """uint8 (n, 1, 8, 8), and labels."""
    held = load_digits()
    images = torch.tensor(held.images / 16 * 255).round().byte().unsqueeze(1)
    return images, torch.tensor(held.target)


def trained(module: nn.Module, scale: scaling.Scale, epochs: int) -> nn.Module:
    images, labels = digits()
    x, y = scale.scaling.normalized(images[:1200]), labels[:1200]
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(epochs):
        for places in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(module(x[places]), y[places]).backward()
            optimizer.step()
    return module.eval()


def on_digits(network: Network, tensors: Tensors, scale: scaling.Scale) -> float:
    images, labels = digits()
    return scaling.accuracy(network, tensors, scale.scaling, images[1200:], labels[1200:])


DIGITS = scaling.standard(Scaling((0.305,), (0.376,)))


def taken(module: nn.Module, **given: Any) -> tuple[state_dict.Choice | None, str]:
    readings = state_dict.readings(state_dict.layers(module.state_dict()), (1, 8, 8), 10, **given)
    return tried(lambda: state_dict.chosen(readings, DIGITS, on_digits, "activation" in given))


def lenet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 12, 3, padding=1),
                         nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 10))  # fmt: skip


def test_a_trained_network_of_other_pooling_activation_and_scaling_is_read_right() -> None:
    torch.manual_seed(0)
    net = trained(lenet(), scaling.named("unit", Scaling((0.0,), (1.0,))), 20)
    choice, refusal = taken(net)
    assert choice is None, "nobody has said an activation"
    assert "--activation relu|sigmoid" in refusal
    assert "sigmoid" in refusal.splitlines()[1]
    choice, refusal = taken(net, activation="sigmoid")
    assert choice is not None, refusal
    assert (choice.reading.pool, choice.reading.activation, choice.scale.name) == ("average", "sigmoid", "unit")
    assert choice.accuracy > 0.8


@pytest.mark.parametrize("scale", DIGITS, ids=[each.name for each in DIGITS])
def test_no_network_is_taken_with_another_scaling_than_its_own(scale: scaling.Scale) -> None:
    torch.manual_seed(0)
    module = trained(nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)), scale, 8)
    choice, refusal = taken(module, activation="relu")
    if choice is None:
        assert "--scale" in refusal
        assert scale.name in refusal
    else:
        assert (choice.scale, choice.reading.activation) == (scale, "relu")
