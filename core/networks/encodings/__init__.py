"""How a weight is kept as numbers in a file, a file here for each way: `float32`, `integer_grid`, `codebook`.

A file says ENCODING = a class of `StoredTensor`, and is found here: what is stored, which weight that is, and what is
written of it into each format. An `Encoder` is the same while a network is trained. Whoever adds one also says in
`core.portable.loader` how its values become weights, and in `core.portable.plain_torch`.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.config import FLOAT_BITS

Shape = tuple[int, ...]


class FormatError(ValueError):
    """Not a file of ours, or a damaged one."""


class Take(Protocol):
    """Takes a tensor out of a file, by what follows its name, of one of these types and shapes and with numbers in
    [low, high]; halves become float32. Raises FormatError, KeyError."""

    def __call__(
        self, end: str, kinds: tuple[torch.dtype, ...], *shapes: Shape, low: float = ..., high: float = ...
    ) -> Tensor: ...


class Written(Protocol):
    """An ONNX graph as it is written. narrow : codes in the narrowest type that holds them, and not in int8"""

    narrow: bool

    def named(self, name: str, values: NDArray[Any]) -> str: ...

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str: ...

    def needs(self, opset: int, version: int) -> None:
        """The first versions of the operators, and of the file, that know what was written."""


@dataclass(frozen=True, eq=False)
class StoredTensor(ABC):
    """One stored weight: a layer's own ("fc1.weight") or one of its two factors ("fc1.first", "fc1.second"). Immutable.

    values : as the weight, 0 where that is 0: float32, or whole numbers in [-256, 255], int16, which are coded
    mask : bool, True where kept; None where nothing was pruned
    """

    encoding: ClassVar[str]
    """Its name in files."""

    ends: ClassVar[tuple[str, ...]]
    """What follows the weight's name in those of the tensors that keep it."""

    name: str
    values: Tensor
    mask: Tensor | None = None

    bits: int = FLOAT_BITS

    @abstractmethod
    def weight(self) -> Tensor:
        """The weight that is evaluated, float32."""

    @property
    def tables(self) -> dict[str, Tensor]:
        """The float32 numbers with which the values become weights, by what they are called in files."""
        return {}

    @classmethod
    @abstractmethod
    def of(cls, name: str, values: Tensor, mask: Tensor | None, bits: int, tables: Mapping[str, Tensor]) -> Self:
        """As a packed file holds it; each table is (n,). Raises FormatError, KeyError."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """As safetensors hold it, by what follows the name."""

    @classmethod
    @abstractmethod
    def taken(cls, name: str, shape: Shape, bits: int, take: Take) -> Self:
        """The inverse; the mask is that of the values that are not 0. Raises FormatError, KeyError."""

    @abstractmethod
    def onnx(self, graph: Written) -> str:
        """The name of the weight in an ONNX graph that holds what is stored."""

    @abstractmethod
    def check(self) -> None:
        """Raises FormatError where what was read is no weight. That its numbers are finite is checked for all alike."""

    @property
    def coded(self) -> bool:
        """Whether its values are whole numbers, which an entropy coder writes."""
        return not self.values.is_floating_point()

    @property
    def count(self) -> int:
        return self.values.numel()

    @property
    def masked(self) -> int:
        """Weights that pruning removed."""
        return 0 if self.mask is None else self.count - int(torch.count_nonzero(self.mask))

    @property
    def zeros(self) -> int:
        """All zeros: those that pruning made and those that rounding made."""
        return self.count - int(torch.count_nonzero(self.values))


class Encoder(nn.Module, ABC):
    """Makes of a float32 weight, pruned already, the one that acts; its parameters are learned in training.

    None of these decays (`core.measuring.training`); steps of grids are called "scale", and stay positive.
    """

    bits: int = FLOAT_BITS

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """The weight as it acts; straight-through while training."""

    def rescale(self, factor: Tensor) -> None:
        """Follow a weight whose rows are multiplied by these numbers > 0, (out, 1, ...)."""

    def rate(self, weight: Tensor) -> Tensor:
        """What a coder will spend on the weight's values, in bits, smooth: training can lower it (`mathematics.rate`).
        Numbers that are not coded cost the same whatever they are."""
        return weight.new_tensor(float(FLOAT_BITS * weight.numel()))

    @abstractmethod
    def freeze(self, name: str, weight: Tensor, mask: Tensor | None) -> StoredTensor:
        """What is stored; weight and mask are the caller's own copies, on the CPU."""


@cache
def encodings() -> dict[str, type[StoredTensor]]:
    """All that there are, by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {module.ENCODING.encoding: module.ENCODING for module in modules}


def named(name: object) -> type[StoredTensor]:
    """Raises FormatError."""
    if not isinstance(name, str) or name not in encodings():
        raise FormatError(f"A weight must be kept as one of {', '.join(encodings())}. Got {name!r} instead.")
    return encodings()[name]


def kept(values: Tensor) -> Tensor | None:
    """The mask of what is not 0; None where nothing is."""
    mask = values != 0
    return None if bool(mask.all()) else mask


def must_be(name: str, value: object, expected: object) -> None:
    """Raises FormatError where a file holds something else than it must."""
    if value != expected:
        raise FormatError(f"{name} must be {expected!r}. Got {value!r} instead.")
