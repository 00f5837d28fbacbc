"""The results of long experiments that come with the project: which ones, how they are made, when they still hold.

An answer lies under a key of its request and of everything that the code decides (`key`). Change a method or an
experiment, and it is not found any more: `python -m core ship` makes all of them anew.
"""

import json
import os
import platform
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core import settings
from core.bench import reliance
from core.bench.knowledge import SINGULAR_VALUES
from core.bench.places import along, beginning
from core.bench.results import first_layer
from core.bench.submissions import students_request
from core.bench.workbench import SHIPPED, SplitName, Workbench
from core.config import EXAMPLE, CompressionConfig, ConfigError, RecoveryConfig
from core.datasets.fashion_mnist import FASHION_MNIST
from core.machinery import shelf
from core.machinery.store import key_of
from core.measuring import training
from core.measuring.front import SEARCH, SMALL, STUDENTS, Goal, Point, behind, pareto
from core.measuring.training import Progress
from core.studies import assignment, inspection, kinds, rates, reproduce, sharing, tuning
from core.studies.answers import (
    ChannelPruning,
    Combination,
    IterativeSearch,
    Ladder,
    OneShotSearch,
    QuantizationHalf,
    RateCurve,
    Searched,
)

ANSWER, TOOK = "answer", "took"
"""Kinds of entries in the store: what came of a request, and the longest that it took here."""

FRONT_BYTES = 48 * 1024
"""Trained networks of the searched front, and of the curve of rates, that come along are at most so large."""

FAR, BEHIND = 0.06, 0.01
"""Points that lose more than so much, a fraction, stay here, and so do those as far behind the front."""

LIBRARIES = ("torch", "numpy")

ALLOWANCE = 0.01
"""Accuracy that experiments may lose, a fraction."""

FLOOR = 0.9292
"""That of the CNN on validation less as much: what a small network of any family is to have."""

SPLITS: tuple[SplitName, ...] = ("validation", "test")

Request = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """request : as a job has it; result : an answer of its kind
    made : `date` (ISO), `seconds`, those of a run that found none of its trainings done where there was one, `machine`,
        `versions` of libraries
    """

    request: Request
    result: Any
    made: dict[str, Any]


def requests() -> list[Request]:
    """What comes with the project, as pages ask for it at first: everything for the CNN, short ones for the others."""
    iterative, goal = assignment.iterative(8).to_request(), Goal(allowance=ALLOWANCE).to_request()
    rated: Request = {"bits": 4, "activation_bits": None, "epochs": 4}
    whole: list[Request] = [
        {"kind": tuning.ONE_SHOT, "allowance": ALLOWANCE},
        {"kind": tuning.SCAN, "score": "magnitude"},
        {"kind": tuning.ITERATIVE, "allowance": ALLOWANCE, "recovery": iterative, "score": assignment.ITERATIVE.score},
        {"kind": assignment.CHANNELS, "epochs": 6},
        {"kind": assignment.LADDER},
        {"kind": assignment.WIDTHS, "rung": "+ GPTQ"},
        {"kind": assignment.MIXED, "rung": "+ GPTQ", "activations": 8},
        {"kind": assignment.QUANTIZATION, "epochs": 4},
        {"kind": assignment.ORDERS, "layer": "fc1", "sparsity": 0.9, "bits": 3, "share": 0.25},
        {"kind": tuning.ALLOCATION, "method": "svd"},
        {"kind": tuning.ALLOCATION, "method": "whitened"},
        {"kind": assignment.COMBINATION, "allowance": ALLOWANCE, "epochs": 8},
        {"kind": SEARCH, "goal": goal, "minutes": 10.0},
        {"kind": sharing.SHARING},
        {"kind": rates.CURVE, **rated},
        {"kind": rates.ABLATION, **rated, "schedule": "iterative", "seeds": 3},
    ]
    of_all = (tuning.ONE_SHOT, assignment.LADDER, sharing.SHARING)
    small = [request for request in whole if request["kind"] in of_all]
    report: Request = {"kind": reproduce.LOW_RANK, "seeds": 3, "epochs": 3}
    of_cnn = [{**request, "baseline": "cnn"} for request in whole]
    others = [{**request, "baseline": name} for name in ("mlp", "compact", "residual") for request in small]
    families = students_request(FASHION_MNIST.name, Goal(floor=FLOOR, families=SMALL), 10.0)
    return [*of_cnn, *others, report, families]


