"""Many measurements with one question."""
