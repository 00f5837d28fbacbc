"""The house stands: imports point down, and the code is as clean as it says."""

import subprocess
from collections.abc import Callable

Python = Callable[..., subprocess.CompletedProcess[str]]


def test_imports_point_down(python: Python) -> None:
    done = python("-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_code_is_linted(python: Python) -> None:
    done = python("-m", "ruff", "check", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_code_is_formatted(python: Python) -> None:
    done = python("-m", "ruff", "format", "--check", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_of_core_fit(python: Python) -> None:
    done = python("-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_core_needs_neither_its_face_nor_torchvision_to_start(python: Python) -> None:
    program = "import sys, core.bench.workbench, core.__main__; print(*(name.split('.')[0] for name in sys.modules))"
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert {"core", "torch"} <= set(done.stdout.split())
    assert not {"streamlit", "altair", "pages", "torchvision"} & set(done.stdout.split())
