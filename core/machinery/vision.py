"""torchvision's datasets, also where its compiled operators do not fit the installed torch.

A torchvision wheel built for CUDA fails to import beside a CPU-only torch ("operator torchvision::nms does not
exist"). The datasets are pure Python, so it is enough to declare the two missing operators, and only then.
"""

import sys

import torch

try:
    import torchvision.datasets as datasets
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    _schemas = torch.library.Library("torchvision", "DEF")
    for _operator in ("nms", "qnms"):
        _schemas.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for _name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[_name]
    import torchvision.datasets as datasets

__all__ = ["datasets"]
