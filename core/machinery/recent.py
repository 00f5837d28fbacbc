"""The latest of what was made, up to a limit. Threads may share one: an answer is never taken from under another."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

V = TypeVar("V")


def size_of(value: object) -> int:
    """Bytes of the tensors and arrays in a value; of anything else a few."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    if isinstance(value, tuple | list):
        return sum(map(size_of, value))
    if is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in fields(value))
    return 64


class Recent:
    """limit : bytes, by `size_of`. Above it what was used longest ago is forgotten; never what was made last."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes, self._forgotten = limit, 0, 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def made(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made where it is not there. It is made without the lock: of two threads that make the
        same at once, both get the value of the first that is ready."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                known: V = self._entries[key][0]
                return known
            forgotten = self._forgotten
        value = make()
        with self._lock:
            if forgotten != self._forgotten:  # it may be this one that was forgotten meanwhile
                return value
            value, _ = self._entries.setdefault(key, (value, 0))
            size = size_of(value)
            self.bytes += size - self._entries.pop(key)[1]
            self._entries[key] = value, size
            while self.bytes > self.limit and len(self._entries) > 1:
                _, (_, freed) = self._entries.popitem(last=False)
                self.bytes -= freed
        return value

    def forget(self, key: Hashable) -> None:
        """What was made of a key, or is just being made, is no longer so."""
        with self._lock:
            self._forgotten += 1
            _, freed = self._entries.pop(key, (None, 0))
            self.bytes -= freed
