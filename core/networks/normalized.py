"""A network as it is trained from nothing: with batch normalization behind every convolution, which is folded into it
afterwards, and dropout behind hidden linear layers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.networks import graph
from core.networks.folding import fold_batch_norm
from core.networks.graph import Network
from core.networks.models import Tensors
from core.networks.normalization import normalize
from core.networks.operations import NetworkError, Node
from core.networks.trainable import key


class Normalized(nn.BatchNorm2d):
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


class NormalizedNetwork(nn.Module):
    """`network` with weights as torch initializes them. dropout : share of the hidden activations dropped in training

    Raises NetworkError for a network with an `affine` node: what it would begin with is not known.
    """

    def __init__(self, network: Network, dropout: float = 0.0) -> None:
        super().__init__()
        if network.affine_shapes:
            raise NetworkError("A network with affine nodes is not trained from nothing: they are what is left of one.")
        self.network, self.dropout = network, dropout
        self.layers, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for layer in network.layers:
            outputs, inputs = layer.shape[:2]
            if layer.kind == "linear":
                self.layers[key(layer.name)] = nn.Linear(inputs, outputs)
                continue
            inputs = inputs * layer.groups
            convolution = nn.Conv2d(inputs, outputs, layer.shape[2:], groups=layer.groups, bias=False)  # type: ignore[arg-type]
            self.layers[key(layer.name)] = convolution
            self.norms[key(layer.name)] = Normalized(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return graph.run(self.network.nodes, x, self._product, self._dropped)

    def _product(self, node: Node, x: Tensor) -> Tensor:
        layer, norm = self.layers[key(node.name)], key(node.name)
        x = node.row.torch(node, x, layer.weight, layer.bias)
        return self.norms[norm](x) if norm in self.norms else x

    def _dropped(self, name: str, x: Tensor) -> Tensor:
        node = self.network.named[name]
        hidden = node.row.follows and node.inputs[0] in self.network.named
        if hidden and self.network.named[node.inputs[0]].operation == "linear":
            return F.dropout(x, self.dropout, self.training)
        return x

    @torch.no_grad()
    def folded(self) -> Tensors:
        """The tensors of the network, by name, batch normalization folded."""
        tensors = dict[str, Tensor]()
        for layer in self.network.layers:
            parts = self.layers[key(layer.name)].state_dict()
            weight, bias = parts["weight"], parts.get("bias", torch.zeros(layer.shape[0]))
            if key(layer.name) in self.norms:
                norm = self.norms[key(layer.name)].state_dict()
                norms = [norm[part] for part in ("weight", "bias", "running_mean", "running_var")]
                weight, bias = fold_batch_norm(weight, bias, *norms)
            tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"] = weight.contiguous(), bias.contiguous()
        return tensors
