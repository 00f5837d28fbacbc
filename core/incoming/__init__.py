"""How other people's networks come in: one file for each road, and one for what they share (`draft`)."""
