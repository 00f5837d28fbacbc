"""The two chains that the names of their tensors alone describe: `mlp`, linear layers, and `cnn`, two convolutions and
two linear layers. Files of before networks were graphs hold nothing else; their widths are read from the tensors.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from core.networks.graph import IMAGE, BaselineError, Network, listed
from core.networks.operations import NetworkError, Node, Shape, node

SHAPE = (1, 28, 28)
"""Of the images that such a file was made for."""

CLASSES = 10

Shapes = Mapping[str, tuple[int, ...]]


def convolved(name: str, reads: str, channels: int, kernel: int) -> list[Node]:
    """A convolution that keeps the size of its image, 2 x 2 max pooling, ReLU: max and ReLU commute, and in this order
    the ReLU has a quarter of the work. kernel : odd"""
    around = (kernel // 2,) * 4
    return [
        node(name, "convolution", [reads], channels=channels, kernel=(kernel, kernel), padding=around),
        node(f"{name}_pool", "max_pool", [name], kernel=(2, 2), stride=(2, 2)),
        node(f"{name}_relu", "relu", [f"{name}_pool"]),
    ]


def connected(reads: str, widths: Sequence[int]) -> list[Node]:
    """Flatten, then linear layers fc1, fc2, ... with a ReLU between any two. widths : of their outputs"""
    nodes = [node("flatten", "flatten", [reads])]
    for place, width in enumerate(widths, 1):
        nodes.append(node(f"fc{place}", "linear", [nodes[-1].name], channels=width))
        if place < len(widths):
            nodes.append(node(f"fc{place}_relu", "relu", [f"fc{place}"]))
    return nodes


def mlp(shape: Shape, widths: Sequence[int]) -> Network:
    """widths : outputs of the linear layers, the classes last"""
    return Network(shape, tuple(connected(IMAGE, widths)))


def cnn(shape: Shape, channels: tuple[int, int], widths: Sequence[int], kernels: tuple[int, int] = (3, 3)) -> Network:
    """channels, kernels : of conv1 and conv2; widths : outputs of the linear layers, the classes last"""
    first = convolved("conv1", IMAGE, channels[0], kernels[0])
    second = convolved("conv2", first[-1].name, channels[1], kernels[1])
    return Network(shape, tuple(first + second + connected(second[-1].name, widths)))


def family(network: Network) -> str:
    """ "mlp" or "cnn" where the network is such a chain, else ""."""
    try:
        same = chain(network.tensor_shapes) == network
    except NetworkError:
        return ""
    return ("cnn" if network.layers[0].kind == "conv" else "mlp") if same else ""


def chain(shapes: Shapes) -> Network:
    """The network whose tensors have these names and shapes: fc1 .. fcN, from the pixels to the classes, or conv1,
    conv2 (odd square kernels), fc1, fc2. Raises BaselineError."""
    convolutional = any(name.startswith("conv") for name in shapes)
    names = ["conv1", "conv2", "fc1", "fc2"]
    if not convolutional:
        names = [f"fc{i}" for i in range(1, max(1, len(shapes) // 2) + 1)]
    _check_names(names, shapes)
    _check_shapes(names, shapes)
    outputs = [shapes[f"{name}.weight"][0] for name in names]
    if not convolutional:
        return mlp(SHAPE, outputs)
    kernels = shapes["conv1.weight"][2], shapes["conv2.weight"][2]
    return cnn(SHAPE, (outputs[0], outputs[1]), outputs[2:], kernels)


def _check_names(names: Sequence[str], shapes: Shapes) -> None:
    expected = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    if set(shapes) != expected:
        missing, extra = sorted(expected - set(shapes)), sorted(set(shapes) - expected)
        raise BaselineError(
            "This file does not describe its network, and its weights and biases are not named as those of an MLP "
            "(fc1, fc2, ...) or of the CNN (conv1, conv2, fc1, fc2). "
            + (f"Missing: {listed(missing, 2)}. " if missing else "")
            + (f"Not expected: {listed(extra, 2)}. " if extra else "")
            + "Export it as ONNX, which describes it, or rename them: python -m core import."
        )


def _check_shapes(names: Sequence[str], shapes: Shapes) -> None:
    """Shapes that follow from one another."""
    channels, side, _ = SHAPE
    for name, following in pairwise([*names, ""]):
        shape, conv = shapes[f"{name}.weight"], name.startswith("conv")
        if conv and (len(shape) != 4 or shape[2] != shape[3] or shape[2] % 2 == 0):
            raise BaselineError(f"{name}.weight must have shape (out, in, k, k) with odd k. Got {shape} instead.")
        if not conv and len(shape) != 2:
            raise BaselineError(f"{name}.weight must have shape (out, in). Got {shape} instead.")
        width = channels if conv else channels * side**2
        if shape[1] != width or 0 in shape:
            raise BaselineError(f"{name}.weight must have {width} inputs. Got shape {shape} instead.")
        if shapes[f"{name}.bias"] != shape[:1]:
            raise BaselineError(f"{name}.bias must have shape {shape[:1]}. Got {shapes[f'{name}.bias']} instead.")
        channels, side = shape[0], side // 2 if conv else 1
        if not following and shape[0] != CLASSES:
            raise BaselineError(f"{name} must have {CLASSES} outputs, a class each. Got {shape[0]} instead.")
