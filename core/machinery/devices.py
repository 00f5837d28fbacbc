"""Where a training runs: on the best device of this machine, or on the one that a person names. How it is run, not what
comes of it: no key of the cache holds it.

What a device that fails says is put into words, with the way out: the CPU can do whatever another device cannot.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from core.config import ConfigError

VARIABLE = "EXPLORER_DEVICE"
"""Of the environment: the device that trains, where nothing else says it."""

CPU = "cpu"
DEVICES: dict[str, Callable[[], bool]] = {
    "cuda": lambda: torch.cuda.is_available(),
    "mps": lambda: torch.backends.mps.is_available(),
    CPU: lambda: True,
}
"""Name -> whether this machine has it; the best first. "mps" is Apple's."""


FAILED = "failed on"
"""In an event of a job: the device that it failed on."""


class DeviceError(RuntimeError):
    """A device that is not there, or that failed; the message says what happened and what to do."""

    def __init__(self, device: str, message: str) -> None:
        super().__init__(message)
        self.device = device

    @classmethod
    def missing(cls, name: str) -> "DeviceError":
        here = ", ".join(name for name, is_here in DEVICES.items() if is_here())
        return cls(name, f"This machine has no device {name} that its torch can use. Choose one that is here: {here}.")

    @classmethod
    def of(cls, device: torch.device, error: Exception) -> "DeviceError":
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0].rstrip(".")
        short = isinstance(error, torch.OutOfMemoryError) or "out of memory" in said.lower()
        what = "has too little free memory for this training" if short else "cannot do this training"
        return cls(
            device.type,
            f"The device {device.type} {what} ({said}). Train on the CPU instead: with --device {CPU} on "
            f"the command line, with {VARIABLE}={CPU} in the environment of the app, or with the button of the job.",
        )


def chosen(name: str | None = None) -> torch.device:
    """The device `name`, else the one that `EXPLORER_DEVICE` names, else the best that is here.

    Raises ConfigError for a name that is none of `DEVICES`, DeviceError for a device that is not here.
    """
    if not (wanted := name or os.environ.get(VARIABLE)):
        return torch.device(next(name for name, is_here in DEVICES.items() if is_here()))
    if wanted not in DEVICES:
        where = "device" if name else VARIABLE
        raise ConfigError(f"{where} must be one of {', '.join(sorted(DEVICES))}. Got {wanted!r} instead.")
    if not DEVICES[wanted]():
        raise DeviceError.missing(wanted)
    return torch.device(wanted)


@contextmanager
def in_words(device: torch.device) -> Iterator[None]:
    """What torch raises on a device, out of memory or for want of an operation, leaves as DeviceError. Of the CPU, to
    which there is no alternative, it leaves as it is."""
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if device.type == CPU or isinstance(error, DeviceError):
            raise
        raise DeviceError.of(device, error) from error


def watched(work: Callable[..., Any]) -> Callable[..., Any]:
    """The work of a job; where a device fails it, an event says which, so that a page can offer another one."""

    def watch(request: dict[str, Any], report: Callable[[dict[str, Any]], None], *rest: Any) -> Any:
        try:
            return work(request, report, *rest)
        except DeviceError as error:
            report({FAILED: error.device})
            raise

    return watch


def failed(events: Iterable[Mapping[str, Any]]) -> str | None:
    """The device that failed a job, of whose events these are; None where it was none's fault."""
    return next((event[FAILED] for event in events if FAILED in event), None)
