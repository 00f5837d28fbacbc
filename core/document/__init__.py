"""What a document consists of, and formulas that are written once. Standard library only."""
