"""A PyTorch module as a network: traced by `torch.export`, and put down operator by operator.

The module's own code runs, on made-up images; the module is left as it was.
"""

import inspect
import io
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from core.incoming import aten
from core.incoming.aten import Call, Reading, Value
from core.incoming.draft import Draft
from core.incoming.originals import unboxed
from core.incoming.quoted import place, quoted
from core.networks import models
from core.networks.graph import IMAGE, BaselineError, Network
from core.networks.models import Tensors
from core.networks.operations import NetworkError, Shape

TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3}
"""How far scores may lie from the module's, as a share of the largest, by the type of its numbers."""

COARSE = 5e-2
"""The same for types of 16 bits."""

_BY_BATCH = object()
"""Stands for what is made of the number of images in a batch."""


class Read(NamedTuple):
    """notes : what a person should know of how it was read, in sentences
    shape : of an image as the module takes it; batch : how many it takes at once, None for any number
    """

    network: Network
    tensors: Tensors
    notes: tuple[str, ...]
    shape: Shape
    batch: int | None


class _Input(NamedTuple):
    """words : what the module is given; shape : of one of them; batch : how many; fixed : whether no other number"""

    words: str
    shape: Shape
    batch: int = 2
    fixed: bool = False


class _Traced(NamedTuple):
    """program : of torch.export; example : what it was traced with"""

    program: Any
    example: Tensor
    given: _Input


class _Found(NamedTuple):
    """softmax : what stood behind the scores"""

    network: Network
    tensors: Tensors
    softmax: str


def read(module: nn.Module, shape: tuple[int, int, int]) -> Read:
    """The network that a module computes in evaluation mode.

    shape : of an image, (channels, height, width). Where the module does not take (n, channels, height, width), it is
    given signals (n, channels, width) where the height is 1, grey images (n, height, width), and features (n, all).

    Raises BaselineError where an operator has no place in `core.networks.operations`, or where the module's own code
    fails.
    """
    module = _unwrapped(module)
    if isinstance(module, torch.jit.ScriptModule):
        raise BaselineError("A TorchScript module cannot be taken over: give the module that it was made of, or ONNX.")
    _check_signature(module)
    if unready := [name for name, own in module.named_parameters() if nn.parameter.is_lazy(own) or own.is_meta]:
        raise BaselineError(f"{unready[0]} must hold numbers. Load its weights, or run the module once, before.")
    with _unchanged(module), torch.no_grad():
        module.eval()
        traced = _traced(module, shape)
        try:
            found = _Walk(traced, shape).finished()
        except NetworkError as error:
            raise BaselineError(str(error)) from None
        _check_same(module, traced, found)
    left = f"The {found.softmax} at the end is left out: the scores before it put the classes in the same order."
    batch = traced.given.batch if traced.given.fixed else None
    return Read(found.network, found.tensors, (left,) if found.softmax else (), traced.given.shape, batch)


def _unwrapped(module: nn.Module) -> nn.Module:
    """Without what torch.compile and parallel training put around it."""
    parallel = isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel)
    inner = getattr(module, "module" if parallel else "_orig_mod", None)
    return _unwrapped(inner) if isinstance(inner, nn.Module) else module


