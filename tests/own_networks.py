"""A network as people bring it: a program, its weights, an ONNX file; trained on the digits in a second."""

from functools import cache
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

PROGRAM = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 12, 3, padding=1)
        self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(48, 10)

    def forward(self, x):
        x = self.pool(torch.sigmoid(self.conv1(x)))
        x = self.pool(torch.sigmoid(self.conv2(x)))
        return self.fc(x.flatten(1))
"""


def pixels() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)


def trained(module: nn.Module, scale: float = 1.0, epochs: int = 20) -> nn.Module:
    """On images in [0, scale]."""
    torch.manual_seed(0)
    x, y = pixels()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(epochs):
        for places in torch.randperm(1_400).split(64):
            optimizer.zero_grad()
            F.cross_entropy(module(scale * x[places]), y[places]).backward()
            optimizer.step()
    return module.eval()


def random_batch_norms(module: nn.Module) -> nn.Module:
    """As after a training: statistics and affine parameters that are not 0 and 1."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.2, 3)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module.eval()


class Residual(nn.Module):
    """Normalization, an addition, global averaging."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.conv3, self.bn3 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = F.relu(self.bn3(self.conv3(x)) + x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def separable() -> nn.Module:
    """Depthwise convolutions and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU6(),
        nn.Conv2d(12, 12, 3, 2, 1, groups=12, bias=False), nn.BatchNorm2d(12), nn.ReLU6(),
        nn.Conv2d(12, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6(), nn.Flatten(), nn.Linear(384, 10),
    )  # fmt: skip


class Fire(nn.Module):
    """Two ways that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.wide = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.narrow, self.scores = nn.Conv2d(6, 8, 1), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.squeeze(x)), 2)
        return self.scores(torch.cat([F.relu(self.narrow(x)), F.leaky_relu(self.wide(x), 0.1)], 1).flatten(1))


@cache
def own_net() -> nn.Module:
    """Trained on images in [0, 1]."""
    namespace: dict[str, Any] = {}
    exec(PROGRAM, namespace)
    return trained(namespace["Net"]())


def onnx_of(net: nn.Module, outside: str = "") -> bytes:
    """As an exporter writes it; `outside` : the file that its weights lie in."""
    held = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["a"], pads=[1] * 4),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c", "conv2.weight", "conv2.bias"], ["d"], pads=[1] * 4),
        helper.make_node("Sigmoid", ["d"], ["e"]),
        helper.make_node("AveragePool", ["e"], ["f"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    x, y = (helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 1, 8, 8]), ("y", [1, 10])))
    tensors = [numpy_helper.from_array(array, name) for name, array in held.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "net", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    if outside:
        onnx.external_data_helper.convert_model_to_external_data(model, True, outside, 0)
    content: bytes = model.SerializeToString()
    return content
