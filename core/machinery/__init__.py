"""Files, processes and threads. Knows no network."""
