"""What the README claims, measured side by side in one run; each prints a table and, with --json, one JSON object."""
