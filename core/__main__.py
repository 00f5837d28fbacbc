"""The command line: the same workbench without a browser.

With `--json` exactly one JSON object is printed on standard output; progress goes to standard error. The exit status
is 0 when it did what was asked.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from core import settings
from core.config import FORMATS, CompressionConfig, ConfigError, Device, with_text
from core.machinery.files import write_atomically
from core.machinery.records import Record
from core.settings import Setting
from core.words import counted, percent, visible


def say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    """A parser whose messages quote what was typed as harmless text: control characters are escaped."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(visible(message), file)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of classes may have letters that a terminal lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        status: int = options.run(options)
        return status
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
    except Exception as error:
        from core.bench.workbench import ERRORS  # only now: a job that waits for its turn has not loaded torch

        if not isinstance(error, ERRORS):
            raise
        say(f"error: {error}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("python -m core", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        return added

    train = command("train", _train, "train a baseline from scratch, by its recipe")
    train.add_argument("--baseline", metavar="NAME", required=True, help="mlp, mlp-course, cnn, or another family")
    train.add_argument("--data", default="fashion-mnist", metavar="NAME", help="fashion-mnist, digits, or your own")
    train.add_argument("--epochs", type=int)
    train.add_argument("--seed", type=int)
    train.add_argument("--widths", metavar="WIDTHS", help="of its layers, stage by stage: 12-12/20-20/28-28")
    train.add_argument("--teacher", metavar="NAME", help="a baseline from whose predictions it learns, too")
    train.add_argument("--out", type=Path, metavar="DIR", help="write NAME.safetensors and NAME.json there")
    _device_option(train)

    _evaluate_options(command("evaluate", _evaluate, "accuracy and size of a configuration"))

    spectrum = command(
        "spectrum", _spectrum, "singular values of each layer, and the rank that keeps a share of the energy"
    )
    spectrum.add_argument("--baseline", default="cnn", metavar="NAME")
    spectrum.add_argument("--energy", type=float, default=0.95, help="share to keep, in (0, 1]")
    spectrum.add_argument("--low-rank-method", choices=settings.named("low_rank_method").choices, default="svd")

    export = command("export", _export, "write a configuration as files, and verify them in a fresh process")
    _compression_options(export)
    export.add_argument("--format", default=",".join(FORMATS), metavar="LIST", help="of packed, onnx, safetensors")
    _report_options(export)
    export.add_argument("--out", type=Path, required=True, metavar="DIR")

    _long_commands(command)
    _file_commands(command)
    return parser


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    _compression_options(parser)
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--classes", action="store_true", help="also precision, recall, F1-score and confusion matrix")
    parser.add_argument("--configs", type=Path, metavar="FILE.jsonl", help="many: one configuration as JSON a line")
    parser.add_argument("--csv", type=Path, metavar="OUT.csv", help="of --configs: a row each")


_HEAD = {"name": "NAME", "number": "STUDENT NUMBER", "partner": "NAME", "course": "COURSE", "date": "DATE"}
"""What the report's title says of who hands it in."""


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--report", action="store_true", help="also write the report, as HTML, Markdown and DOCX")
    for field, value in _HEAD.items():
        parser.add_argument(f"--{field}", metavar=value, default="", help="below the title of the report")


def _long_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands that run many networks, or list what they found."""
    again = command("reproduce", _reproduce, "a course document's experiments, with its figures beside ours")
    again.add_argument("what", choices=["low-rank", "pruning", "quantization", "combination", "rate"])
    again.add_argument("--seeds", type=int, default=3, help="how many (low-rank, rate)")
    again.add_argument("--epochs", type=int, help="of training: low-rank 3, quantization and rate 4, others 8")
    again.add_argument("--baseline", metavar="NAME", help="not of low-rank; cnn if not given")
    again.add_argument("--allowance", type=float, help="of pruning and combination: allowed accuracy loss, a fraction")
    _confidence_option(again, "of pruning and combination: ")
    _device_option(again)

    search = command(
        "search", _search, "the smallest file within an allowed accuracy loss, or the most accurate within a size"
    )
    search.add_argument("--baseline", metavar="NAME|FILE", help="cnn if not given; mlp, mlp-course, an id, or a file")
    usage = "instead of a baseline: all, or a list of families whose networks are trained small"
    search.add_argument("--families", metavar="all|LIST", help=usage)
    search.add_argument("--data", metavar="NAME", help="of --families: the images, fashion-mnist if not given")
    search.add_argument("--seed", type=int, help="of what is drawn and trained")
    goal = search.add_mutually_exclusive_group()
    goal.add_argument("--allowance", type=float, help="allowed accuracy loss, a fraction (0.01 by default)")
    goal.add_argument("--size", type=int, metavar="BYTES", help="instead: the most accurate file of at most this size")
    goal.add_argument(
        "--floor", type=float, metavar="F", help="instead: the smallest file that is so accurate on validation"
    )
    _confidence_option(search)
    search.add_argument("--minutes", type=float, default=10.0, help="how long, the check on the test images included")
    known = [each for each in settings.techniques() if each.stage != "training"]
    rest = " and ".join(each.name for each in known if not each.searched)
    usage = f"of {', '.join(each.name for each in known)}; all but {rest} if not given"
    search.add_argument("--techniques", metavar="LIST", help=usage)
    search.add_argument("--storage", metavar="URL", help="an Optuna storage that several machines share")
    search.add_argument("--out", type=Path, metavar="DIR", help="where the files of the best go")
    _device_option(search)

    front = command(
        "pareto", _pareto, "the Pareto front: measured networks that no other one beats in size and accuracy"
    )
    front.add_argument("--baseline", default="cnn", metavar="NAME|FILE")


def _confidence_option(parser: argparse.ArgumentParser, of: str = "") -> None:
    text = "what may be lost is to hold on new images, too, with this probability, 0.9 for one"
    parser.add_argument("--confidence", type=float, metavar="C", help=f"{of}{text}")


def _file_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands about files, and those that the app and the project use."""
    verify = command("verify", _verify, "read an export, run it over the test images, compare with its verdict")
    verify.add_argument("directory", type=Path, metavar="DIR")

    bring = command("import", _import, "turn your own network into a baseline file")
    bring.add_argument("file", metavar="FILE|FILE.py:NAME", help="ONNX, a program's module, or a state dict")
    bring.add_argument("--weights", type=Path, metavar="FILE", help="of a program's module: its state dict")
    bring.add_argument("--data", default="fashion-mnist", metavar="NAME", help="the images that it was made for")
    scaling = bring.add_argument_group("input scaling, measured if not given")
    scaling.add_argument("--scale", metavar="NAME", help="dataset, unit ([0, 1]), half ([-1, 1]) or raw (0 to 255)")
    scaling.add_argument("--mean", type=_numbers, metavar="M[,M,M]", help="of pixels in [0, 1], one for each channel")
    scaling.add_argument("--std", type=_numbers, metavar="S[,S,S]", help="the same: the network sees (p - M) / S")
    bring.add_argument("--pool", metavar="KIND", help="of a state dict: max, average or none; measured if not given")
    bring.add_argument(
        "--activation", metavar="NAME", help="relu, sigmoid, tanh, gelu, leaky_relu=SLOPE, or two: sigmoid,relu"
    )
    bring.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")

    images = command("add-data", _add_data, "add images of your own, to import and train networks for")
    images.add_argument("file", type=Path, metavar="FILE|FOLDER", help=".npz, .zip, IDX files, or folders of pictures")
    images.add_argument("--name", required=True, metavar="NAME", help="small letters, digits, hyphens")
    images.add_argument("--title", metavar="TEXT", help="its heading; the name if not given")
    images.add_argument("--size", type=int, metavar="PIXELS", help="make pictures so wide and high")

    pack = command("pack-data", _pack_data, "make the file of validation, calibration and test images that ships")
    pack.add_argument("--out", type=Path, required=True, metavar="FILE.npz")

    every = command("ship", _ship, "run the long experiments whose results come with the project; what was run counts")
    every.add_argument("--out", type=Path, metavar="FILE", help="instead of where the app finds them")
    every.add_argument(
        "--again",
        nargs="+",
        default=[],
        metavar="KIND",
        help='kinds that run anew ("budget search"); the others stay as they came',
    )
    _device_option(every)
    job = command("job", _job, "the process of a job (started by the app)")
    job.add_argument("folder", type=Path)


def _numbers(text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a list of numbers. Got {text!r} instead") from None


def _of_layers() -> list[str]:
    """Options that may be given again and again, LAYER=VALUE."""
    return [setting.argument for setting in settings.of_layer()]


def _means(setting: Setting, option: str) -> bool:
    return setting.argument == option and bool(setting.usage)


def _of_networks() -> dict[str, Setting]:
    """Settings of the whole network and of its training with an option of their own, by their names in a link."""
    every = (*settings.of_network(), *settings.of_training())
    return {setting.key: setting for setting in every if setting.argument not in _of_layers()}


def _compression_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baseline", default="cnn", metavar="NAME|FILE", help="mlp, mlp-course, cnn, an id, or a file")
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON; the options below change it further")
    for option in _of_layers():
        every = (*settings.of_layer(), *settings.of_network())
        usage = next(setting.usage for setting in every if _means(setting, option))
        metavar = next(setting.metavar for setting in settings.of_layer() if setting.argument == option)
        parser.add_argument(option, action="append", default=[], metavar=metavar, help=usage)
    for key, setting in _of_networks().items():
        more: dict[str, Any] = {"metavar": setting.metavar}
        if not setting.kind.takes_value:
            more = {"action": "store_const", "const": setting.kind.written(True)}
        elif setting.choices:
            more = {"choices": setting.choices}
        parser.add_argument(setting.argument, dest=f"network_{key}", help=setting.usage, **more)
    _device_option(parser)


def _device_option(parser: argparse.ArgumentParser) -> None:
    text = "which device trains; by default the one that EXPLORER_DEVICE names, else the best that is here"
    parser.add_argument("--device", choices=get_args(Device), help=text)


def configuration(options: argparse.Namespace) -> CompressionConfig:
    """The options as one configuration. Raises ConfigError."""
    config = CompressionConfig.from_json(options.config.read_bytes()) if options.config else CompressionConfig()
    alone = _of_networks()
    texts = {key: text for key in alone if (text := getattr(options, f"network_{key}")) is not None}
    for name in (setting.key for setting in settings.of_layer()):
        for text in getattr(options, name):
            layer, equals, value = text.rpartition("=")
            if equals and not layer:
                raise ConfigError(f"--{name} must name a layer before the =. Got {text!r} instead.")
            if not equals and name in alone:
                raise ConfigError(
                    f"--{name} must be LAYER=K; {alone[name].argument} is for all layers. Got {text!r} instead."
                )
            texts[f"{layer}.{name}" if equals else name] = value
    asks, *rest = (setting.key for setting in settings.of_training())
    for key, text in sorted(texts.items(), key=lambda pair: pair[0] != asks):
        layer, _, name = key.rpartition(".")
        option = f"--{name} {layer}={text}" if layer else settings.named(key).argument
        if key in rest and config.recovery is None:
            raise ConfigError(f"{option} needs --{asks} EPOCHS: it says how the network is trained after compression.")
        try:
            config = with_text(config, key, text)
        except ConfigError as error:
            raise ConfigError(f"{option}: {error}") from None
    return config


_LONG = {"singular_values", "history", "points", "config", "report"}
"""What only JSON shows of a row."""


def _print(payload: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(payload, allow_nan=False))
        return
    width = max(map(len, payload))
    for key, value in payload.items():
        nested = _rows(value)
        print(visible(f"{key:<{width}}  {'' if nested else _text(value)}"))
        for row in nested:
            _print_row(row, "  ")


def _rows(value: object) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value]
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _print_row(row: dict[str, Any], indent: str) -> None:
    """Plain values on one line; nested rows below it, indented further."""
    shown = {key: value for key, value in row.items() if key not in _LONG}
    line = "  ".join(f"{key} {_text(value)}" for key, value in shown.items() if not _rows(value))
    print(visible(indent + line))
    for key, value in shown.items():
        for nested in _rows(value):
            print(f"{indent}  {key}")
            _print_row(nested, indent + "    ")


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], float):
            return " to ".join(map(_text, value))
        shape = len(value) <= 4 and all(isinstance(each, int) for each in value)
        return (" x " if shape else ", ").join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.3g}"
    return str(value)


