"""Reads network.safetensors and its JSON with plain PyTorch: `network, about = load("network.safetensors")`."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

DEFAULTS = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1, "counts_padding": True}


def load(path):
    """The network, a function of normalized images, float32 (n, channels, h, w), to the scores of the classes, and the
    JSON."""
    tensors, about = read(path)
    return network_of(tensors, about), about


def read(path):
    """The tensors, and the JSON beside them."""
    return load_file(path), json.loads(Path(path).with_suffix(".json").read_text())


def network_of(tensors, about):
    grids = {end: (grid["scale"], grid["signed"]) for grid in about["signals"].values() for end in grid["ends"]}
    layers, bits = {layer["name"]: layer for layer in about["layers"]}, about["config"]["activation_bits"]
    before = ["image", *(node["name"] for node in about["network"]["nodes"])]
    nodes = [{"inputs": [name], **node} for node, name in zip(about["network"]["nodes"], before)]  # noqa: B905

    def weight(name):
        if name in tensors:
            return tensors[name]
        if name + ".centroids" in tensors:
            return tensors[name + ".centroids"].float()[tensors[name + ".indices"].int()]
        return (tensors[name + ".codes"].float() - tensors.get(name + ".zero_point", 0)) * tensors[name + ".scale"]

    def product(node, x):
        layer = layers[node["name"]]
        bias = tensors[node["name"] + ".bias"].float()
        *first, last = [weight(own["name"]) for own in layer["weights"]]
        for factor in first:
            x = _on_grid(_product(node, x, factor, None), layer["between_scale"], True, bits)
            node = {}
        return _product(node, x, last, bias)

    def network(x):
        values = {"image": x}
        for node in nodes:
            name, inputs = node["name"], [values[name] for name in node["inputs"]]
            if name in layers:
                x = product(node, inputs[0])
            elif node["operation"] == "affine":
                parts = [tensors[f"{name}.{part}"].float() for part in ("scale", "shift")]
                scale, shift = (part.reshape(-1, *[1] * (inputs[0].dim() - 2)) for part in parts)
                x = inputs[0] * scale + shift
            else:
                x = OPERATIONS[node["operation"]](DEFAULTS | node, *inputs)
            values[name] = _on_grid(x, *grids.get(name, (None, False)), bits)
        return values[name]

    return network


def _around(node, x, value=0.0):
    above, left, below, right = node["padding"]
    return F.pad(x, (left, right, above, below), value=value)


def _product(node, x, weight, bias):
    if weight.dim() == 4:
        node = DEFAULTS | node
        x = _around(node, x)
        return F.conv2d(x, weight, bias, node["stride"], 0, node["dilation"], node["groups"])
    return F.linear(x.flatten(1), weight, bias)


def _average(node, x):
    mean = F.avg_pool2d(_around(node, x), node["kernel"], node["stride"])
    if node["counts_padding"]:
        return mean
    return mean / F.avg_pool2d(_around(node, torch.ones_like(x[:1, :1])), node["kernel"], node["stride"])


def _on_grid(x, scale, signed, bits):
    """A signal between layers, on its grid of 2^bits points."""
    if scale is None or bits is None:
        return x
    high = 2 ** (bits - signed) - 1
    return torch.clamp(torch.round(x / scale), -high if signed else 0, high) * scale


OPERATIONS = {
    "add": lambda node, x, y: x + y,
    "concatenate": lambda node, *x: torch.cat(x, 1),
    "flatten": lambda node, x: x.flatten(1),
    "max_pool": lambda node, x: F.max_pool2d(_around(node, x, -torch.inf), node["kernel"], node["stride"]),
    "average_pool": _average,
    "global_average_pool": lambda node, x: x.mean((2, 3), keepdim=True),
    "relu": lambda node, x: x.relu(),
    "clip": lambda node, x: x.clamp(node.get("low", 0.0), node.get("high", 6.0)),
    "leaky_relu": lambda node, x: F.leaky_relu(x, node.get("slope", 0.01)),
    "sigmoid": lambda node, x: x.sigmoid(),
    "tanh": lambda node, x: x.tanh(),
    "hard_swish": lambda node, x: F.hardswish(x),
    "gelu": lambda node, x: F.gelu(x),
}
"""What a node computes that has no tensors."""
