"""What went wrong in a program that is not ours, in one line."""

import re
import sysconfig
import traceback
from pathlib import Path

LENGTH = 300
"""Of a message, at most, in characters."""

_FOREIGN = (sysconfig.get_paths()["stdlib"], str(Path(__file__).resolve().parents[1]))
"""Where files lie that the person has not written."""


def quoted(error: BaseException) -> str:
    """`ValueError: its message (net.py, line 7: x = self.fc(x))`."""
    message = " ".join(re.split(r"\n\s*\n", str(error).strip())[0].split()).rstrip(".")
    message = re.sub(r"\bs\d+\b", "n", message)  # the number of images, while torch traces
    message = message if len(message) <= LENGTH else f"{message[:LENGTH]}..."
    return (f"{type(error).__name__}: {message}" if message else type(error).__name__) + place(error)


def place(error: BaseException) -> str:
    """` (net.py, line 7: x = self.fc(x))`, the last line of the person's own files that led to it; "" where all of it
    happened in libraries."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line})" if frames else ""


def _is_own(filename: str) -> bool:
    """Whether a file is neither of a library nor made while it ran."""
    libraries = {"site-packages", "dist-packages"} & set(Path(filename).parts)
    return not libraries and not filename.startswith(("<", *_FOREIGN))
