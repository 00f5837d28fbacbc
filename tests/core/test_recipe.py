"""The README's recipe: a technique is one file. What it declares appears wherever a technique is met."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

CODE = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
(RECIPE,) = (code for code in CODE if "TECHNIQUE = " in code)

WITH_IT = """
import json
from pathlib import Path
from streamlit.testing.v1 import AppTest
from core import settings
from core.bench import keys
from core.bench.workbench import Workbench
from core.config import CompressionConfig, from_query, in_words, to_arguments, to_query
from core.studies.space import configuration, space

bench = Workbench()
config = CompressionConfig(clip_share=0.5, bits=4)
network_of, layers = bench.baseline("mlp").network, bench.baseline("mlp").layers
network, bare = bench.network("mlp", config), bench.network("mlp", CompressionConfig(bits=4))
largest = [bench.baseline("mlp").tensors[f"{layer.name}.weight"].abs().max().item() for layer in layers]
app = AppTest.from_file("streamlit_app.py", default_timeout=60)
app.query_params["baseline"] = "mlp"
app.query_params["largest"] = "0.5"
app.run()
slider = app.slider(key="w_largest")
before = slider.value
slider.set_value(30).run()
whose = bench.profile("mlp")
print(json.dumps({
    "names": [technique.name for technique in settings.techniques()],
    "link": to_query(config), "back": from_query(to_query(config), [layer.name for layer in layers])[0] == config,
    "arguments": to_arguments(config), "words": in_words(config),
    "plain": CompressionConfig(bits=4).to_json(), "json": config.to_json(),
    "key": keys.measurement(whose, config, "validation", None),
    "plain key": keys.measurement(whose, CompressionConfig(bits=4), "validation", None),
    "shares": [layer.tensors[0].weight().abs().max().item() / most for layer, most in zip(network.layers, largest)],
    "without": [layer.tensors[0].weight().abs().max().item() / most for layer, most in zip(bare.layers, largest)],
    "space": "largest" in space(network_of), "absent": "largest" in space(network_of, ["pruning"]),
    "chosen": configuration({"density": 0.5, "largest": 0.6}, network_of).to_json(),
    "label": slider.label, "before": before, "exceptions": [each.value for each in app.exception],
    "written": app.session_state["choice"].config.to_json(),
}))
"""

KEYS = """
import json
from core.bench import keys
from core.bench.workbench import Workbench
from core.config import CompressionConfig

whose = Workbench().profile("mlp")
configs = CompressionConfig(clip_share=0.5, bits=4), CompressionConfig(bits=4)
print(json.dumps([keys.measurement(whose, config, "validation", None) for config in configs]))
"""

COMMANDS = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from core.__main__ import main

answers = []
for arguments in json.loads(sys.argv[1]):
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as errors:
        try:
            status = main(arguments)
        except SystemExit as refused:
            status = refused.code
    answers.append([status, out.getvalue(), errors.getvalue()])
print(json.dumps(answers))
"""
"""Several commands in one process: it takes longer to start than most of them."""


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "techniques"
    folder.mkdir()
    (folder / "clipping.py").write_text(RECIPE)
    return os.environ | {"EXPLORER_TECHNIQUES": str(folder), "COMPRESSION_CACHE": str(tmp_path / "cache")}


def run(surroundings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, env=surroundings)


def test_a_technique_of_one_file_is_in_the_link_on_explore_and_in_the_searchs_space(
    surroundings: dict[str, str],
) -> None:
    done = run(surroundings, "-c", WITH_IT)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["names"] == [
        "channels",
        "low rank",
        "pruning",
        "codebook",
        "clipping",
        "bits",
        "training",
        "rate rounding",
    ]
    assert said["link"] == {"bits": "4", "largest": "0.5"}
    assert said["back"]
    assert said["arguments"] == ["--largest", "0.5", "--bits", "4"]
    assert said["words"] == "largest weight 50\u00a0%, 4-bit weights"
    assert "clip_share" not in said["plain"], "keys and files of before hold"
    assert json.loads(said["json"])["clip_share"] == 0.5
    assert max(said["shares"]) <= 0.5 + 1e-3, "scales are rounded to half precision"
    assert min(said["without"]) > 0.8
    assert said["space"]
    assert not said["absent"]
    assert json.loads(said["chosen"])["clip_share"] == 0.6
    assert not said["exceptions"]
    assert (said["label"], said["before"]) == ("Largest weight", 50)
    assert json.loads(said["written"])["clip_share"] == 0.3
    (Path(surroundings["EXPLORER_TECHNIQUES"]) / "clipping.py").write_text(RECIPE + "\n# otherwise\n")
    changed = json.loads(run(surroundings, "-c", KEYS).stdout)
    assert changed[0] != said["key"], "another file is another technique"
    assert changed[1] == said["plain key"]


def test_a_technique_of_one_file_is_an_option_and_a_step_of_the_report(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    evaluate = ["evaluate", "--baseline", "mlp", "--largest"]
    export = ["export", "--baseline", "mlp", "--largest", "0.5", "--format", "packed", "--report", "--out", str(out)]
    commands = [[*evaluate, "0.1", "--json"], [*evaluate, "1.5"], export]
    done = run(surroundings, "-c", COMMANDS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    evaluated, refused, made = json.loads(done.stdout)
    assert evaluated[0] == 0, evaluated
    assert 0.2 < json.loads(evaluated[1])["accuracy"] < 0.9
    assert refused[0] != 0
    assert "must be a number in (0, 1]. Got 1.5 instead." in refused[2]
    assert made[0] == 0, made
    written = "".join(path.read_text() for path in out.rglob("*.md"))
    assert "Weight clipping" in written
    assert "No weight is larger" in written


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("X = 1\n", "must say TECHNIQUE"),
        (RECIPE.replace('"clipping"', '"pruning"'), "Names of techniques must differ between techniques. Got pruning"),
        (
            RECIPE.replace(
                "    chooses =", '    of_layer = Setting("bits", Share(), "Bits", shares("bits"))\n    chooses ='
            ),
            "Settings of a layer must differ between techniques. Got bits",
        ),
        (RECIPE.replace('link="largest"', 'link="bits"'), "Names in a link must differ between techniques. Got bits"),
    ],
)
def test_a_file_that_says_no_technique_or_one_twice_is_refused_by_name(
    surroundings: dict[str, str], code: str, words: str
) -> None:
    (Path(surroundings["EXPLORER_TECHNIQUES"]) / "clipping.py").write_text(code)
    done = run(surroundings, "-c", "import core.config")
    assert done.returncode != 0
    assert words in done.stderr
