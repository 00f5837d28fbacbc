"""Neural-network compression: the mathematics, the networks, and what a page or a shell asks for."""

import os

# Before torch is loaded: threads that spin while they wait take the cores from everything else on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def open_network(*network: object, **known: object) -> object:
    """A network of one's own in a notebook: `core.notebook.open_network`, which says what can be given."""
    from core import notebook

    return notebook.open_network(*network, **known)  # type: ignore[arg-type]
