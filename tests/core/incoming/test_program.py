"""A module comes out of a person's program with the weights of a checkpoint, or is refused with what to do."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from core.incoming import checkpoints, program
from core.networks.graph import BaselineError

FILE = """
import sys
from dataclasses import dataclass
import torch
from torch import nn
from parts import Block

@dataclass
class Options:
    width: int = 4

class Net(nn.Module):
    def __init__(self, width=Options().width):
        super().__init__()
        self.body = Block(width)
        self.fc = nn.Linear(width, 3)
    def forward(self, x):
        return self.fc(self.body(x))

class Wanting(nn.Module):
    def __init__(self, width, depth, *rest, **more):
        super().__init__()

class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, width)

def make():
    return Net()

def numbers():
    return {"a": 1}

def leaves():
    sys.exit(2)

made = Net()
number = 3
arguments = sys.argv
"""
PARTS = """
from torch import nn

class Block(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Flatten(), nn.Linear(8, width), nn.BatchNorm1d(width), nn.ReLU())
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "my_net.py").write_text(FILE)
    return tmp_path / "my_net.py"


@pytest.mark.parametrize("name", ["Net", "make", "made"])
def test_a_class_a_function_or_a_module_gives_the_module(file: Path, name: str) -> None:
    search, known, arguments = sys.path[:], set(sys.modules), sys.argv[:]
    module, notes = program.load(f"{file}:{name}")
    assert type(module).__name__ == "Net"
    assert "No weights were given" in notes[0]
    assert (sys.path, sys.argv) == (search, arguments)
    assert not {"my_net", "parts"} & (set(sys.modules) - known)


def test_a_library_below_the_programs_folder_stays_loaded(tmp_path: Path) -> None:
    """As where the environment lies in the project: of some libraries a second copy cannot be made."""
    library = tmp_path / ".venv" / "lib" / "site-packages"
    library.mkdir(parents=True)
    (library / "a_library_of_theirs.py").write_text("made = []\n")
    (tmp_path / "net.py").write_text(
        "import sys\n"
        f"sys.path.append({str(library)!r})\n"
        "import a_library_of_theirs\n"
        "from torch import nn\n"
        "def net():\n    return nn.Linear(1, 1)\n"
    )
    program.load(f"{tmp_path / 'net.py'}:net")
    try:
        assert "a_library_of_theirs" in sys.modules
    finally:
        sys.modules.pop("a_library_of_theirs", None)


def test_files_of_one_name_in_two_folders_are_two_programs(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "parts.py").write_text("from torch import nn\nmade = nn.Linear(8, 3)\n")
    (tmp_path / "other" / "my_net.py").write_text("from parts import made\n")
    assert type(program.load(f"{file}:made").module).__name__ == "Net"
    assert isinstance(program.load(f"{tmp_path}/other/my_net.py:made").module, nn.Linear)


REFUSED = {
    "my_net.py:Nothing": r"Got 'Nothing' instead\. There are: Net, Wanting, Failing, make, numbers, leaves, made\.",
    "my_net.py": r"There are: .*Net, Wanting",
    "my_net.py:": r"There are: .*Net, Wanting",
    "my_net.py:number": r"Got 'number' instead",
    "my_net.py:Options": r"Got 'Options' instead",
    "my_net.py:Wanting": r"Wanting must take no arguments\. It wants width, depth: add a function",
    "my_net.py:Failing": r"Failing could not be made: NameError: .* \(my_net\.py, line 27: self\.fc = ",
    "my_net.py:numbers": r"numbers must make a module, nn\.Module\. It returned dict",
    "my_net.py:leaves": r"leaves could not be made: SystemExit: 2",
    "missing.py:Net": r"FILE\.py:NAME, with a file that is there",
    "parts.txt:Net": r"FILE\.py:NAME, with a file that is there",
    "fails.py:Net": r"fails\.py could not be run: ModuleNotFoundError: .*'no_such_library' \(fails\.py, line 1",
    "typed.py:Net": r"typed\.py could not be run: SyntaxError",
}  # fmt: skip