def _workbench(device: Device | None = None, with_results: bool = False) -> Any:
    """device : which one trains; see `_device_option`
    with_results : whether it also knows those that come with the project, to tell of them
    """
    from core.bench.workbench import SHELF, Workbench

    return Workbench(device=device, shelf=SHELF if with_results else None)


def _train(options: argparse.Namespace) -> int:
    from core.bench.workbench import RECIPES
    from core.networks import families, models

    if options.baseline not in RECIPES:
        raise ConfigError(f"baseline must be one of {', '.join(RECIPES)}. Got {options.baseline!r} instead.")
    recipe = RECIPES[options.baseline]
    chosen = {name: vars(options)[name] for name in ("epochs", "seed", "teacher") if vars(options)[name] is not None}
    bench = _workbench(options.device)
    dataset = bench.datasets.named(options.data)
    recipe = bench.in_widths(replace(families.recipe_for(recipe, dataset), **chosen), options.widths or "")
    if options.out:  # where nothing can be written, that is said before a long training
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()
    baseline = bench.train(recipe, _show_progress)
    info = {"name": options.baseline, **baseline.info}
    answer = {"sha256": baseline.sha256, "parameters": baseline.parameters}
    answer |= {key: info[key] for key in ("best_epoch", "validation_accuracy", "test_accuracy", "seconds", "device")}
    try:
        if options.out:
            write_atomically(options.out / f"{options.baseline}.safetensors", models.to_bytes(baseline))
            text = json.dumps({**info, "sha256": baseline.sha256}, indent=1)
            write_atomically(options.out / f"{options.baseline}.json", f"{text}\n".encode())
            answer["path"] = str(options.out / f"{options.baseline}.safetensors")
    except OSError as error:
        say(f"error: {error}. The network is kept in the cache instead.")
    if "path" not in answer:
        of = "" if recipe.data == "fashion-mnist" else f", {dataset.title}"
        title = f"{options.baseline}, {counted(recipe.epochs, 'epoch')}{of}"
        answer["baseline"] = bench.add_baseline(baseline, title, "trained")
    _print(answer, options.json)
    return 1 if options.out and "path" not in answer else 0


