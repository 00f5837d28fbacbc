"""What ends work that nobody wants any more."""


class Stopped(Exception):
    """Somebody asked for it to stop, or nobody waits for it; nothing half-done is kept."""
