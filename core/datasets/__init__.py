"""Images and their classes, in memory, split once."""