@pytest.mark.parametrize(("spec", "said"), REFUSED.items(), ids=REFUSED)
def test_what_gives_no_module_is_refused_with_what_there_is(file: Path, spec: str, said: str) -> None:
    (file.parent / "fails.py").write_text("import no_such_library\n")
    (file.parent / "typed.py").write_text("def net(:\n")
    before = dict(sys.modules), sys.path[:]
    with pytest.raises(BaselineError, match=said):
        program.load(f"{file.parent}/{spec}")
    assert (sys.path, "fails" in sys.modules) == (before[1], False)


# Weights.


def trained() -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU())
    net[2].running_mean.uniform_(-1, 1)
    return nn.ModuleDict({"body": net, "fc": nn.Linear(4, 3)})


STATE: dict[str, Tensor] = trained().state_dict()


def changed(change: Callable[[nn.Module], object]) -> dict[str, Tensor]:
    net = trained()
    change(net["fc"])
    return net.state_dict()


def quantized(tensor: Tensor) -> Tensor:
    scale, zero = torch.full((len(tensor),), 0.01), torch.zeros(len(tensor), dtype=torch.int64)
    return torch.quantize_per_channel(tensor, scale, zero, 0, torch.qint8)


NUMBER = torch.tensor(3)
TAKEN: dict[str, tuple[Any, str]] = {
    "as it is": (STATE, ""),
    "in a box": ({"model_state_dict": STATE, "epoch": 3}, "Taken: model_state_dict. Left: epoch."),
    "in two boxes": ({"saved": {"net": STATE, "acc": 0.9}, "epoch": 3}, "Taken: saved.net. Left: epoch, acc."),
    "beside metrics": ({"net": STATE, "metrics": {"acc": NUMBER}}, "Taken: net. Left: metrics."),
    "compiled and parallel": ({f"_orig_mod.module.{key}": own for key, own in STATE.items()}, ""),
    "of Lightning": (
        {"state_dict": {f"model.{key}": own for key, own in STATE.items()}
         | {"val_acc.tp": torch.zeros(10), "loss_fn.weight": torch.ones(3)}},
        "Left: val_acc.tp, loss_fn.weight.",
    ),
    "an average of trainings": ({f"module.{key}": own for key, own in STATE.items()} | {"n_averaged": NUMBER},
                                "Left: n_averaged."),
    "counted": (STATE | {"total_ops": NUMBER, "fc.total_params": NUMBER}, "Left: total_ops, fc.total_params."),
    "without counters": ({key: own for key, own in STATE.items() if "num_batches" not in key}, ""),
    "half": ({key: own.double() for key, own in STATE.items()}, ""),
}  # fmt: skip


@pytest.mark.parametrize(("held", "said"), TAKEN.values(), ids=TAKEN)
def test_a_checkpoint_gives_its_weights_out_of_any_box(file: Path, held: Any, said: str) -> None:
    torch.save(held, file.parent / "net.pt")
    module, notes = program.load(f"{file}:Net", file.parent / "net.pt")
    assert said in " ".join(notes)
    assert bool(notes) == bool(said)
    for key, own in module.state_dict().items():
        assert "num_batches" in key or torch.equal(own, STATE[key].to(own.dtype)), key


def test_a_safetensors_file_gives_its_weights(file: Path) -> None:
    safetensors.torch.save_file(STATE, file.parent / "net.safetensors")
    module, _ = program.load(f"{file}:Net", file.parent / "net.safetensors")
    assert torch.equal(module.fc.weight, STATE["fc.weight"])


def _pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.l1_unstructured(layer, "bias", 0.5)


