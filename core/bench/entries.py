"""What is written to the store so that it is not evicted: what a person trained, loaded, pinned or searched for."""

from core.machinery.store import Store


def put(store: Store, key: str, kind: str, payload: bytes, weights: bytes | None = None, kept: bool = False) -> bool:
    """Whether it was stored. Where there is no room for more of what is kept, it is stored like any result; the pages
    say so."""
    return (kept and store.put(key, kind, payload, weights, kept=True)) or store.put(key, kind, payload, weights)


def keep(store: Store, key: str, kind: str, payload: bytes, weights: bytes | None = None) -> None:
    """As `put`, for what nobody wants to lose. Raises OSError where the disk refuses."""
    if not put(store, key, kind, payload, weights, kept=True):
        raise OSError(store.problem or "The cache cannot be written.")
