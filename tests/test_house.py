"""The house stands: imports point down, and the code is as clean as it says."""

import ast
import io
import subprocess
import tokenize
from collections.abc import Callable
from functools import cache
from pathlib import Path

from conftest import PROJECT

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


# A room that outgrows what a person reads in one go is split.

FUNCTION_LINES, CLASS_LINES, FILE_LINES, PAGE_LINES, DOOR_LINES = 40, 250, 500, 100, 240
WINGS = {
    ("mathematics",): 800, ("networks", "techniques", "measuring"): 4250, ("bench",): 2000, ("studies",): 3750,
    ("incoming",): 2700, ("report", "document"): 2100, ("machinery",): 1200, ("formats", "portable"): 1600,
    ("datasets",): 900, ("pretrained",): 0,
}  # fmt: skip
"""Lines of code at most, without comments and docstrings, of what is read for one reason; an evening's reading is 800.
A wing that needs more has taken in what belongs elsewhere, or a library has."""


def sources(*folders: str) -> list[Path]:
    every = [path for folder in folders for path in sorted((PROJECT / folder).rglob("*.py"))]
    assert every
    return every


@cache
def lines_of_code(text: str) -> int:
    """Lines that hold code: no blank ones, comments or docstrings."""
    passive = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in passive]
    held = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held -= set(range(node.lineno, node.value.end_lineno + 1))
    return len(held)


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Of a function, without its docstring."""
    first = node.body[1 if ast.get_docstring(node) is not None and len(node.body) > 1 else 0]
    return (node.end_lineno or node.lineno) - first.lineno + 1


def test_what_counts_as_code() -> None:
    assert lines_of_code('"""Words.\n\nMore."""\n\n# why\nx = (1,\n     2)\n"""Of x."""\n') == 2
    (function,) = ast.parse('def f():\n    """Words."""\n    a = 1\n\n    return a\n').body
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 3


def test_no_function_class_or_file_is_longer_than_a_person_reads_at_once() -> None:
    too_long = []
    for path in sources("core", "pages"):
        text, name = path.read_text(), path.relative_to(PROJECT).as_posix()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > FUNCTION_LINES:
                too_long.append(f"{name}: {node.name} has {body_lines(node)} lines")
            if isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno + 1 > CLASS_LINES:
                too_long.append(f"{name}: class {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines")
        if lines_of_code(text) > FILE_LINES:
            too_long.append(f"{name} has {lines_of_code(text)} lines of code")
    for page in (PROJECT / "pages").glob("*.py"):
        if len(page.read_text().splitlines()) > PAGE_LINES:
            too_long.append(f"{page.name} is a page: it reads from top to bottom")
    assert len((PROJECT / "core/bench/workbench.py").read_text().splitlines()) <= DOOR_LINES, "it names and delegates"
    assert not too_long


def test_the_wings_stay_small_enough_to_be_read() -> None:
    there = {path.name for path in (PROJECT / "core").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert sorted(there) == sorted(name for folders in WINGS for name in folders), "each is in one"
    for folders, most in WINGS.items():
        paths = [path for name in folders for path in (PROJECT / "core" / name).rglob("*.py")]
        assert sum(lines_of_code(path.read_text()) for path in paths) <= most, folders


def test_the_benchmarks_speak_of_what_is_there(python: Python) -> None:
    names = [path.stem for path in (PROJECT / "benchmarks").glob("*.py") if path.stem not in ("__init__", "server")]
    done = python("-c", "\n".join(f"import benchmarks.{name}" for name in names))
    assert done.returncode == 0, done.stderr
    from benchmarks.mutants import MODULES

    for module, tests in MODULES.items():
        assert (PROJECT / "core" / f"{module}.py").is_file()
        assert all(list((PROJECT / "tests").rglob(f"test_{name}.py")) for name in tests)


def test_a_page_is_drawn_again_in_one_way() -> None:
    """Streamlit's own way loses a click on another page that waits: `pages.choice.frame.draw_again` does not."""
    bare = [path.name for path in sources("pages") if "st.rerun(" in path.read_text()]
    assert bare == ["frame.py"]