def _show_progress(event: dict[str, Any]) -> None:
    if "message" in event:
        say(event["message"])
    elif "figures" in event:
        figures = event["figures"]
        say(
            f"epoch {event['epoch']:>3} of {event['epochs']}: training loss {figures['training_loss']:.4f}, validation "
            f"loss {figures['validation_loss']:.4f}, accuracy {figures['validation_accuracy']:.4f}, "
            f"{figures['seconds']:.1f} s"
        )


def _recovered(options: argparse.Namespace) -> tuple[Any, CompressionConfig]:
    """The workbench and the configuration, trained where it asks for that."""
    bench = _workbench(options.device)
    options.network_teacher = bench.teacher_named(options.network_teacher)
    config = configuration(options)
    if config.recovery is not None:
        bench.recover(options.baseline, config, _show_progress)
    return bench, config


def _evaluate(options: argparse.Namespace) -> int:
    if options.configs is not None or options.csv is not None:
        return _evaluate_many(options)
    from core.studies import many

    bench, config = _recovered(options)
    result = bench.evaluate(options.baseline, config, options.split)
    answer = many.summary(result, options.split)
    if options.classes:
        rows = result.evaluation.report().to_dict("index")
        answer["classes"] = [{"class": name, **row} for name, row in rows.items()]
        counts = zip(rows, result.evaluation.confusion().tolist(), strict=False)
        answer["confusion"] = [{"true": name, "predicted": predicted} for name, predicted in counts]
    _print(answer, options.json)
    return 0