def key(bench: Workbench, request: Request) -> str:
    """Of an answer: the request, the baselines' weights, the constants of methods and trainings, the experiments."""
    every = SHIPPED if request["kind"] == STUDENTS else reproduce.LOOKED_AT
    names = [request["baseline"]] if "baseline" in request else list(every)
    profiles = {name: bench.profile(name) for name in names}
    images = profiles[names[0]].images
    trainings = {
        name: reliance.trainings(training.recipe(RecoveryConfig(), profile.model, images.data), images)
        for name, profile in profiles.items()
    }
    return key_of(
        ANSWER,
        request=request,
        baselines=[profile.sha256 for profile in profiles.values()],
        methods=reliance.networks(images) | reliance.files() | reliance.versions(settings.shipped()),
        trainings=trainings,
        experiments=experiments(request["kind"]),
    )


def experiments(kind: str) -> dict[str, Any]:
    """What the code of the experiments decides besides methods and trainings, for this kind of them."""
    ways = assignment.ways().items() if kind == assignment.COMBINATION else ()
    combined = {way: [json.loads(each.to_json()) for each in configs] for way, configs in ways}
    bits = assignment.ASSIGNED if kind == assignment.QUANTIZATION else ()
    trained = {each: assignment.quantized_training(each).to_request() for each in bits}
    scenarios = {scenario.title: json.loads(scenario.config.to_json()) for scenario in reproduce.scenarios()}
    rated = {"rates": rates.fixed()} if kind in rates.KINDS else {}
    found = {"students": reliance.students(FLOOR)} if kind == STUDENTS else {}
    return {
        "versions": [assignment.VERSION, tuning.VERSION, reproduce.VERSION],
        "rungs": assignment.RUNGS,
        "trained": trained,
        "ways": combined,
        "scenarios": scenarios,
        "tuning": [tuning.SHRINK, tuning.FAR_ENOUGH, tuning.ALIKE, tuning.GRID, tuning.LOOK_ON],
        "places": [tuning.TARGETS, tuning.SHARES, tuning.WIDTHS],
        **rated,
        **found,
    }


def answer(bench: Workbench, request: Request) -> Answer | None:
    """What came with the project for this request, as the code would still make it; None where nothing did, or where it
    is damaged."""
    if "baseline" in request and request["baseline"] not in SHIPPED:
        return None
    entry = bench.store.get(key(bench, request))
    if entry is None:
        return None
    record = json.loads(entry.payload)
    result = kinds.answer(request["kind"], record["result"])
    return None if result is None else Answer(request, result, record["made"])


def made_in_words(made: dict[str, Any]) -> str:
    """The day, the machine and the libraries. Nothing of it may be there, where the shelf is damaged."""
    if not made:
        return "where and when is not known"
    day = date.fromisoformat(made["date"])
    libraries = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    return f"on {day.day} {day:%B %Y} on {made['machine']}, {libraries}"


# Making them


def ship(
    bench: Workbench, path: Path, progress: Progress = lambda event: None, again: Collection[str] = ()
) -> dict[str, Any]:
    """Run every experiment that was not run with this code here, and write the shelf. Returns `about`, as it says.

    bench : without a shelf; with one, what is on it counts, and is put on the new one
    again : kinds that are run anew, whatever is known of them
    Raises ConfigError for a kind that is none, what experiments raise, OSError.
    """
    wanted = requests()
    known = sorted({request["kind"] for request in wanted})
    for kind in again:
        if kind not in known:
            raise ConfigError(f"again must be of {', '.join(known)}. Got {kind!r} instead.")
    answers = [_made(bench, request, progress, request["kind"] in again) for request in wanted]
    progress({"message": "Collecting."})
    with TemporaryDirectory(prefix="shelf-") as folder:
        entries = _entries(bench, Workbench(Path(folder), "shipped"), answers)
    about = bench.store.about_below or {**_where(), "date": time.strftime("%Y-%m-%d")}
    about |= {"answers": len(answers), "entries": len(entries)}
    shelf.write(path, entries, about)
    return about | {"bytes": path.stat().st_size}


