"""The report to hand in: only what was measured, the same in all three formats, nothing loaded from anywhere."""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import docx
import pandas as pd
import pytest
from conftest import HARD_WORDS, MLP_SHAPES, Laboratory, copied, leave_result, random_tensors, train_on_few
from markdown_it import MarkdownIt
from PIL import Image

from core import __main__, palette
from core.bench.results import ExportVerdict
from core.bench.workbench import Workbench
from core.config import CompressionConfig, RecoveryConfig
from core.document.blocks import Code, Figure, Formula, Heading, Listing, Paragraph, Report, Table, TitleBlock
from core.document.steps import Subject
from core.formats import artifact
from core.formats.artifact import CheckedFile
from core.machinery import shelf
from core.measuring.evaluation import Latency
from core.networks.models import Baseline
from core.report import content, document, plots, references, weighing, wording
from core.report import laboratory as laboratory_parts
from core.report.findings import SHOWN_FLIPS
from core.studies import assignment, kinds, shipping, tuning
from core.studies.answers import IterativeSearch, OneShotSearch, Run
from core.techniques.pruning import check_sparsity
from core.techniques.quantization import TECHNIQUE as QUANTIZATION
from core.words import JOINER, one_line, percent

EVERYTHING = CompressionConfig(
    channel_share=0.9, sparsity=0.5, score="lamp", bits=4, activation_bits=6, clip="mse", rounding="gptq",
    bias_correction=True, low_rank_method="whitened",
).with_layer("fc2", rank=3)  # fmt: skip
LEARNED = CompressionConfig(bits=4, recovery=RecoveryConfig(2, 0.001))
TRAINED = CompressionConfig(sparsity=0.5, recovery=RecoveryConfig(2, 0.01, 7, "iterative", True))
STEPS = {
    "Channels": CompressionConfig(channel_share=0.5),
    "Low rank": CompressionConfig(rank_share=0.25),
    "Pruning": CompressionConfig(sparsity=0.5),
    "Quantization of weights": CompressionConfig(bits=4, symmetry="asymmetric", granularity="tensor"),
    "Quantization of activations": CompressionConfig(activation_bits=4),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Workbench(tmp_path_factory.mktemp("report"))
    yield made
    made.turns.close()
    made.store.close()


@pytest.fixture(scope="module")
def small(bench: Workbench) -> str:
    """A baseline that somebody gave a name of his own."""
    return bench.add_baseline(
        Baseline("x", random_tensors(MLP_SHAPES, 1)), "<script>alert(1)</script> *a|b*\x07", "loaded"
    )


def latency(median: float) -> tuple[Latency, ...]:
    return tuple(Latency(batch, 30, median, 0.9 * median, 1.1 * median) for batch in (1, 250))


@pytest.fixture(scope="module")
def verdict(bench: Workbench, small: str) -> ExportVerdict:
    def file(path: str, kind: str, size: int, median: float, **more: Any) -> CheckedFile:
        return CheckedFile(path, kind, size, "ab" * 32, 0.1234, 0.9987, latency=latency(median), **more)

    files = (
        file("network.packed", "packed", 4_321, 5e-5, reader="NumPy 9.8.7", largest_logit_difference=3.25e-6),
        file("/home/anna/network.onnx", "onnx", 65_432, 2e-5, ties=(5, 8)),
        file("int8.onnx", "onnx-int8", 23_456, 3e-5, problem="[Errno 2] No such file: '/home/anna/out/int8.onnx'"),
    )
    sizes = bench.sizes(bench.evaluate(small, EVERYTHING, "test"))
    sizes |= {Path(file.path).name: file.bytes for file in files[1:]}
    return ExportVerdict(False, "test", 10_000, files, ("Without onnx-int2: 6 bits.",), 0.5, sizes)


@pytest.fixture(scope="module")
def full(bench: Workbench, small: str, verdict: ExportVerdict) -> Report:
    return content.build(bench, small, EVERYTHING, verdict)


def headings(made: Report) -> list[str]:
    return [block.text for block in made.blocks if isinstance(block, Heading)]


def table(made: Report, column: str) -> list[dict[str, str]]:
    """The first table that has the column, as rows."""
    return tables(made, column)[0]


def tables(made: Report, column: str) -> list[list[dict[str, str]]]:
    found = [block for block in made.blocks if isinstance(block, Table) and column in block.header]
    return [[dict(zip(own.header, row, strict=True)) for row in own.rows] for own in found]


def text(made: Report) -> str:
    return "\n".join(block.text for block in made.blocks if isinstance(block, Paragraph | Code))


def number(cell: str) -> float:
    return float(cell.replace(",", "").split()[0])


def test_accuracies_and_differences_are_those_that_were_measured(bench: Workbench, small: str, full: Report) -> None:
    rows = table(full, "95 % interval")
    for row, split in zip(rows, ("validation", "test"), strict=True):
        measured = bench.evaluate(small, EVERYTHING, split)  # type: ignore[arg-type]
        assert row["images"] == f"{split} ({measured.evaluation.images:,})"
        assert number(row["baseline"]) == pytest.approx(100 * measured.baseline.accuracy, abs=0.005)
        assert number(row["compressed"]) == pytest.approx(100 * measured.evaluation.accuracy, abs=0.005)
        assert number(row["difference"]) == pytest.approx(100 * measured.comparison.difference, abs=0.005)
        assert (number(row["lost"]), number(row["gained"])) == (measured.comparison.lost, measured.comparison.gained)
        ends = [float(end) for end in re.findall(r"[-+]\d+\.\d+", row["95 % interval"])]
        assert ends == pytest.approx([100 * end for end in measured.comparison.interval], abs=0.005)


def test_bytes_add_up_to_the_file(bench: Workbench, small: str, full: Report, verdict: ExportVerdict) -> None:
    result, rows = bench.evaluate(small, EVERYTHING, "test"), table(full, "weight before")
    *layers, whole = [int(number(row["bytes"])) for row in rows]
    assert sum(layers) == whole == result.bytes
    assert [number(row["parameters"]) for row in rows[:4]] == [row.parameters for row in result.layers]
    assert {row["counted as"]: number(row["bytes"]) for row in table(full, "counted as")} == {
        way: round(count) for way, count in bench.sizes(result).items()
    } | {Path(file.path).name: file.bytes for file in verdict.files if file.format != "packed"}


def test_classes_and_flips_are_those_that_were_measured(bench: Workbench, small: str, full: Report) -> None:
    result = bench.evaluate(small, EVERYTHING, "test")
    whole = bench.evaluate(small, CompressionConfig(), "test")
    for made, rows in zip((whole, result), tables(full, "precision"), strict=True):
        expected = made.evaluation.report()
        overall = rows[-3]
        assert overall["class"] == "accuracy"
        assert number(overall["F1-score"]) == pytest.approx(100 * made.evaluation.accuracy, abs=0.005)
        assert {row["class"] for row in rows} == {"accuracy", *expected.index}
        for row in rows:
            if row["class"] != "accuracy":
                for column, key in (("precision", "precision"), ("recall", "recall"), ("F1-score", "f1")):
                    assert number(row[column]) == pytest.approx(100 * expected.loc[row["class"], key], abs=0.005)
                assert number(row["support"]) == expected.loc[row["class"], "images"]
    counts = {row["outcome"]: number(row["images"]) for row in table(full, "outcome")}
    assert counts["lost"] == result.comparison.lost
    assert counts["gained"] == result.comparison.gained
    assert counts["all"] == sum(counts.values()) / 2 == len(bench.flips(result))


def test_ranks_stand_beside_break_even_and_the_numbers_they_hold(bench: Workbench, small: str, full: Report) -> None:
    layers = {row.name: row for row in bench.evaluate(small, EVERYTHING, "test").layers}
    for row in table(full, "r (m + n)"):
        m, n = (int(side) for side in row["m × n"].split(" × "))
        assert m == layers[row["layer"]].channels
        assert number(row["m n"]) == m * n
        assert int(row["full rank"]) == min(m, n)
        assert row["rank"] == str(layers[row["layer"]].rank or "dense")
        if row["rank"] != "dense":
            assert number(row["r (m + n)"]) == int(row["rank"]) * (m + n)
            assert 0 < number(row["energy kept"]) <= 100


def test_files_are_those_of_the_verdict_and_no_folder_is_named(full: Report, verdict: ExportVerdict) -> None:
    rows = table(full, "agreement")
    assert [number(row["bytes"]) for row in rows] == [file.bytes for file in verdict.files]
    assert {row["accuracy"] for row in rows} == {percent(0.1234, 2)}
    assert {row["agreement"] for row in rows} == {percent(0.9987, 2)}
    assert [number(row["median, µs"]) for row in table(full, "median, µs")] == [50, 50, 20, 20, 30, 30]
    assert "The smallest file is network.packed, 4,321 bytes" in text(full)
    assert "network.onnx is fastest" in text(full)
    assert "network.onnx: 2 predictions differ" in text(full)
    assert "did NOT pass" in text(full)
    assert "No such file: 'int8.onnx'" in text(full)
    assert "Without onnx-int2: 6 bits." in text(full)
    assert "anna" not in document.to_html(full)


def test_the_report_speaks_in_the_fields_terms(full: Report, whole: Report) -> None:
    for made in (full, whole):
        said = document.to_markdown(made)[0]
        plain = ("Where the bytes are", "best rounding", "integer codes", "map of zeros", "| smaller", "| zeros |")
        assert not [words for words in plain if words in said]


def test_without_an_export_the_report_says_so(bench: Workbench, small: str) -> None:
    made = content.build(bench, small, EVERYTHING, None)
    assert "Files" not in headings(made)
    assert "µs" not in text(made)
    assert "Nothing was exported" in text(made)


@pytest.mark.parametrize("step", STEPS)
def test_there_is_a_part_for_each_step_and_for_no_other(bench: Workbench, small: str, step: str) -> None:
    found = headings(content.build(bench, small, STEPS[step], None))
    assert [heading for heading in found if heading in STEPS] == [step]
    assert "Training after compression" not in found


def test_settings_that_change_nothing_are_no_step(bench: Workbench, small: str) -> None:
    idle = CompressionConfig(sparsity=0.0, channel_share=1.0, score="lamp", granularity="tensor")
    for config in (CompressionConfig(), idle):
        made = content.build(bench, small, config, None)
        assert not {*STEPS, "Flips", "Training curves"} & set(headings(made))
        assert "nothing is compressed" in text(made)
        assert "McNemar" not in text(made)
        assert "McNemar" not in document.to_markdown(made)[0]


def test_a_recovery_has_its_recipe_its_curves_and_its_seed(bench: Workbench) -> None:
    with pytest.MonkeyPatch.context() as patch:
        train_on_few(patch, 512)
        bench.recover("mlp-course", TRAINED)
    made = content.build(bench, "mlp-course", TRAINED, None)
    assert "Training after compression" in headings(made)
    names = [block.name for block in made.blocks if isinstance(block, Figure)]
    assert {"training-of-the-baseline", "training-after-compression"} <= set(names)
    assert {"what": "training after compression", "seed": "7"} in table(made, "seed")
    for word in ("iterative", "distillation", "peak at 0.01", "2 epochs"):
        assert word in text(made)


@pytest.mark.parametrize("symmetry", ["symmetric", "asymmetric"])
def test_steps_that_are_learned_begin_where_the_report_says(bench: Workbench, small: str, symmetry: str) -> None:
    config = CompressionConfig(bits=3, activation_bits=6, symmetry=symmetry, recovery=RecoveryConfig(2))  # type: ignore[arg-type]
    row = bench.evaluate(small, CompressionConfig(bits=3)).layers[0]
    first, largest, clipped = r"s_0 = \frac{2 \operatorname{E} |w|}{\sqrt{q_{\max}}}", r"\max |w|}", r"\min_c"
    for learned, found in (True, symmetry == "asymmetric"), (False, False):
        subject = Subject(config, "mlp", (row,), {}, 1.0, False, 10, learned)
        blocks = [block for step in QUANTIZATION.steps(subject) for block in step.blocks]
        tex = " ".join(block.tex for block in blocks if isinstance(block, Formula))
        said = " ".join(block.text for block in blocks if isinstance(block, Paragraph))
        assert (first in tex) == (learned and symmetry == "symmetric")
        assert (largest in tex) == (not learned and symmetry == "symmetric")
        assert (clipped in tex) == found
        assert ("Training learned s" in said) == ("top is where the squared error is least" in said) == learned
        assert ("The grid reaches to" in said) == ("top is the largest x" in said) == (not learned)


@pytest.mark.parametrize("kept", [0, 2])
def test_a_network_that_no_epoch_made_better_has_the_steps_of_before_training(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        train_on_few(patch, 512)
        bench.recover("mlp-course", LEARNED)
    monkeypatch.setattr(bench, "kept_epoch", lambda *choice: kept)
    assert ("Training learned s" in text(content.build(bench, "mlp-course", LEARNED, None))) == bool(kept)


def test_a_rank_above_break_even_saves_nothing_and_the_report_says_it(bench: Workbench, small: str) -> None:
    config = CompressionConfig().with_layer("fc2", rank=20)
    assert "fc2 has rank 20, above break-even (10): 880 numbers" in text(content.build(bench, small, config, None))


def test_the_command_and_the_link_mean_this_configuration(full: Report, small: str) -> None:
    codes = [block.text for block in full.blocks if isinstance(block, Code)]
    command = codes[0].split()
    assert command[:4] == ["python", "-m", "core", "export"]
    kept = [part for part in command[3:] if part not in ("--format", "packed,onnx,safetensors", "--report")]
    options = __main__._parser().parse_args(kept)
    assert __main__.configuration(options) == EVERYTHING
    assert options.baseline == small
    assert codes[1].startswith(f"?baseline={small}&")
    assert CompressionConfig.from_json(codes[-1]) == EVERYTHING


def test_a_link_is_shown_as_it_was_given(bench: Workbench, small: str) -> None:
    link = "http://localhost:8501/?baseline=cnn&bits=4"
    made = content.build(bench, small, CompressionConfig(), None, link)
    assert link in text(made)
    assert "<a " not in document.to_html(made)


class Balanced(HTMLParser):
    """Every element ends where it should; what they are and which ids and references they have."""

    ALONE = frozenset({"meta", "path", "use", "image", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.all: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(full: Report) -> None:
    page = document.to_html(full)
    parsed = Balanced(page)
    assert parsed.open == []
    assert not {"script", "link", "iframe", "img"} & set(parsed.all)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert not re.search(r"https?:|//www|@import", page)
    for name, value in parsed.attributes:
        if name.endswith(("href", "src")):
            assert (value or "").startswith(("#", "data:image/png;base64,"))
        for reference in re.findall(r"url\(#([^)]*)\)", value or ""):
            assert reference in parsed.ids
    assert parsed.all.count("svg") == page.count('role="img" aria-label="') == len(pictures(full))
    assert page.count("data:image/png") == SHOWN_FLIPS + 2  # and the shades of two confusion matrices


def pictures(made: Report) -> list[Figure]:
    return [block for block in made.blocks if isinstance(block, Figure)]


def test_a_name_from_outside_is_text_and_nothing_else(full: Report) -> None:
    page, (markdown, _) = document.to_html(full), document.to_markdown(full)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; *a|b*" in page
    assert r"\<script\>alert(1)\</script\> \*a\|b\*" in markdown
    assert "\x07" not in page + markdown


def test_all_formats_hold_the_same_in_the_same_order(full: Report) -> None:
    page, (markdown, files) = document.to_html(full), document.to_markdown(full)
    word = docx.Document(io.BytesIO(document.to_docx(full)))
    own = [block for block in full.blocks if isinstance(block, Heading)]
    assert re.findall(r"<h[23]>(.*?)</h", page) == [heading.text for heading in own]
    assert re.findall(r"^##+ (.*)$", markdown, re.MULTILINE) == [heading.text for heading in own]
    styles = [(p.style.name, p.text) for p in word.paragraphs if p.style and p.style.name.startswith("Heading")]
    assert styles == [(f"Heading {heading.level}", heading.text) for heading in own]

    tables = [block for block in full.blocks if isinstance(block, Table)]
    assert [tuple(cell.text for cell in each.rows[0].cells) for each in word.tables] == [each.header for each in tables]
    assert [len(each.rows) for each in word.tables] == [1 + len(each.rows) for each in tables]
    assert page.count("<table>") == len(tables)
    assert len(re.findall(r"^\| -", markdown, re.MULTILINE)) == len(tables)
    assert all(len(set(map(len, map(split_cells, block)))) == 1 for block in markdown_tables(markdown))

    assert set(re.findall(r"\]\((.*?)\)", markdown)) == set(files)
    assert all(content.startswith(b"\x89PNG") for content in files.values())
    described = [shape._inline.docPr.get("descr") for shape in word.inline_shapes]
    assert described == [" ".join(picture.alt.split()) for picture in pictures(full)]


def markdown_tables(markdown: str) -> list[list[str]]:
    return [part.splitlines() for part in markdown.split("\n\n") if part.startswith("| ")]


def split_cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)


def test_the_same_report_gives_the_same_bytes(
    bench: Workbench, small: str, full: Report, verdict: ExportVerdict
) -> None:
    again = content.build(bench, small, EVERYTHING, verdict)
    assert again == full
    assert document.to_html(again) == document.to_html(full)
    assert document.to_markdown(again) == document.to_markdown(full)
    assert document.to_docx(again) == document.to_docx(full)
    with zipfile.ZipFile(io.BytesIO(document.to_docx(full))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_files_are_written_where_they_are_wanted(full: Report, tmp_path: Path) -> None:
    document.write(full, tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"report.html", "report.md", "report.docx", *(f"figures/{own.name}.png" for own in pictures(full))}


def test_versions_and_sums_are_in_the_appendix(bench: Workbench, small: str, full: Report) -> None:
    import torch

    assert {"what": "torch", "version": torch.__version__} in table(full, "version")
    assert bench.baseline(small).sha256 in text(full)
    assert json.loads(EVERYTHING.to_json()) == json.loads([b.text for b in full.blocks if isinstance(b, Code)][-1])


def test_a_dollar_in_the_name_of_a_class_is_a_dollar() -> None:
    names = ["US$ {, CA$", "under $10, over $50"]
    drawn = plots.confusion("money", pd.DataFrame([[1, 2], [3, 4]], index=names, columns=names))
    assert all(drawn.svg.count(name) >= 2 for name in names)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_letters_that_the_first_font_lacks_are_drawn_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"class": ["\u1d81"], "before": [0.9], "after": [0.8]})
    monkeypatch.setattr(plots, "FAMILIES", ("DejaVu Sans", "Not A Font"))
    plain = plots.recall("kana", rows)
    monkeypatch.setattr(plots, "FAMILIES", ("DejaVu Sans", "STIXGeneral"))
    assert plots.recall("kana", rows).png != plain.png


def test_ratios_are_those_of_the_pages_and_what_became_larger_has_a_digit_more() -> None:
    wanted = {1_686_755: "1.0x", 2_000_000: "0.84x", 1_686_568: "1.0x", 500_000: "3.4x", 0: "–"}
    assert {size: wording.ratio(1_686_568, size) for size in wanted} == wanted


def test_a_table_must_be_a_rectangle() -> None:
    with pytest.raises(ValueError, match=r"rows must have 2 cells. Got \[1\] instead."):
        Table("", ("a", "b"), (("1",),))


def of_words(words: str) -> Report:
    """These words in every place that a report has."""
    png = io.BytesIO()
    Image.new("L", (1, 1)).save(png, "PNG")
    table = Table(words, (words, "b"), ((words, "1"), ("c", words)))
    figure = Figure("name", words, words, "<svg></svg>", png.getvalue())
    head = TitleBlock(words, words, words, words, words)
    blocks = (Heading(words), Paragraph(words), Listing((words, words)), Code(words), table, figure)
    return Report(words, blocks, head)


class Texts(HTMLParser):
    """Elements, and all that a page says; what a picture is called, too."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.said: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.said += [value or "" for name, value in attrs if name == "aria-label"]

    def handle_data(self, data: str) -> None:
        self.said += [data] if data.strip() and self.elements[-1] != "style" else []


def of_html(report: Report) -> tuple[list[str], list[str]]:
    page = Texts(document.to_html(report))
    return page.elements, page.said


def of_markdown(report: Report) -> tuple[list[str], list[str]]:
    blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(document.to_markdown(report)[0])
    tokens = [token for block in blocks for token in [block, *(block.children or [])]]
    leaves = {id(token): [own for own in token.children or [] if own.type.startswith("text")] for token in tokens}
    said = [token.content if token.type == "fence" else "".join(own.content for own in leaves[id(token)])
            for token in tokens if token.type in ("fence", "inline", "image")]  # fmt: skip
    return [token.type for token in tokens if not token.type.startswith("text")], said


def of_docx(report: Report) -> tuple[list[str], list[str]]:
    file = docx.Document(io.BytesIO(document.to_docx(report)))
    cells = [cell.text for table in file.tables for row in table.rows for cell in row.cells]
    alt = file.inline_shapes[0]._inline.docPr.get("descr")
    return [own.style.name for own in file.paragraphs], [*(own.text for own in file.paragraphs), *cells, alt]


@pytest.mark.parametrize("read", [of_html, of_markdown, of_docx])
def test_words_from_outside_stand_in_every_format_letter_by_letter(
    read: Callable[[Report], tuple[list[str], list[str]]],
) -> None:
    structure, said = read(of_words("word"))
    for words in HARD_WORDS:
        elements, found = read(of_words(words))
        assert elements == structure, words
        assert [one_line(text.replace(JOINER, "")) for text in found] == [
            one_line(text).replace("word", one_line(words)) for text in said
        ]


HARD_NAMES = [*HARD_WORDS, "a\u200fb", "אבג 12", r"\frac{a}{b}", "$$a$$", "a" * 10_000, "\n# a", "'; --", "=1+1"]


@pytest.mark.parametrize("read", [of_html, of_markdown, of_docx])
def test_a_name_is_plain_text_in_every_format(read: Callable[[Report], tuple[list[str], list[str]]]) -> None:
    """Whatever somebody types, all of it stands there once, and nothing around it changes."""

    def of(words: str) -> Report:
        return replace(of_words("word"), head=TitleBlock(partner=words))

    structure, said = read(of("word"))
    for words in HARD_NAMES:
        elements, found = read(of(words))
        assert elements == structure, words[:40]
        changed = [(one_line(was), one_line(now.replace(JOINER, ""))) for was, now in zip(said, found, strict=True)]
        changed = [(was, now) for was, now in changed if was != now]
        assert len(changed) == 1, words[:40]
        assert changed[0][1] == changed[0][0].replace("word", one_line(words))


def test_what_is_not_said_of_who_hands_it_in_has_no_line() -> None:
    empty = Report("title", ())
    assert "<dl>" not in document.to_html(empty)
    assert document.to_markdown(replace(empty, head=TitleBlock(name=" ", course="Course A")))[0].count("\n- ") == 1


# The size by the formula.


def test_the_formula_is_evaluated_with_this_networks_numbers(bench: Workbench, small: str, full: Report) -> None:
    result = bench.evaluate(small, EVERYTHING, "test")
    formulas = [block.tex for block in full.blocks if isinstance(block, Formula)]
    (evaluated,) = (tex for tex in formulas if tex.startswith(r"\sum \text{weights} \times"))
    terms = re.findall(r"([\d{},]+) \\times (\d+)", evaluated.split("=")[1])
    bits = sum(int(re.sub(r"\D", "", count)) * int(width) for count, width in terms)
    biases = sum(row.channels for row in result.layers)
    assert bits / 8 + 4 * biases == pytest.approx(result.theoretical_kb * 1024, abs=1e-6)
    rows = {row["what"]: row for row in table(full, "formula")}
    assert (
        number(rows["all"]["file"])
        == result.bytes
        == sum(number(row["file"]) for what, row in rows.items() if what != "all")
    )
    assert number(rows["all"]["formula"]) == round(result.theoretical_kb * 1024)
    assert number(rows["weights"]["formula"]) == round(bits / 8)
    for row in rows.values():
        assert number(row["difference"]) == pytest.approx(number(row["file"]) - number(row["formula"]), abs=1)


def test_many_layers_are_summed_by_bits(bench: Workbench) -> None:
    rows = bench.evaluate("mlp", CompressionConfig(bits=4), "test").layers
    total = weighing._sum(rows)
    assert total.count(r"\times") == len(rows) == weighing.TERMS
    assert weighing._sum((*rows, *rows)).count(r"\times") == 1
    counts = [int(re.sub(r"\D", "", term.split(r"\times")[0])) for term in weighing._sum((*rows, *rows)).split(" + ")]
    assert sum(counts) == 2 * sum(row.weights for row in rows)


# The network drawn.


def test_the_network_is_drawn_with_its_shapes_and_its_bytes(bench: Workbench, small: str, full: Report) -> None:
    drawn = next(picture for picture in pictures(full) if picture.name == "network")
    for row in bench.evaluate(small, EVERYTHING, "test").layers:
        for words in (row.name, " × ".join(map(str, row.shape)), f"{row.bytes / 1024:,.1f} KB"):
            assert words in drawn.alt
            assert words in drawn.svg
    assert palette.BASELINE in drawn.svg
    assert palette.KINDS["integer codes"] in drawn.svg


# Sentences.


def pattern(sentence: str, names: list[str]) -> str:
    """A sentence without what tells it from another of the same making."""
    for name in sorted(names, key=len, reverse=True):
        sentence = sentence.replace(name, "NAME")
    return re.sub(r"\d[\d,.]*", "1", sentence)


def test_no_sentence_comes_twice_in_a_paragraph_or_in_a_row(bench: Workbench, small: str, verdict: Any) -> None:
    """Four layers above break-even, four files with ties: one sentence says it of all."""
    kinds = ("onnx", "onnx-int8", "onnx-int4", "onnx-int2")
    files = (verdict.files[0], *(replace(verdict.files[1], path=kind, format=kind) for kind in kinds))
    notes = (*4 * ["Without it."], *artifact.remarks(files))
    assert len([note for note in notes if "float32 here" in note]) == 6
    config = CompressionConfig(rank_share=1.0, above_break_even=True, bits=4)
    layers = [row.name for row in bench.evaluate(small, config).layers]
    names = [*layers, *(file.path for file in files), *(kind[5:] for kind in kinds[1:])]
    for chosen in (config, CompressionConfig(rank_share=0.9)):
        made = content.build(bench, small, chosen, replace(verdict, files=files, notes=notes))
        last = ""
        for block in made.blocks:
            said = re.split(r"(?<=\.)\s+(?=[A-Z])", block.text) if isinstance(block, Paragraph) else []
            patterns = [pattern(sentence, names) for sentence in said]
            assert len(set(patterns)) == len(patterns)
            assert not said or patterns[0] != last
            last = patterns[-1] if patterns else last
    assert "above break-even: their factors hold" in text(content.build(bench, small, config, None))


# References.


def test_every_work_that_is_named_is_listed_and_no_other(full: Report) -> None:
    (listed,) = (block.items for block in full.blocks if isinstance(block, Listing))
    said = document.to_markdown(full)[0].split("## References")[0]
    named = set(re.findall(r"[A-Z][a-z]+ (?:et al\.|& [A-Z][a-z]+) \d{4}|McNemar 1947", said.replace("\\", "")))
    assert {references.SOURCES[short] for short in named} <= set(listed)
    for full_text in listed:
        short = next(short for short, long in references.SOURCES.items() if long == full_text)
        assert short in said
    assert {"Frantar et al. 2023", "Lee et al. 2021", "Jacob et al. 2018"} <= named


# The laboratories.


@pytest.fixture(scope="module")
def measured(laboratory: Laboratory) -> Any:
    """A workbench whose laboratories were run, on few training images: as the pages leave them."""
    made = Workbench(laboratory.cache, "reproduced")
    name, steps = laboratory.baseline, RecoveryConfig(2, 0.05, schedule="iterative")
    for kind in (assignment.QUANTIZATION, assignment.COMBINATION):
        about = {"epochs": 2, "allowance": 0.05} if kind == assignment.COMBINATION else {"epochs": 2}
        leave_result(laboratory.cache, {"kind": kind, "baseline": name, **about}, laboratory.found[kind])
    with pytest.MonkeyPatch.context() as patch:
        train_on_few(patch)
        patch.setattr(tuning, "LOOK_ON", 1)
        shot = OneShotSearch(tuple(tuning.one_shot_answers(made, name, 0.05)))
        found = tuning.largest_iterative(
            made, name, CompressionConfig(score="lamp"), steps, 0.05, targets=(0.5, 0.8, 0.9)
        )
    leave_result(laboratory.cache, {"kind": tuning.ONE_SHOT, "baseline": name, "allowance": 0.05}, shot)
    request = {"kind": tuning.ITERATIVE, "baseline": name, "allowance": 0.05, "recovery": asdict(steps)}
    leave_result(laboratory.cache, request, found)
    yield made
    made.turns.close()
    made.store.close()


@pytest.fixture(scope="module")
def whole(measured: Workbench, laboratory: Laboratory) -> Report:
    pins = [(laboratory.baseline, CompressionConfig(bits=5)), ("mlp", CompressionConfig(sparsity=0.5))]
    untrained = CompressionConfig(bits=7, recovery=RecoveryConfig(50))
    return content.build(
        measured, laboratory.baseline, CompressionConfig(bits=4), None, pins=[*pins, (laboratory.baseline, untrained)]
    )


def test_the_bits_are_those_that_the_workbench_measures(
    measured: Workbench, laboratory: Laboratory, whole: Report
) -> None:
    rows, found = table(whole, "best PTQ"), laboratory.found[assignment.QUANTIZATION].rows
    assert [row["bits"] for row in rows] == ["32", *(str(bits) for bits in assignment.ASSIGNED)]
    for row, own in zip(rows[1:], found, strict=True):
        configs = {when: getattr(own, when).configuration for when in ("minmax", "before", "after")}
        tests = {when: measured.evaluate(laboratory.baseline, config, "test") for when, config in configs.items()}
        for column, when in (("min-max", "minmax"), ("best PTQ", "before"), ("QAT", "after")):
            assert number(row[column]) == pytest.approx(100 * tests[when].evaluation.accuracy, abs=0.005)
        after = tests["after"]
        assert number(row["change"]) == pytest.approx(100 * after.comparison.difference, abs=0.005)
        assert number(row["KB, formula"]) == pytest.approx(after.theoretical_kb, abs=0.05)
        assert number(row["KB, file"]) == pytest.approx(after.bytes / 1024, abs=0.05)
        assert number(row["compression ratio"].rstrip("x")) == pytest.approx(after.compression_ratio, abs=0.05)


def test_where_no_epoch_was_better_the_network_after_training_is_said_to_be_untrained(laboratory: Laboratory) -> None:
    found = laboratory.found[assignment.QUANTIZATION]
    for kept, bits in ({0, 4}, "8 and 3"), ({5}, ""):
        best = {8: min(kept), 6: max(kept), 4: max(kept), 3: min(kept), 2: None}
        study = replace(found, rows=tuple(replace(row, kept=best[row.bits]) for row in found.rows))
        blocks = laboratory_parts._bits(laboratory_parts.Experiment({}, study, ("", "", "")), "CNN")
        said = " ".join(block.text for block in blocks if isinstance(block, Paragraph))
        assert ("no epoch was better on validation than the network before training" in said) == bool(bits)
        assert f"At {bits} bits no epoch" in said or not bits


def test_zeros_per_layer_are_those_of_check_sparsity(
    measured: Workbench, laboratory: Laboratory, whole: Report
) -> None:
    shot, steps = (
        kinds.answer(kind, next(job.result for job in measured.jobs.all(kind)))
        for kind in (tuning.ONE_SHOT, tuning.ITERATIVE)
    )
    assert shot is not None
    assert steps is not None
    run = steps.chosen
    assert run is not None, "the fixture prunes within the allowance"
    stepped = run.configuration
    best = tuning.best_one_shot(shot.answers).point.configuration
    ways = {
        wording.pruned("one-shot", best): best,
        wording.pruned("iterative", stepped): stepped,
        wording.pruned("one-shot", stepped): replace(stepped, recovery=None),
    }
    assert all("magnitude" in way or "LAMP" in way or "Wanda" in way for way in ways), "the criterion of each"
    *rows, every = table(whole, wording.pruned("iterative", stepped))
    for way, config in ways.items():
        zeros = check_sparsity(measured.network(laboratory.baseline, config))
        assert [row["layer"] for row in rows] == list(zeros)
        assert [number(row[way]) for row in rows] == pytest.approx([100 * own for own in zeros.values()], abs=0.00501)
        result = measured.evaluate(laboratory.baseline, config, "test")
        assert number(every[way]) == pytest.approx(100 * result.sparsity, abs=0.005)
        row = next(row for row in table(whole, "change on test") if row["way"] == way)
        assert number(row["test"]) == pytest.approx(100 * result.evaluation.accuracy, abs=0.005)
        assert number(row["change on test"]) == pytest.approx(100 * result.comparison.difference, abs=0.005)
        assert number(row["KB, file"]) == pytest.approx(result.bytes / 1024, abs=0.05)


def test_the_best_combination_is_the_laboratorys(laboratory: Laboratory, whole: Report) -> None:
    found = laboratory.found[assignment.COMBINATION]
    rows = {row["way"]: row for row in table(whole, "the hardest that fits")}
    assert list(rows) == [row.title for row in found.rows] == ["pruning", "quantization", "channel pruning"]
    for own in found.rows:
        row = rows[own.title]
        if own.chosen is None:
            assert row["the hardest that fits"].startswith("none within 5 pp")
        else:
            assert number(row["KB, file"]) == pytest.approx(own.chosen.bytes / 1024, abs=0.05)
            assert number(row["validation"]) == pytest.approx(100 * own.chosen.accuracy, abs=0.005)
    assert f"The smallest is {found.best.title}, " in text(whole)


def test_pins_stand_beside_the_final_model(measured: Workbench, laboratory: Laboratory, whole: Report) -> None:
    rows = table(whole, "settings")
    wanted = [(laboratory.baseline, CompressionConfig(bits=5)), ("mlp", CompressionConfig(sparsity=0.5)), None]
    for row, pin in zip(rows, [*wanted, (laboratory.baseline, CompressionConfig(bits=4))], strict=True):
        if pin is None:
            assert row["validation"] == "–"
            continue
        result = measured.evaluate(*pin)
        assert number(row["validation"]) == pytest.approx(100 * result.evaluation.accuracy, abs=0.005)
        assert number(row["change"]) == pytest.approx(100 * result.comparison.difference, abs=0.005)
        assert number(row["KB, file"]) == pytest.approx(result.bytes / 1024, abs=0.05)
    assert "Not trained here yet, and so without figures: pin 3." in text(whole)


def test_what_was_run_here_says_so(whole: Report) -> None:
    rows = table(whole, "measured")
    assert {row["measured"] for row in rows} == {"run here"}
    assert all(row["date"] == "1 January 1970" for row in rows), "when the jobs of these tests were submitted"


def test_what_was_never_measured_says_how_to_get_it(bench: Workbench, small: str, full: Report) -> None:
    assert {row["measured"] for row in table(full, "measured")} == {"not yet"}
    for page in ("Quantization", "Pruning", "Combination"):
        assert f"run it on the page {page}, and make this report again." in text(full)
    assert "Pinned configurations" not in text(full)


def test_what_came_with_the_project_says_when_and_where(tmp_path: Path, whole: Report, measured: Workbench) -> None:
    """A shelf with a single answer; what is run here then takes its place."""
    request = next(own for own in shipping.requests() if own["kind"] == assignment.COMBINATION)
    made = {"date": "2026-11-26", "seconds": 5, "machine": "64 cores, z80", "versions": {"torch": "9.9"}}
    rows = [{"way": "bits", "runs": [], "chosen": None}]
    result = {"baseline": "cnn", "allowance": 0.01, "rows": rows, "best": None}
    key = shipping.key(Workbench(tmp_path / "key"), request)
    entry = shelf.Entry(shipping.ANSWER, json.dumps({"result": result, "made": made}).encode())
    shelf.write(tmp_path / "results.zip", {key: entry}, {})
    for path, said in ((tmp_path / "results.zip", True), (tmp_path / "none.zip", False)):
        own = Workbench(tmp_path / "cache", shelf=path)
        found = laboratory_parts.experiment(own, assignment.COMBINATION, "cnn")
        assert (found is not None) == said
        if found is not None:
            assert found.origin == ("comes with the project", "26 November 2026", "64 cores, z80, torch 9.9")
            assert laboratory_parts.experiment(own, assignment.COMBINATION, "mlp") is None
        own.turns.close()
        own.store.close()
    leave_result(tmp_path / "cache", {**request, "epochs": 3}, {**result, "allowance": 0.02})
    own = Workbench(tmp_path / "cache", shelf=tmp_path / "results.zip")
    found = laboratory_parts.experiment(own, assignment.COMBINATION, "cnn")
    assert found is not None
    assert (found.origin[0], found.result.allowance) == ("run here", 0.02)


def test_a_trained_network_that_is_gone_leaves_a_sentence(laboratory: Laboratory, tmp_path: Path) -> None:
    """The result of a job outlives what it trained: the cache may be deleted."""
    bench = Workbench(copied(laboratory.cache, tmp_path / "cache"))
    shutil.rmtree(tmp_path / "cache" / "jobs", ignore_errors=True)
    name, steps = laboratory.baseline, RecoveryConfig(9, schedule="iterative")
    config = CompressionConfig(sparsity=0.5, recovery=steps)
    run = Run(config.to_json(), 0.5, 0.5, 0.5, 0.3, 0.0, 1000, ())
    request = {"kind": tuning.ITERATIVE, "baseline": name, "allowance": 0.05, "recovery": asdict(steps)}
    leave_result(tmp_path / "cache", request, IterativeSearch(0.5, (run,)))
    said = text(content.build(bench, name, CompressionConfig(), None))
    assert "is not in the cache any more, so that nothing more is said of it: iterative, " in said
