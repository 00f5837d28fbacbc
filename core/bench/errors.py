"""What a person's input or machine can cause: each message says what happened and what to do."""

from core.config import ConfigError
from core.datasets import DataError
from core.incoming.scaling import Untold as Untold
from core.machinery import devices
from core.measuring import training
from core.networks import models
from core.networks.encodings import FormatError


class UnknownBaseline(KeyError):
    """No baseline of that name, neither shipped nor in the cache nor a file."""

    def __str__(self) -> str:
        return str(self.args[0])


class NotRecovered(LookupError):
    """The configuration asks for training after compression, which was not done yet."""

    def __str__(self) -> str:
        return "This configuration was not trained yet. The button on Explore does it, and `python -m core evaluate`."


class OnlyItsFile(NotRecovered):
    """Another machine trained the network; of what its file leaves out, nothing is here."""

    def __str__(self) -> str:
        return (
            "Another machine trained this network, and only its file is here: it can be measured, compared and "
            "exported. To look inside, train it here: delete it on Compare, and use the button on Explore."
        )


ERRORS = (
    ConfigError, models.BaselineError, models.Overflow, UnknownBaseline, NotRecovered, FormatError,
    DataError, training.Diverged, devices.DeviceError, OSError,
)  # fmt: skip
"""Those that a page or a command says in words."""
