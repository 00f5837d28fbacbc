"""Files that appear whole or not at all."""

import contextlib
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
"""The folder in which `python -m core` runs."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, flush to the disk, then rename. Raises OSError (disk full, ...)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{os.getpid()}-{threading.get_ident()}-{path.name}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def safetensors_header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where it ends: 8 bytes of length, then JSON, padded with spaces."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), end


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
