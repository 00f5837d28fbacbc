"""A module out of a person's own program, with the weights of a checkpoint."""

import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core.incoming import checkpoints
from core.incoming.quoted import quoted
from core.networks.graph import BaselineError, listed

CORE = Path(__file__).resolve().parents[1]

SHOWN = 6
"""Names in a message, at most."""


class Program(NamedTuple):
    """notes : what a person should know of how it was loaded, in sentences"""

    module: nn.Module
    notes: tuple[str, ...]


def load(spec: str, weights: Path | None = None) -> Program:
    """The module that a program makes. The program runs, as a module of its own name.

    spec : "path/FILE.py:NAME", with NAME a class of nn.Module that takes no arguments, a function that makes a module,
        or a module
    weights : a file that torch.save or safetensors wrote; without one the module stays as it is made

    Raises BaselineError.
    """
    file, _, name = spec.rpartition(":") if not spec.endswith(".py") else (spec, "", "")
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise BaselineError(f"A module must be given as FILE.py:NAME, with a file that is there. Got {spec!r} instead.")
    with _at_home(path):
        module = _made(_run(path), name, path)
        if weights is None:
            return Program(module, ("No weights were given: the network has those that the program makes.",))
        return Program(module, _loaded(module, weights))


@contextmanager
def _at_home(path: Path) -> Iterator[None]:
    """As Python runs a file: its folder is searched for its imports, and its arguments are none. What it has imported
    from there is forgotten afterwards, so that another program's files of the same names are not taken for it."""
    search, arguments, known = sys.path[:], sys.argv[:], dict(sys.modules)
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path)]
    try:
        yield
    finally:
        sys.path[:], sys.argv[:] = search, arguments
        for name, own in list(sys.modules.items()):
            file = getattr(own, "__file__", None)
            if known.get(name) is not own and file and _belongs(Path(file), path.parent):
                del sys.modules[name]
                sys.modules.update({name: known[name]} if name in known else {})


def _belongs(file: Path, folder: Path) -> bool:
    """Whether it is a program's own, and no library's, nor this project's, which may lie in the same folder."""
    libraries = {"site-packages", "dist-packages"} & set(file.parts)
    return file.is_relative_to(folder) and not libraries and not file.is_relative_to(CORE)


def _run(path: Path) -> ModuleType:
    described = importlib.util.spec_from_file_location(path.stem, path)
    if described is None or described.loader is None:
        raise BaselineError(f"{path} must be a Python file.")
    program = importlib.util.module_from_spec(described)
    sys.modules[path.stem] = program
    try:
        described.loader.exec_module(program)
    except (Exception, SystemExit) as error:
        raise BaselineError(f"{path.name} could not be run: {quoted(error)}.") from None
    return program


def _made(program: ModuleType, name: str, path: Path) -> nn.Module:
    """Raises BaselineError where the name gives no module."""
    found = getattr(program, name, None) if name else None
    if isinstance(found, nn.Module):
        return found
    is_class = isinstance(found, type) and issubclass(found, nn.Module)
    if found is None or not (is_class or inspect.isroutine(found)):
        known = listed(_names(program), 2 * SHOWN) or "none"
        raise BaselineError(
            f"NAME in {path.name}:NAME must be a class of nn.Module, a function that makes a module, or a module. "
            f"Got {name!r} instead. There are: {known}."
        )
    if needed := _needed(found):
        raise BaselineError(
            f"{name} must take no arguments. It wants {', '.join(needed)}: add a function that makes it, "
            f"def net(): return {name}(...), and give {path.name}:net."
        )
    try:
        made = found()
    except (Exception, SystemExit) as error:
        raise BaselineError(f"{name} could not be made: {quoted(error)}.") from None
    if not isinstance(made, nn.Module):
        raise BaselineError(f"{name} must make a module, nn.Module. It returned {type(made).__name__} instead.")
    return made


def _names(program: ModuleType) -> list[str]:
    """Of the modules, and of what may make one, that the program itself defines."""
    found = []
    for name, own in vars(program).items():
        makes = inspect.isfunction(own) or (isinstance(own, type) and issubclass(own, nn.Module))
        if isinstance(own, nn.Module) or (makes and own.__module__ == program.__name__ and not name.startswith("_")):
            found.append(name)
    return found


def _needed(made: Any) -> list[str]:
    """Arguments without a default."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return []
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in free]


# Weights.


def _loaded(module: nn.Module, weights: Path) -> tuple[str, ...]:
    """Gives the module the weights of a file, and says what was done to them. Raises BaselineError where they are not
    the module's."""
    try:
        checkpoint = checkpoints.read(weights)
    except OSError as error:
        raise BaselineError(f"{weights} could not be read: {error}.") from None
    expected = dict(module.state_dict())
    fitted = checkpoints.fitted(checkpoint.state, expected.keys())
    _check_fit(fitted.state, expected, weights)
    try:
        with torch.no_grad():
            module.load_state_dict({**expected, **fitted.state})
    except Exception as error:
        raise BaselineError(f"{weights} could not be loaded: {quoted(error)}.") from None
    taken = (f"Taken: {checkpoint.box}.",) if checkpoint.box else ()
    left = [*checkpoint.beside, *fitted.left]
    return (*taken, *fitted.notes, *((f"Left: {listed(left, SHOWN)}.",) if left else ()))


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], weights: Path) -> None:
    """Raises BaselineError with what is missing, what is left over, and what has another shape or type."""
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in expected]
    both = [(key, state[key], expected[key]) for key in state if key in expected]
    shapes = [f"{key} {tuple(own.shape)}, not {tuple(to.shape)}" for key, own, to in both if own.shape != to.shape]
    whole = [key for key, own, to in both if to.is_floating_point() and not own.is_floating_point()]
    said = [
        f"{words}: {listed(names, SHOWN)}."
        for words, names in (
            ("Missing", missing), ("Left over", unexpected), ("Of another shape", shapes),
            ("Whole numbers, of which only their quantizer knows what they stand for", whole),
        )
        if names
    ]  # fmt: skip
    if said:
        raise BaselineError(f"The weights in {weights} must be those of the module. {' '.join(said)}")
