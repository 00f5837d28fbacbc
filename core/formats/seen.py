"""Which images a network was made for, and how it sees them, as every format says it.

Of Fashion-MNIST the name is not written: it is meant where none is.
"""

from collections.abc import Mapping
from typing import Any

from core.datasets import Images, fashion_mnist
from core.networks.encodings import FormatError


def described(images: Images) -> dict[str, Any]:
    """classes, mean, deviation, and data: its name and fingerprint. One channel has numbers, several have lists."""
    mean, deviation = (each[0] if len(each) == 1 else list(each) for each in images.scaling)
    about = {"classes": list(images.classes), "mean": mean, "deviation": deviation}
    own = images.data, images.fingerprint
    return about if own == _known() else about | {"data": list(own)}


def of(about: Mapping[str, Any]) -> Images:
    """The inverse. Raises FormatError."""
    try:
        name, fingerprint = about.get("data", _known())
        scaling = [each if isinstance(each, list) else [each] for each in (about["mean"], about["deviation"])]
        record = {"data": name, "classes": about["classes"], "scaling": scaling, "fingerprint": fingerprint}
        images = Images.from_record(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(f"What the network sees cannot be read: {str(error).rstrip('.')}.") from None
    return images


def _known() -> tuple[str, str]:
    return fashion_mnist.images().data, fashion_mnist.images().fingerprint
