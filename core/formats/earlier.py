"""Files of earlier versions: packed files that begin with "CNET" and 1 or 2, and descriptions beside safetensors of
format "compressed-network/2". The first of both hold a chain of layers, and not a graph.
"""

import hashlib
import json
import zlib
from math import prod
from typing import Any

from core.formats import second
from core.portable import loader

FIRST = b"CNET\x01"
"""How a packed file of the first version begins."""

DICTIONARY = (
    b'{"baseline_sha256":"","classes":["T-shirt","Trouser","Pullover","Dress","Coat","Sandal","Shirt","Sneaker","Bag",'
    b'"Ankle boot"],"config":{"above_break_even":false,"activation_bits":4,"bias_correction":false,"bits":4,'
    b'"channel_score":"l1","channel_share":null,"clip":"minmax","granularity":"channel","layers":{},'
    b'"low_rank_method":"svd","rank_share":null,"recovery":{"distillation":true,"epochs":8,"learning_rate":0.05,'
    b'"schedule":"iterative","seed":0},"rounding":"gptq","scope":"network","score":"lamp","sparsity":0.95,'
    b'"symmetry":"symmetric"},"deviation":0.353,"layers":[{"between":null,"bias":-12,"input":null,"name":"conv1",'
    b'"pool":true,"relu":true,"shape":[32,1,3,3],"weights":[{"bits":4,"high":7,"low":-7,"name":"conv1.weight",'
    b'"nonzero":null,"scale":"float16","scales":[32,1,1,1],"shape":[32,1,3,3]}]},{"between":null,"bias":"float32",'
    b'"input":"float16","name":"fc2","pool":false,"relu":false,"shape":[10,128],"weights":[{"bits":4,"high":7,"low":'
    b'-7,"name":"fc2.first","scale":null,"shape":[10,128]},{"name":"fc2.weight"}]}],"mean":0.286,'
)
CHAINS = "compressed-network/2"
"""The format of a description that holds a chain."""


def packed(content: bytes) -> loader.Network:
    """The network of a packed file of any version. Raises loader.DamagedFile."""
    if content[: len(FIRST)] == FIRST:
        content = _as_second(content)
    return second.load(content) if content[: len(second.SECOND)] == second.SECOND else loader.load(content)


def _as_second(content: bytes) -> bytes:
    """A packed file of the first version as one of the second: another header, the same codes."""
    start = len(FIRST) + 4
    if len(content) < start + loader.CHECK or _sum(content[: -loader.CHECK]) != content[-loader.CHECK :]:
        raise loader.DamagedFile("The file is damaged: its checksum does not fit its content.")
    try:
        end = start + int.from_bytes(content[len(FIRST) : start], "little")
        text = zlib.decompressobj(zdict=DICTIONARY).decompress(content[start:end], 1 << 20)
        header = json.dumps(_header(json.loads(text))).encode()
    except Exception as error:  # whatever a header that makes no sense may cause
        raise loader.DamagedFile(f"The file is damaged: {str(error).rstrip('.')}.") from None
    compressor = zlib.compressobj(9, zdict=second.DICTIONARY)
    head = compressor.compress(header) + compressor.flush()
    body = second.SECOND + len(head).to_bytes(4, "little") + head + content[end : -loader.CHECK]
    return body + _sum(body)


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[: loader.CHECK]


def described(about: dict[str, Any]) -> dict[str, Any]:
    """A description of a chain as one of its graph, another one as it is. Raises what a senseless one may cause."""
    if about["format"] != CHAINS:
        return about
    without: dict[str, Any] = {"between": None, "bias": None, "weights": []}
    whole = _header({"layers": [{**layer, **without, "input": layer["input_scale"]} for layer in about["layers"]]})
    scales = {name: scale for layer in whole["layers"] for name, scale in layer.get("signals", {}).items()}
    signals = {name: {"scale": scale, "signed": False, "ends": [name]} for name, scale in scales.items()}
    layers = [layer | {"weights": [_named(weight) for weight in layer["weights"]]} for layer in about["layers"]]
    return about | {"network": whole["network"], "layers": layers, "signals": signals}


def _named(weight: dict[str, Any]) -> dict[str, Any]:
    return weight | {"encoding": "float32" if weight["bits"] == 32 else "integer grid"}


def _header(header: dict[str, Any]) -> dict[str, Any]:
    """A header of layers one after the other as one of a graph; images were grey then, of 28 x 28 pixels."""
    layers: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = []
    end, flat = "image", False
    for old in header["layers"]:
        name, shape = old["name"], old["shape"]
        layer = {"bias": old["bias"], "weights": [_weight(weight) for weight in old["weights"]]}
        layer |= {} if old["input"] is None else {"signals": {end: old["input"]}}
        layers.append(layer | ({} if old["between"] is None else {"between": old["between"]}))
        if len(shape) == 2 and not flat:
            nodes.append({"name": "flatten", "operation": "flatten"})
            flat = True
        node = {"name": name, "channels": shape[0], "operation": "linear"}
        if len(shape) == 4:
            node |= {"operation": "convolution", "kernel": shape[2:], "padding": [shape[2] // 2] * 4}
        nodes.append(node)
        if old["pool"]:
            nodes.append({"name": name + "_pool", "operation": "max_pool", "kernel": [2, 2], "stride": [2, 2]})
        if old["relu"]:
            nodes.append({"name": name + "_relu", "operation": "relu"})
        end = nodes[-1]["name"]
    return header | {"network": {"shape": [1, 28, 28], "nodes": nodes}, "layers": layers}


def _weight(old: dict[str, Any]) -> dict[str, Any]:
    about = {key: old[key] for key in ("shape", "nonzero", "values") if old[key] is not None}
    if old["scale"] is None:
        return about | {"encoding": "float32"}
    tables = {"scale": [old["scale"], prod(old["scales"])]}
    return about | {key: old[key] for key in ("bits", "low", "high")} | {"encoding": "integer grid", "tables": tables}
