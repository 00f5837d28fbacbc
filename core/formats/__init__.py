"""A stored network as files, and what reads them."""
