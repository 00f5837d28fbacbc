"""How good a network is, and how it learns."""
