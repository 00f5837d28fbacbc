"""The report to hand in: only what was measured, the same in all three formats, nothing loaded from anywhere."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import docx
import pytest
from conftest import HARD_WORDS, MLP_SHAPES, random_tensors, train_on_few
from markdown_it import MarkdownIt
from PIL import Image

from core import __main__
from core.config import CompressionConfig, RecoveryConfig
from core.models import Baseline
from core.report import content, document
from core.report.document import Code, Figure, Formula, Heading, Paragraph, Report, Table
from core.words import JOINER, one_line
from core.workbench import Workbench

EVERYTHING = CompressionConfig(
    channel_share=0.9, sparsity=0.5, score="lamp", bits=4, activation_bits=6, clip="mse", rounding="gptq",
    bias_correction=True, low_rank_method="whitened",
).with_layer("fc2", rank=3)  # fmt: skip
TRAINED = CompressionConfig(sparsity=0.5, recovery=RecoveryConfig(2, 0.01, 7, True, "iterative"))
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


def latency(median: float) -> list[dict[str, Any]]:
    return [
        {"batch": b, "repeats": 30, "median": median, "lower": 0.9 * median, "upper": 1.1 * median} for b in (1, 250)
    ]


@pytest.fixture(scope="module")
def verdict(bench: Workbench, small: str) -> dict[str, Any]:
    def file(path: str, kind: str, size: int, median: float, **more: Any) -> dict[str, Any]:
        shares = {"accuracy": 0.1234, "agreement": 0.9987}
        return {
            "path": path,
            "format": kind,
            "bytes": size,
            "sha256": "ab" * 32,
            **shares,
            "latency": latency(median),
            **more,
        }

    files = [
        file("network.packed", "packed", 4_321, 5e-5, reader="NumPy 9.8.7", largest_logit_difference=3.25e-6),
        file("/home/anna/network.onnx", "onnx", 65_432, 2e-5, ties=[5, 8]),
        file("int8.onnx", "onnx-int8", 23_456, 3e-5, problem="[Errno 2] No such file: '/home/anna/out/int8.onnx'"),
    ]
    sizes = bench.sizes(bench.evaluate(small, EVERYTHING, "test"))
    sizes |= {Path(file["path"]).name: file["bytes"] for file in files[1:]}
    found = {"ok": False, "split": "test", "images": 10_000, "files": files, "sizes": sizes}
    return found | {"notes": ["Without onnx-int2: 6 bits."]}


@pytest.fixture(scope="module")
def full(bench: Workbench, small: str, verdict: dict[str, Any]) -> Report:
    return content.build(bench, small, EVERYTHING, verdict)


def headings(made: Report) -> list[str]:
    return [block.text for block in made.blocks if isinstance(block, Heading)]


def table(made: Report, column: str) -> list[dict[str, str]]:
    """The first table that has the column, as rows."""
    found = next(block for block in made.blocks if isinstance(block, Table) and column in block.header)
    return [dict(zip(found.header, row, strict=True)) for row in found.rows]


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


def test_bytes_add_up_to_the_file(bench: Workbench, small: str, full: Report, verdict: dict[str, Any]) -> None:
    result, rows = bench.evaluate(small, EVERYTHING, "test"), table(full, "weight before")
    *layers, whole = [int(number(row["bytes"])) for row in rows]
    assert sum(layers) == whole == result.bytes
    assert [number(row["parameters"]) for row in rows[:4]] == [row.parameters for row in result.layers]
    assert {row["counted as"]: number(row["bytes"]) for row in table(full, "counted as")} == {
        way: round(count) for way, count in bench.sizes(result).items()
    } | {Path(file["path"]).name: file["bytes"] for file in verdict["files"] if file["format"] != "packed"}


def test_classes_and_flips_are_those_that_were_measured(bench: Workbench, small: str, full: Report) -> None:
    result = bench.evaluate(small, EVERYTHING, "test")
    expected = result.evaluation.report()
    for row in table(full, "precision"):
        for column, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1")):
            assert number(row[column]) == pytest.approx(100 * expected.loc[row["class"], key], abs=0.005)
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


def test_files_are_those_of_the_verdict_and_no_folder_is_named(full: Report, verdict: dict[str, Any]) -> None:
    rows = table(full, "agreement")
    assert [number(row["bytes"]) for row in rows] == [file["bytes"] for file in verdict["files"]]
    assert {row["accuracy"] for row in rows} == {"12.34 %"}
    assert {row["agreement"] for row in rows} == {"99.87 %"}
    assert [number(row["median, µs"]) for row in table(full, "median, µs")] == [50, 50, 20, 20, 30, 30]
    assert "The smallest file is network.packed, 4,321 bytes" in text(full)
    assert "network.onnx is fastest" in text(full)
    assert "network.onnx: 2 predictions differ" in text(full)
    assert "did NOT pass" in text(full)
    assert "No such file: 'int8.onnx'" in text(full)
    assert "Without onnx-int2: 6 bits." in text(full)
    assert "anna" not in document.to_html(full)


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
    assert page.count("data:image/png") == content.SHOWN_FLIPS + 1  # and the shades of the confusion matrix


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
    assert described == [picture.alt for picture in pictures(full)]


def markdown_tables(markdown: str) -> list[list[str]]:
    return [part.splitlines() for part in markdown.split("\n\n") if part.startswith("| ")]


def split_cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)


def test_the_same_report_gives_the_same_bytes(
    bench: Workbench, small: str, full: Report, verdict: dict[str, Any]
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


def test_a_table_must_be_a_rectangle() -> None:
    with pytest.raises(ValueError, match=r"rows must have 2 cells. Got \[1\] instead."):
        Table("", ("a", "b"), (("1",),))


def of_words(words: str) -> Report:
    """These words in every place that a report has."""
    png = io.BytesIO()
    Image.new("L", (1, 1)).save(png, "PNG")
    table = Table(words, (words, "b"), ((words, "1"), ("c", words)))
    figure = Figure("name", words, words, "<svg></svg>", png.getvalue())
    return Report(words, (Heading(words), Paragraph(words), Formula(words), Code(words), table, figure))


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
            text.strip().replace("word", one_line(words)) for text in said
        ]
