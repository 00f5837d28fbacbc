"""Neural-network compression on Fashion-MNIST: the mathematics, the networks, and what a page or a shell asks for."""

import os

# Before torch is loaded: threads that spin while they wait take the cores from everything else on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