def _evaluate_many(options: argparse.Namespace) -> int:
    from core.studies import many

    if options.configs is None or options.csv is None:
        raise ConfigError("--configs and --csv go together: the first names what is evaluated, the second where to.")
    if configuration(options) != CompressionConfig() or options.classes:
        raise ConfigError("--configs must stand alone. Say everything in its lines, and no configuration beside it.")
    configs, bench = many.read(options.configs), _workbench(options.device)

    def told(place: int, row: dict[str, Any]) -> None:
        say(f"{place} of {len(configs)}: {percent(row['accuracy'], 2)}, {row['bytes']:,} bytes.")

    with options.csv.open("w", newline="", encoding="utf-8") as file:
        many.write(bench, options.baseline, configs, options.split, file, _show_progress, told)
    _print({"path": str(options.csv), "rows": len(configs)}, options.json)
    return 0


def _spectrum(options: argparse.Namespace) -> int:
    if not 0 < options.energy <= 1:
        raise ConfigError(f"--energy must be in (0, 1]. Got {options.energy} instead.")
    layers = []
    bench = _workbench()
    for reason in bench.left_out(options.baseline, options.low_rank_method).values():
        say(f"Left out: {reason}")
    for layer in bench.spectrum(options.baseline, options.energy, options.low_rank_method):
        row = {"name": layer.name, "shape": list(layer.shape), "singular_values": list(layer.singular_values)}
        keys = ("rank", "share", "break_even_rank", "condition_number", "stable_rank", "effective_rank")
        layers.append(row | {key: getattr(layer, key) for key in keys})
    about = {"baseline": options.baseline, "energy": options.energy, "low_rank_method": options.low_rank_method}
    _print({**about, "layers": layers}, options.json)
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    from core.measuring.front import check_allowance, check_confidence
    from core.studies import assignment, rates, reproduce

    check_confidence(options.confidence)
    check_allowance(options.allowance)
    sure: dict[str, Any] = {"confidence": options.confidence}
    for option in ("confidence", "allowance"):
        if getattr(options, option) is not None and options.what not in ("pruning", "combination"):
            raise ConfigError(
                f"--{option} is of pruning and combination, where something is chosen. Got {options.what}."
            )
    if options.what == "low-rank" and options.baseline is not None:
        raise ConfigError("--baseline is not of low-rank: the course's report has a network of its own.")
    for option, value in (("epochs", options.epochs), ("seeds", options.seeds)):
        if value is not None and value < 1:
            raise ConfigError(f"--{option} must be at least 1. Got {value} instead.")
    name, allowance = options.baseline or "cnn", 0.01 if options.allowance is None else options.allowance
    bench, epochs, say_so = _workbench(options.device), options.epochs, _show_progress
    answer: Record
    if options.what == "low-rank":
        answer = reproduce.low_rank(bench, options.seeds, epochs or 3, say_so)
    elif options.what == "pruning":
        answer = assignment.pruning_half(bench, name, allowance, epochs or 8, say_so, **sure)
    elif options.what == "quantization":
        answer = assignment.quantization_half(bench, name, epochs or 4, say_so)
    elif options.what == "rate":
        config = rates.configuration(bench, name, epochs=epochs or 4)
        answer = rates.ablation(bench, name, config, seeds=options.seeds, progress=say_so)
        say(rates.verdict(answer))
    else:
        answer = assignment.combination(bench, name, allowance, epochs or 8, say_so, **sure)
    _print(answer.to_dict(), options.json)
    return 0


