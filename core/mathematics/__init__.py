"""Functions of tensors, and nothing else: what a textbook would print."""