TECHNIQUES: dict[str, Callable[[nn.Module], object]] = {
    "pruning": _pruned,
    "weight norm": nn.utils.weight_norm,
    "weight norm of columns": lambda layer: nn.utils.weight_norm(layer, dim=1),
    "weight norm of all": lambda layer: nn.utils.weight_norm(layer, dim=None),
    "weight norm, new": parametrizations.weight_norm,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("apply", TECHNIQUES.values(), ids=TECHNIQUES)
def test_weights_kept_in_parts_are_multiplied_out(file: Path, apply: Callable[[nn.Module], object]) -> None:
    net = trained()
    apply(net["fc"])
    with torch.no_grad():
        for own in net["fc"].parameters():
            own.mul_(1.5)
        net["fc"](torch.zeros(1, 4))  # computes the weight anew
        expected = net["fc"].weight.clone(), net["fc"].bias.clone()
    torch.save(net.state_dict(), file.parent / "net.pt")
    module, notes = program.load(f"{file}:Net", file.parent / "net.pt")
    torch.testing.assert_close((module.fc.weight.data, module.fc.bias.data), expected)
    assert "Multiplied out: fc.weight" in notes[0]


@pytest.mark.parametrize("name", ["fc.weight_mask", "fc.mask"])
def test_a_mask_beside_a_weight_is_applied(name: str) -> None:
    mask = (STATE["fc.weight"] > 0).float()
    fitted = checkpoints.fitted(STATE | {name: mask}, STATE.keys())
    assert torch.equal(fitted.state["fc.weight"], STATE["fc.weight"] * mask)
    assert fitted.state.keys() == STATE.keys()
    assert "fc.weight" in fitted.notes[0]


def test_what_the_module_multiplies_itself_stays(file: Path) -> None:
    state = changed(_pruned)
    assert checkpoints.fitted(state, state.keys()).state == state
    own = STATE | {"fc.mask": torch.ones(3, 4), "model.weight": torch.ones(1)}
    assert checkpoints.fitted(own, own.keys()).state == own


@pytest.mark.filterwarnings("ignore")
def test_quantized_weights_are_taken_as_the_numbers_that_they_stand_for(file: Path) -> None:
    weight = STATE["fc.weight"]
    for held in (quantized(weight), torch.quantize_per_tensor(weight, 0.01, 3, torch.quint8).clone()):
        torch.save(STATE | {"fc.weight": held}, file.parent / "net.pt")
        module, notes = program.load(f"{file}:Net", file.parent / "net.pt")
        assert torch.equal(module.fc.weight, held.dequantize())
        assert "Quantized, and taken as the numbers that they stand for: fc.weight." in notes


def without(*names: str) -> dict[str, Tensor]:
    return {key: own for key, own in STATE.items() if key not in names}


MISFITS: dict[str, tuple[Mapping[str, Tensor], str]] = {
    "missing": (without("fc.weight", "fc.bias"), r"Missing: fc\.weight, fc\.bias\."),
    "left over": (STATE | {"spare.weight": torch.ones(2, 2)}, r"Left over: spare\.weight\."),
    "both": (without("fc.bias") | {"head.bias": torch.ones(3)}, r"Missing: fc\.bias\. Left over: head\.bias\."),
    "many": (STATE | {f"more{i}.weight": torch.ones(2, 2) for i in range(9)}, r"more5\.weight and 3 more"),
    "another shape": (STATE | {"fc.weight": torch.ones(5, 4)}, r"shape: fc\.weight \(5, 4\), not \(3, 4\)\."),
    "whole numbers": (STATE | {"fc.weight": torch.ones(3, 4, dtype=torch.int8)}, r"only their quantizer knows"),
    "old spectral norm": (changed(nn.utils.spectral_norm), r"spectral normalization divides it"),
    "spectral norm": (changed(parametrizations.spectral_norm), r"spectral normalization divides it"),
    "a parametrization": (changed(parametrizations.orthogonal), r"fc\.parametriz.*remove_parametrizations"),
    "a mask of another shape": (STATE | {"fc.weight_mask": torch.ones(3)}, r"must have the shape of what it masks"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("state", "said"), MISFITS.values(), ids=MISFITS)
def test_weights_that_are_not_the_modules_are_refused(file: Path, state: Mapping[str, Tensor], said: str) -> None:
    torch.save(dict(state), file.parent / "net.pt")
    with pytest.raises(BaselineError, match=said):
        program.load(f"{file}:Net", file.parent / "net.pt")


def test_a_missing_file_is_refused(file: Path) -> None:
    with pytest.raises(BaselineError, match="could not be read"):
        program.load(f"{file}:Net", file.parent / "none.pt")
