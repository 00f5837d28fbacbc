"""Reads network.safetensors and its JSON with plain PyTorch: `network, about = load("network.safetensors")`."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn.functional import conv2d, linear, max_pool2d


def load(path):
    """The network, a function of normalized images, float32 (n, 1, 28, 28), to logits (n, 10), and the JSON."""
    tensors, about = load_file(path), json.loads(Path(path).with_suffix(".json").read_text())

    def weight(name):
        if name in tensors:
            return tensors[name]
        return (tensors[name + ".codes"].float() - tensors.get(name + ".zero_point", 0)) * tensors[name + ".scale"]

    weights = {layer["name"]: [weight(own["name"]) for own in layer["weights"]] for layer in about["layers"]}
    bits = about["config"]["activation_bits"]

    def network(x):
        for layer in about["layers"]:
            x = _on_grid(x, layer["input_scale"], bits, signed=False)
            bias = tensors[layer["name"] + ".bias"].float()
            *first, last = weights[layer["name"]]
            for factor in first:
                x = _on_grid(_product(x, factor, None), layer["between_scale"], bits, signed=True)
            x = _product(x, last, bias)
            x = max_pool2d(x, 2) if layer["pool"] else x
            x = x.relu() if layer["relu"] else x
        return x

    return network, about


def _product(x, weight, bias):
    if weight.dim() == 4:
        return conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    return linear(x.flatten(1), weight, bias)


def _on_grid(x, scale, bits, signed):
    """A signal between layers, on its grid of 2^bits points."""
    if scale is None:
        return x
    high = 2 ** (bits - signed) - 1
    return torch.clamp(torch.round(x / scale), -high if signed else 0, high) * scale