def _check_signature(module: nn.Module) -> None:
    needed = [
        each.name
        for each in inspect.signature(module.forward).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise BaselineError(
            f"A network must compute scores from images alone. forward of {type(module).__name__} wants "
            f"{', '.join(needed)}: give all but the first a default, or wrap it in a module that takes images."
        )


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Puts back what running a module may change: its mode, and whatever it keeps as attributes, parameters and
    buffers."""
    tables = [table for each in module.modules() for table in (each.__dict__, each._parameters, each._buffers)]
    kept = [(table, dict(table)) for table in tables]
    plain = [own for each in module.modules() for own in each.__dict__.values() if isinstance(own, Tensor)]
    numbers = [own.detach().clone() for own in plain]
    try:
        yield
    finally:
        for table, before in kept:
            table.clear()
            table.update(before)
        for own, value in zip(plain, numbers, strict=True):
            own.detach().copy_(value)


# Tracing.


def _inputs(shape: tuple[int, int, int]) -> Iterator[_Input]:
    """What a module may want, the likeliest first. One image alone is for those that write view(1, -1)."""
    channels, height, width = shape
    yield _Input("images", shape)
    yield _Input("images", shape, 1, True)
    if height == 1:
        yield _Input("signals", (channels, width))
    if channels == 1 and height > 1:
        yield _Input("grey images", (height, width))
    yield _Input("features", (prod(shape),))


def _traced(module: nn.Module, shape: tuple[int, int, int]) -> _Traced:
    """Traced with the first input that it takes. Raises BaselineError, with what it said to each."""
    like = next((own for own in module.parameters() if own.is_floating_point()), torch.empty(0))
    said = dict[str, str]()
    for given in _inputs(shape):
        size = (given.batch, *given.shape)
        example = torch.rand(size, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)
        try:
            return _Traced(_exported(module, example, given.fixed), example, given)
        except Exception as error:
            if type(error).__name__ == "GuardOnDataDependentSymNode":
                raise BaselineError(
                    "What is computed must not depend on the numbers in the images: if and for over them, and item() "
                    f"or float() of them, cannot be taken over{place(error)}."
                ) from None
            if not given.fixed:
                said.setdefault(quoted(error), f"{given.words}, {_sized(given.shape)}")
    raise BaselineError(
        "The module could not be run. " + " ".join(f"With {words}: {error}." for error, words in said.items())
    )


def _sized(shape: Sequence[object]) -> str:
    return f"({', '.join(['n', *map(str, shape)])})"


def _exported(module: nn.Module, example: Tensor, fixed: bool) -> Any:
    """What `torch.export.export` makes of it; what it, and the module, print meanwhile is dropped."""
    from torch.export import Dim, export  # only now: it takes seconds to load

    sizes = None if fixed else ({0: Dim("n", min=1)},)
    loggers = [logging.getLogger(f"torch.{name}") for name in ("_subclasses.fake_tensor", "fx.experimental", "__trace")]
    levels = [each.level for each in loggers]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for each in loggers:
                each.setLevel(logging.CRITICAL)
            return export(module, (example,), dynamic_shapes=sizes)
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)


# Reading.


class _Walk:
    """Through the operators of a traced module, in their order.

    values : node -> Value; a tensor, where no image takes part; or _BY_BATCH. parameters : node -> name of the one
    parameter that it comes from
    """

    def __init__(self, traced: _Traced, shape: Shape) -> None:
        self.program, self.given = traced.program, traced.given
        self.reading = Reading(Draft(shape))
        self.values: dict[fx.Node, Any] = {}
        self.parameters: dict[fx.Node, str] = {}
        self.batch = "1"

    def finished(self) -> _Found:
        """Raises BaselineError, NetworkError."""
        self.program.graph.eliminate_dead_code()
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node)
            elif node.op == "call_function" and not _operator(node).startswith(("_assert", "sym_constrain")):
                self.values[node] = self._computed(node)
        scores = self._scores()
        network, tensors = self.reading.draft.finished(self.reading.features(scores))
        return _Found(network, tensors, scores.softmax)

    def _placeholder(self, node: fx.Node) -> Any:
        signature = self.program.graph_signature
        if node.name in signature.inputs_to_parameters:
            self.parameters[node] = signature.inputs_to_parameters[node.name]
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        named |= signature.inputs_to_lifted_tensor_constants
        if node.name in named:
            held = {**self.program.constants, **self.program.state_dict}
            return held[named[node.name]].detach().cpu()
        self.batch = str(node.meta["val"].shape[0])
        return Value(IMAGE, self.given.shape, IMAGE)

    def _scores(self) -> Value:
        """What the network puts out: one score for each class. Raises BaselineError."""
        wanted = [name for name in self.program.graph_signature.user_outputs if name is not None]
        outputs = [value for node, value in self.values.items() if node.name in wanted]
        if len(wanted) != 1 or not outputs:
            raise BaselineError(f"A network must put out scores alone. This one puts out {len(wanted)}: return one.")
        value = outputs[0]
        if not isinstance(value, Value):
            raise BaselineError("What a network puts out must depend on the images.")
        if any(value.padding) or prod(value.shape) != max(value.shape, default=1):
            raise BaselineError(f"A network must put out scores, (n, classes). Got {_sized(value.shape)} instead.")
        if prod(value.shape) == 1:
            raise BaselineError(
                "A network must put out a score for each class. This one puts out one number: for two classes it needs "
                "two scores, as nn.Linear(features, 2) trained with nn.CrossEntropyLoss."
            )
        return value

    def _computed(self, node: fx.Node) -> Any:
        if isinstance(node.meta.get("val"), torch.SymInt | int):
            return _BY_BATCH
        sources = node.all_input_nodes
        inputs = [self.values.get(each, _BY_BATCH) for each in sources]
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda each: self.values.get(each, _BY_BATCH))
        by_batch = any(each is _BY_BATCH for each in inputs)
        if not any(isinstance(each, Value) for each in inputs):
            from_one = [self.parameters[each] for each in sources if each in self.parameters]
            self.parameters |= {node: from_one[0]} if len(from_one) == 1 else {}
            return _BY_BATCH if by_batch else _constant(node, args, kwargs)
        if node.target is operator.getitem and args[1] == 0:
            return args[0]
        call = self._call(node, args, kwargs)
        made = aten.apply(self.reading, call, by_batch)
        return self._in_place(call["self"], made) if _operator(node) != call.operator else made

    def _call(self, node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        schema = getattr(node.target, "_schema", None)
        declared = schema.arguments if schema else ()
        names = [each.name for each in declared]
        arguments = dict(zip(names, args, strict=False)) | dict(kwargs)
        arguments |= {
            each.name: each.default_value
            for each in declared
            if each.has_default_value() and each.name not in arguments
        }
        name = _operator(node).removesuffix("_")
        modules = [*(node.meta.get("nn_module_stack") or {"": ("", "")}).values()]
        where, kind = map(str, modules[-1])
        own = where if where and kind.startswith("torch.nn.") else ""
        for argument, source in zip(names, node.args, strict=False):
            if argument in ("weight", "mat2", "other") and source in self.parameters:
                layer, _, part = self.parameters[source].rpartition(".")
                own = layer if part == "weight" else own or self.parameters[source]
        own = own or f"{where}.{name}".lstrip(".")
        return Call(name, own, where, arguments, self._size(node.meta.get("val")))

    def _size(self, made: Any) -> Shape | None:
        """Of the first output for one image; None where the first axis is not that of the batch."""
        made = made[0] if isinstance(made, list | tuple) and made else made
        size = tuple(made.shape) if isinstance(made, Tensor) else ()
        whole = all(isinstance(each, int) for each in size[1:])
        return size[1:] if size and whole and str(size[0]) == self.batch else None

    def _in_place(self, changed: Any, made: Value) -> Value:
        """What was computed in place: all that lies in the same memory is it now."""
        if not isinstance(changed, Value):
            return made
        for node, value in self.values.items():
            if isinstance(value, Value) and value.storage == changed.storage:
                self.values[node] = replace(value, name=made.name)
        return replace(made, storage=changed.storage)


def _operator(node: fx.Node) -> str:
    """`conv2d` of aten.conv2d.default."""
    schema = getattr(node.target, "_schema", None)
    return str(schema.name.rpartition(":")[2] if schema else getattr(node.target, "__name__", node.target))


def _constant(node: fx.Node, args: Any, kwargs: Any) -> Any:
    """What an operator makes of weights and numbers alone. Raises BaselineError where it draws it."""
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise BaselineError(f"{_operator(node)} draws random numbers. A network must compute the same each time.")
    copies = fx.node.map_aggregate((args, kwargs), lambda own: own.clone() if isinstance(own, Tensor) else own)
    return node.target(*copies[0], **copies[1])


def _check_same(module: nn.Module, traced: _Traced, found: _Found) -> None:
    """Raises BaselineError where the network does not compute what the module does."""
    state = {name: own.clone() for name, own in (*module.named_parameters(), *module.named_buffers())}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(traced.example.shape, generator=generator).to(traced.example)

    try:
        with redirect_stdout(io.StringIO()):
            expected = torch.func.functional_call(module, state, (x.clone(),))
    except Exception as error:
        raise BaselineError(f"The module could not be run: {quoted(error)}.") from None
    expected = unboxed(expected).flatten(1).cpu().float()
    scores = models.scores(found.network, found.tensors, x.cpu().float().reshape(-1, *found.network.shape))
    scores = getattr(F, found.softmax)(scores, 1) if found.softmax else scores
    allowed = TOLERANCE.get(x.dtype, COARSE) * float(expected.abs().max()) + 1e-5
    if not bool(((scores - expected).abs() <= allowed).all()):
        raise BaselineError(
            "What was read computes other scores than the module does, which happens where forward changes what it "
            "has kept, or computes with random numbers. The module must compute the same each time."
        )