def _search(options: argparse.Namespace) -> int:
    from core.bench.workbench import Workbench
    from core.measuring.front import check_minutes
    from core.studies import search, students

    check_minutes(options.minutes)
    name, goal = students.asked_for(options)
    bench, run = Workbench(origin="searched", device=options.device), students.run if goal.families else search.run
    answer = run(
        bench, name, goal, options.minutes, options.storage, lambda event: say(event["message"]),
        out=options.out, seed=options.seed,
    )  # fmt: skip
    _print(answer.to_dict(), options.json)
    best = answer.best
    if best is None:
        say(f"{goal.none_in_words()} {goal.way_out_in_words()}")
        return 1
    if goal.floor is not None:
        say(f"{percent(best.accuracy, 2)} on validation, where the floor holds.")
    if best.at_most is not None:
        say(f"{100 * best.difference:+.2f} pp on validation; {goal.promised_in_words(best.at_most)}.")
    change, accuracy = best.test_difference, best.test_accuracy
    if change is not None and accuracy is not None and (missed := goal.missed_in_words(change, accuracy)):
        say(f"On the test images {percent(accuracy, 2)}, {100 * change:+.2f} pp. {missed}")
    return 0


def _pareto(options: argparse.Namespace) -> int:
    from core.measuring.front import pareto

    points = _workbench().points(options.baseline)
    rows = []
    for point in pareto(points):
        row = {name: getattr(point, name) for name in ("bytes", "compression_ratio", "accuracy", "difference")}
        row |= {"interval": [point.low, point.high], "techniques": list(point.techniques)}
        rows.append(row | {"recovered": point.recovered, "config": json.loads(point.config.to_json())})
    _print({"baseline": options.baseline, "points": len(points), "front": rows}, options.json)
    return 0


def _export(options: argparse.Namespace) -> int:
    formats = [part.strip() for part in options.format.split(",")]
    unknown = [part for part in formats if part not in FORMATS]
    if unknown:
        raise ConfigError(f"--format must be a list of {', '.join(FORMATS)}. Got {options.format!r} instead.")
    unused = [f"--{field}" for field in _HEAD if getattr(options, field) and not options.report]
    if unused:
        raise ConfigError(f"{unused[0]} needs --report: it stands below the title of the report.")
    bench, config = _recovered(options)
    verdict = bench.export(options.baseline, config, options.out, formats, lambda text, done: say(f"{text} ..."))
    answer = verdict.to_dict()
    if options.report:
        from core.document import blocks
        from core.report import content, document

        say("Writing the report ...")
        head = blocks.TitleBlock(**{field: getattr(options, field) for field in _HEAD})
        known = _workbench(with_results=True)
        document.write(content.build(known, options.baseline, config, verdict, head=head), options.out)
        answer["report"] = [str(options.out / name) for name in document.FILES]
    answer["config"] = json.loads(config.to_json())
    _print(answer, options.json)
    return 0 if verdict.ok else 1


