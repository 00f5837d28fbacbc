"""The experiments and parts of single pages."""