def _made(bench: Workbench, request: Request, progress: Progress, again: bool) -> Answer:
    known = answer(bench, request)
    if known is not None and not again:
        return known
    title = f"{request['kind']}, {request.get('baseline') or request.get('data') or reproduce.REPORT_BASELINE}"
    kind = kinds.KINDS[request["kind"]]
    worker = Workbench(bench.cache, kind.origin, None if bench.device is None else bench.device.type)  # type: ignore[arg-type]
    progress({"message": f"{title}: begun."})
    start = time.monotonic()
    result = kind.run(worker, request, partial(_said, progress, title), lambda: False)
    took = _longest(bench, request, round(time.monotonic() - start))
    made = {**_where(), "date": time.strftime("%Y-%m-%d"), "seconds": took}
    fresh = Answer(request, result, made)
    bench.store.put(key(bench, request), ANSWER, _payload(fresh), kept=True)
    progress({"message": f"{title}: {made['seconds']} s."})
    return fresh


def _longest(bench: Workbench, request: Request, seconds: int) -> int:
    """So long, or longer where an earlier run took longer: trainings that the cache holds take no time again, and
    whoever runs it elsewhere waits for them."""
    name = key_of(TOOK, request=request)
    before = bench.store.get(name)
    longest = max(seconds, 0 if before is None else int(json.loads(before.payload)))
    bench.store.put(name, TOOK, json.dumps(longest).encode(), kept=True)
    return longest


def _payload(answer: Answer) -> bytes:
    """Without the place of a file, which is on this machine alone."""
    result = answer.result
    if isinstance(result, Searched) and result.best is not None:
        result = replace(result, best=replace(result.best, path=None))
    return json.dumps({"result": result.to_dict(), "made": answer.made}).encode()


def _said(progress: Progress, title: str, event: dict[str, Any]) -> None:
    if "message" in event:
        progress({"message": f"{title}: {event['message']}"})