def _verify(options: argparse.Namespace) -> int:
    from core.formats import artifact

    verdict = artifact.verify(options.directory, _workbench().datasets, lambda text, done: say(f"{text} ..."))
    _print(verdict.to_dict(), options.json)
    return 0 if verdict.ok else 1


def _import(options: argparse.Namespace) -> int:
    from core.bench.arrivals import Known, summary
    from core.networks import models
    from core.report import tables

    source = Path(options.file.rpartition(":")[0] if ".py:" in options.file else options.file)
    if options.out.suffix != ".safetensors":
        raise ConfigError(f"--out must be a file that ends in .safetensors. Got {str(options.out)!r} instead.")
    for given in filter(None, (source, options.weights)):
        if options.out.exists() and given.exists() and options.out.samefile(given):
            raise ConfigError(
                f"--out must be another file than those that are read. Got {str(options.out)!r} for both."
            )
    fields = ("data", "scale", "mean", "std", "pool", "activation")
    known = Known(**{field: getattr(options, field) for field in fields})
    bench = _workbench()
    with contextlib.redirect_stdout(sys.stderr):  # what the program prints is no answer
        baseline = bench.arrivals.from_file(options.file, options.weights, options.out.stem, known)
    info = baseline.info
    write_atomically(options.out, models.to_bytes(baseline))
    images = baseline.images
    answer = {
        "name": baseline.name, "path": str(options.out), "road": info["road"], "accuracy": info["accuracy"],
        "images": info["images"], "data": images.data, "classes": list(images.classes), "scale": info["scale"],
        "mean": list(images.scaling.mean), "deviation": list(images.scaling.deviation), "model": baseline.model,
        "parameters": baseline.parameters, "bytes": baseline.bytes, "same_as_original": info["same"],
        "layers": [{"name": layer.name, "shape": list(layer.shape)} for layer in baseline.layers],
    }  # fmt: skip
    _print(answer, options.json)
    if not options.json:
        print(visible("\n".join(["", *tables.as_lines(baseline.network), ""])))
    for note in (*info["notes"], summary(baseline)):
        say(note)
    return 0


def _add_data(options: argparse.Namespace) -> int:
    from core.datasets import reading

    datasets = _workbench().datasets
    dataset = reading.add(reading.read(options.file, options.size), options.name, datasets.folder, options.title)
    counts = {split: len(dataset.load(split, datasets.folder, say)) for split in ("train", "validation", "test")}
    answer = {
        "data": dataset.name, "classes": list(dataset.classes), "shape": list(dataset.shape), "images": [counts],
        "mean": list(dataset.scaling.mean), "deviation": list(dataset.scaling.deviation),
    }  # fmt: skip
    _print(answer, options.json)
    return 0


def _pack_data(options: argparse.Namespace) -> int:
    from core.bench.workbench import cache_folder
    from core.datasets import fashion_mnist

    fashion_mnist.write_evaluation_images(options.out, cache_folder() / "data", say)
    _print({"path": str(options.out), "bytes": options.out.stat().st_size}, options.json)
    return 0


def _ship(options: argparse.Namespace) -> int:
    from core.bench.workbench import SHELF
    from core.studies import shipping

    out = options.out or SHELF
    bench = _workbench(options.device, with_results=bool(options.again))
    made = shipping.ship(bench, out, lambda event: say(event["message"]), options.again)
    _print({"path": str(out), **made}, options.json)
    return 0


def _job(options: argparse.Namespace) -> int:
    from core.machinery import jobs

    def work() -> jobs.Work:
        from core.bench.workbench import SHELF, Workbench
        from core.machinery import devices
        from core.studies.kinds import KINDS

        kind = KINDS[json.loads((options.folder / "request.json").read_text())["kind"]]
        shelf = SHELF if kind.looks_up else None
        bench = Workbench(options.folder.parent.parent, kind.origin, priority="last", shelf=shelf)
        return devices.watched(kind.work(bench))

    return jobs.run(options.folder, work)


if __name__ == "__main__":
    sys.exit(main())
