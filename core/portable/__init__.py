"""What leaves with an export: each file reads a network without the rest of this project."""