def _where() -> dict[str, Any]:
    """The machine and the libraries, without names."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    return {"machine": machine, "versions": {name: version(name) for name in LIBRARIES}}


def _entries(bench: Workbench, clean: Workbench, answers: list[Answer]) -> dict[str, shelf.Entry]:
    """Answers; the networks that pages offer, as packed files; what pages show of them at once; points for Compare.

    clean : with an empty cache; what it holds in the end is what ships
    """
    for name in SHIPPED:
        for split in SPLITS:
            clean.evaluate(name, CompressionConfig(), split)
    for name, config in _offered(bench, answers):
        history = bench.history(name, config)
        clean.adopt(name, config, bench.file_of(name, config.as_trained()), history, bench.kept_epoch(name, config))
        clean.evaluate(name, config)
    for name, config, split in _shown(answers):
        clean.evaluate(name, config, split)
    _open(clean)
    entries = {key(bench, made.request): shelf.Entry(ANSWER, _payload(made)) for made in answers}
    for kind in ("recovered", "evaluation", "point", SINGULAR_VALUES, inspection.OUTPUT_ERROR):
        for place in reversed(clean.store.keys(kind)):
            if known := clean.store.get(place):
                entries[place] = shelf.Entry(kind, known.payload, known.weights)
    for place, entry in _points_beforehand().items():
        entries.setdefault(place, entry)
    for point in _seen(bench):
        place = bench.point_key(point.baseline, point.config)
        entries.setdefault(place, shelf.Entry("point", replace(point, origin="shipped").to_json().encode()))
    return entries


def _seen(bench: Workbench) -> Iterator[Point]:
    """What a search or an experiment has seen that is worth a look, and can be measured again in a moment."""
    for name in SHIPPED:
        points = [point for point in bench.points(name) if point.origin != "explored" and not point.recovered]
        front = pareto(points)
        yield from (own for own in points if own.difference >= -FAR and behind(front, own) <= BEHIND)


def _open(clean: Workbench) -> None:
    """Ask for what Spectrum and Quantization show at first, where finding it out takes seconds."""
    for name in SHIPPED:
        first = first_layer(clean.spectrum(name))
        for method in settings.named("low_rank_method").choices:
            clean.spectrum(name, method=method)  # type: ignore[arg-type]
            clean.evaluate(name, CompressionConfig(low_rank_method=method).with_layer(first.name, rank=first.rank))
        largest = clean.profile(name).largest.name
        for config in (EXAMPLE, inspection.only(EXAMPLE, largest, "gptq")):
            inspection.output_error(clean, name, config, largest)


def _points_beforehand() -> dict[str, shelf.Entry]:
    """What the curves of the first example and Compare begin with, without the predictions."""
    entries: dict[str, shelf.Entry] = {}
    with TemporaryDirectory(prefix="points-") as folder:
        clean = Workbench(Path(folder), "shipped")
        for config in (*(place for curve in along(EXAMPLE).values() for place in curve), *beginning()):
            point = clean.point_of(clean.evaluate("cnn", config))
            entries[clean.point_key("cnn", config)] = shelf.Entry("point", point.to_json().encode())
        clean.store.close()
    return entries


def _offered(bench: Workbench, answers: list[Answer]) -> list[tuple[str, CompressionConfig]]:
    """Trained networks with which a person can go on: those that experiments chose, and the small ones of the front."""
    offered = [network for answer in answers for network in _chosen(answer)]
    front = [point for point in pareto(bench.points("cnn")) if point.recovered and point.bytes <= FRONT_BYTES]
    offered += [("cnn", point.config) for point in front]
    return [(name, config) for name, config in dict.fromkeys(offered) if config.recovery is not None]


def _chosen(answer: Answer) -> Iterator[tuple[str, CompressionConfig]]:
    """The networks that a page offers for use, a baseline that comes along and its configuration, of an experiment that
    trains, or of a search."""
    name, result = answer.request.get("baseline", ""), answer.result
    if isinstance(result, QuantizationHalf):
        yield from ((name, row.after.configuration) for row in result.rows)
    elif isinstance(result, Searched):
        if result.best is not None and result.best.baseline in SHIPPED:
            yield result.best.baseline, result.best.configuration
    elif isinstance(result, Combination):
        if result.best is not None:
            yield name, result.best.configuration
    elif isinstance(result, IterativeSearch):
        if result.chosen is not None:
            yield name, result.chosen.configuration
    elif isinstance(result, ChannelPruning):
        yield name, assignment.best_channels(result.rows).configuration
    elif isinstance(result, RateCurve):
        yield from ((name, row.configuration) for row in result.rows if row.bytes <= FRONT_BYTES)


def _shown(answers: list[Answer]) -> Iterator[tuple[str, CompressionConfig, SplitName]]:
    """What pages measure besides: verdicts on the test images, what stands beside them, and the first example."""
    for answer in answers:
        name, result = answer.request.get("baseline", ""), answer.result
        if isinstance(result, IterativeSearch | ChannelPruning):
            for _, config in _chosen(answer):
                yield name, config, "test"
                if isinstance(result, IterativeSearch):  # as sparse in one shot
                    yield name, replace(config, recovery=None), "validation"
        if isinstance(result, OneShotSearch):
            best = tuning.best_one_shot(result.answers).point.configuration
            for split in SPLITS:
                yield name, best, split
        if isinstance(result, Ladder):
            fewest = assignment.fewest_rung(result.rows, ALLOWANCE)
            if fewest is not None:
                yield name, fewest.configuration, "test"
    yield "cnn", EXAMPLE, "validation"
