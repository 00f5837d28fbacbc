"""A device that is not there: its tensors lie in memory that no other device's operation may touch, and it computes
what the CPU would, bit for bit. Like Apple's MPS it has no float64, like CUDA it takes no tensor of the CPU into an
operation, but for a number, an index, and a copy.

It is PyTorch's PrivateUse1 device, which is kept for devices that PyTorch does not know, under the name "standin".
`tensor.to("standin")`, `.cpu()`, `module.to(...)`, factories and gradients work as on any device; backward passes run
in a thread of the device's own.

It is imported before anything else, by conftest.py: PyTorch counts its devices when the first gradient is computed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "standin"


class Module(_DummyBackendModule):  # type: ignore[misc]
    """`torch.standin`"""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device: int) -> Tensor:
        """It draws the CPU's random numbers."""
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: int) -> None:
        torch.set_rng_state(state)

    def synchronize(self) -> None:
        """Nothing waits: what was asked for is done."""


_setup_privateuseone_for_python_backend(NAME, Module())
DEVICE = torch.device(NAME, 0)

aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put_.default)
"""Operations whose indices may lie on the CPU."""


class There(Tensor):
    """A tensor on the device. memory : what only the device can see, on the CPU in truth"""

    memory: Tensor

    @staticmethod
    def __new__(cls, memory: Tensor) -> "There":
        if memory.dtype == torch.float64:
            raise TypeError(f"Cannot convert a tensor to float64: {NAME} has no float64.")
        with torch.inference_mode(False):  # a view of a tensor that gradients know must be one, too
            made = Tensor._make_wrapper_subclass(
                cls, memory.size(), strides=memory.stride(), storage_offset=memory.storage_offset(),
                dtype=memory.dtype, layout=memory.layout, device=DEVICE,
            )  # fmt: skip
        made.memory = memory
        return made  # type: ignore[no-any-return]

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """With the next, what makes `module.to` replace a parameter whole, memory and all."""
        return ["memory"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], *_: object) -> "There":
        return There(inner["memory"])

    def data_ptr(self) -> int:
        """No address: there is nothing that another device could read, and a copy is made by the device itself."""
        return 0

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: object) -> str:
        return f"{NAME}: {self.memory}"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if torch.is_inference_mode_enabled():  # elsewhere what is made of other operations came as these
            made = func.decompose(*args, **named)
            if made is not NotImplemented:
                return made
        if func is aten.copy_.default:
            return _copied(args[1], args[0])
        if func is aten._to_copy.default:
            place = torch.device(named.pop("device", None) or DEVICE)
            made = func(args[0].memory, **named)
            return There(made) if place.type == NAME else made
        if func is aten._has_compatible_shallow_copy_type.default:
            return False
        tensors = list[Tensor]()
        seen = [_each(lambda own: _seen(own, tensors), own) for own in (args, tuple(named.values()))]
        if func not in INDEXED and any(not isinstance(own, There) and own.dim() for own in tensors):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME} and cpu in {func}.")
        made = func(*seen[0], **dict(zip(named, seen[1], strict=True)))
        known = {id(own.memory): own for own in tensors if isinstance(own, There)}  # what was changed in place
        return _each(lambda own: _there(own, known), made)


def _each(change: Callable[[Any], Any], own: Any) -> Any:
    """Of the lists and tuples that operations take and give, one in another, everything in them."""
    return type(own)(_each(change, part) for part in own) if type(own) in (list, tuple) else change(own)


def _seen(own: Any, tensors: list[Tensor]) -> Any:
    """What an operation on the device works with; it is noted among the `tensors`, if it is one."""
    if isinstance(own, torch.device):
        return torch.device("cpu")
    if isinstance(own, Tensor):
        tensors.append(own)
    return own.memory if isinstance(own, There) else own


def _there(own: Any, known: Mapping[int, Tensor]) -> Any:
    """What an operation on the device gives: a tensor that is `known` by its memory, or a new one."""
    return own if not isinstance(own, Tensor) else known[id(own)] if id(own) in known else There(own)


def _copied(source: Tensor, to: Tensor, non_blocking: bool = False) -> Tensor:
    here, there = (own.memory if isinstance(own, There) else own for own in (source, to))
    there.copy_(here)
    return to


def _empty(size: Sequence[int], *, dtype: Any = None, memory_format: Any = None, **_: object) -> Tensor:
    return There(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size: Sequence[int], stride: Sequence[int], *, dtype: Any = None, **_: object) -> Tensor:
    return There(torch.empty_strided(size, stride, dtype=dtype))


_LIBRARY = torch.library.Library("aten", "IMPL")
for _name, _made in {"empty.memory_format": _empty, "empty_strided": _empty_strided, "_copy_from": _copied}.items():
    _LIBRARY.impl(_name, _made, "PrivateUse1")
