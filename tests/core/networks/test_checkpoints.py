"""What people bring is read, or refused with what it is and the way out; nothing is left out in silence."""

import copy
import json
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from core.__main__ import main
from core.networks import checkpoints, folding
from core.networks.models import BaselineError


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.Linear(9, 10))


STATE = network().state_dict()


def same(found: dict[str, Tensor], state: dict[str, Tensor] = STATE) -> bool:
    return list(found) == list(state) and all(torch.equal(found[key], state[key]) for key in state)


def tried(make: Callable[[], Any]) -> tuple[Any, str]:
    """What is made, or in which words it is refused."""
    try:
        return make(), ""
    except BaselineError as error:
        return None, str(error)


def optimizer() -> dict[str, Any]:
    module = network()
    made = torch.optim.Adam(module.parameters())
    sum(own.sum() for own in module.parameters()).backward()
    made.step()
    return made.state_dict()


BOXES = {
    "nothing around it": STATE,
    "PyTorch's own tutorial": {"epoch": 5, "model_state_dict": STATE, "optimizer_state_dict": optimizer(), "loss": 0.4},
    "a model": {"model": STATE, "optimizer": optimizer(), "args": {"lr": 0.1}},
    "a net": {"net": STATE, "acc": 91.2, "epoch": 10},
    "tensors beside it": {"state_dict": STATE, "epoch": 4, "best_acc1": torch.tensor(0.9)},
    "a name of one's own": {"what_i_call_it": STATE},
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_the_one_network_of_a_file_is_found_and_what_else_is_there_is_said(box: dict[str, Any], tmp_path: Path) -> None:
    torch.save(box, tmp_path / "it.pt")
    found = checkpoints.read(tmp_path / "it.pt")
    assert same(found.state)
    if box is STATE:
        assert (found.box, found.beside) == ("", ())
    else:
        assert {found.box, *found.beside} == set(box)
        assert found.box not in found.beside


def test_of_several_networks_none_is_taken(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "state_dict_ema": STATE}, tmp_path / "it.pt")
    with pytest.raises(BaselineError, match=r"several networks: state_dict, state_dict_ema\. Save the one"):
        checkpoints.read(tmp_path / "it.pt")


def test_a_safetensors_file_is_read_whatever_it_begins_with(tmp_path: Path) -> None:
    """Its first bytes are the length of its header, in steps of 8."""
    begins = set()
    for length in range(0, 256, 8):
        content = safetensors.torch.save(STATE, metadata={"about": "x" * length})
        begins.add(content[0])
        (tmp_path / "it.safetensors").write_bytes(content)
        found = checkpoints.read(tmp_path / "it.safetensors").state
        assert same(dict(sorted(found.items())), dict(sorted(STATE.items())))
    assert {0x08, 0x80} <= begins, "as ONNX and Python objects begin"


def _saved(thing: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(thing, path)


def _zipped(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"content")

    return write


def _written(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def _traced(path: Path) -> None:
    torch.jit.trace(network(), torch.zeros(1, 1, 28, 28)).save(str(path))


FILES = {
    "a whole module": (_saved(network()), "torch.nn.modules.container.Sequential"),
    "a script's options": (_saved({"state_dict": STATE, "args": Namespace(lr=0.1)}), "argparse.Namespace"),
    "arrays": (_saved({key: own.numpy() for key, own in STATE.items()}), "numpy"),
    "a number of NumPy's": (_saved({"state_dict": STATE, "best": np.float64(0.9)}), "numpy"),
    "a list": (_saved(list(STATE.values())), "It holds a list"),
    "a number": (_saved(3), "It holds a int"),
    "quantized by torch": (_saved({**STATE, "3._packed_params.dtype": torch.qint8}), "_packed_params.dtype is a dtype"),
    "TorchScript": (_traced, "TorchScript"),
    "an exported program": (_zipped("it/models/model.json"), "exported program"),
    "npz": (lambda path: np.savez(path.open("wb"), a=np.ones(3)), "NumPy arrays"),
    "Keras": (_written(b"\x89HDF\r\n\x1a\n" + bytes(2000)), "HDF5"),
    "ONNX": (_written(b"\x08\x08\x12\x07pytorch\x1a\x06"), "ONNX"),
    "Python objects": (_written(b"\x80\x04\x95\x16" + bytes(40)), "Python objects"),
    "a pointer": (_written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    "a web page": (_written(b"\n<!DOCTYPE html><html>Virus scan warning</html>"), "web page"),
    "nothing": (_written(b""), "damaged"),
    "text": (_written(b"conv1 1 2 3"), "damaged"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("write", "named"), FILES.values(), ids=FILES)
def test_a_file_without_a_state_dict_is_refused_with_what_it_is(
    write: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    write(tmp_path / "it.pt")
    with pytest.raises(BaselineError) as refused:
        checkpoints.read(tmp_path / "it.pt")
    said = str(refused.value)
    assert named in said
    assert "\x1b" not in said
    assert any(way in said for way in ("save its tensors alone", "Download it again", "git lfs pull"))


def test_a_checkpoint_that_was_cut_or_damaged_is_refused_or_read_and_never_another_error(tmp_path: Path) -> None:
    path = tmp_path / "it.pt"
    torch.save(STATE, path)
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(len(content), (60,), generator=generator).tolist():
        for damaged in (content[:place], content[:place] + b"\xff" + content[place + 1 :]):
            path.write_bytes(damaged)
            _, refusal = tried(lambda: folding.fold(checkpoints.read(path).state))
            assert "\x1b" not in refusal


def _changed(change: Callable[[nn.Module], object]) -> dict[str, Tensor]:
    module = copy.deepcopy(network())
    change(module[1])
    return module.state_dict()


SIGNS = {
    "pruned": (_changed(lambda own: prune.l1_unstructured(own, "weight", 0.5)), "prune.remove"),
    "a pruned bias": (_changed(lambda own: prune.l1_unstructured(own, "bias", 0.5)), "prune.remove"),
    "weight norm": (_changed(parametrizations.weight_norm), "remove_parametrizations"),
    "old weight norm": (
        {"1.bias": torch.zeros(9), "1.weight_g": torch.ones(9, 1), "1.weight_v": torch.ones(9, 784)},
        "remove_weight_norm",
    ),
    "old spectral norm": (
        {"1.bias": torch.zeros(9), "1.weight_orig": torch.ones(9, 784), "1.weight_u": torch.ones(9)},
        "remove_spectral_norm",
    ),
    "observers": ({**STATE, "act.activation_post_process.min_val": torch.tensor(0.0)}, "prepared for quantization"),
    "recurrent": (nn.LSTM(28, 10).state_dict(), "recurrent layers"),
    "meta": ({key: own.to("meta") for key, own in STATE.items()}, "has a shape and no numbers (meta)"),
    "sparse": ({key: own.to_sparse() if own.dim() == 2 else own for key, own in STATE.items()}, ".to_dense()"),
    "rows apart": ({key: own.to_sparse_csr() if own.dim() == 2 else own for key, own in STATE.items()}, ".to_dense()"),
    "complex": ({key: own.cfloat() for key, own in STATE.items()}, "complex numbers"),
    "a counter": ({**STATE, "n_averaged": torch.tensor(3)}, "n_averaged belongs to no layer"),
    "an average": ({**STATE, "mean": torch.tensor([0.286])}, "mean belongs to no layer"),
    "a layer too many": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(98, 9), nn.Linear(9, 9), nn.Linear(9, 10)),
        "Convolutions of this state dict: 2; linear layers: 3",
    ),
    "no padding": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(50, 9), nn.Linear(9, 10)),
        "keep the size of the image",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("state", "named"), SIGNS.values(), ids=SIGNS)
def test_what_a_key_is_a_sign_of_is_said_with_the_way_out(state: Any, named: str) -> None:
    with pytest.raises(BaselineError) as refused:
        folding.fold(state.state_dict() if isinstance(state, nn.Module) else state)
    assert named in str(refused.value)


NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)


@given(NAMES | st.integers(1, 12).map(lambda n: [f"fc{i}" for i in range(1, n + 1)]), st.data())
def test_sorted_keys_give_the_same_network_or_are_refused(names: list[str], data: st.DataObject) -> None:
    """As safetensors and some helpers sort them, whatever the layers are called."""
    widths = [784, *data.draw(st.lists(st.sampled_from([5, 6]), min_size=len(names) - 1, max_size=len(names) - 1)), 10]
    module = nn.ModuleDict({name: nn.Linear(widths[i], widths[i + 1]) for i, name in enumerate(names)})
    state = module.state_dict()
    declared = folding.fold(state)
    found, refusal = tried(lambda: folding.fold({key: state[key] for key in sorted(state)}))
    if refusal:
        assert "were sorted" in refusal
        assert names[0] != "fc1", "numbers say it"
        assert len(names) > 3, "widths say it"
    else:
        assert all(torch.equal(found[key], declared[key]) for key in declared)


@given(st.permutations(["a", "b", "c"]), st.booleans())
def test_in_sorted_keys_neighbours_are_none(names: list[str], second: bool) -> None:
    """A normalization that only stood next to another layer belongs to neither."""
    assume(names != sorted(names))
    first, norm, last = names
    module = nn.ModuleDict({first: nn.Linear(784, 9), norm: nn.BatchNorm1d(9), last: nn.Linear(9, 10)})
    if second:
        module = nn.ModuleDict({f"{first}1": module[first], f"{norm}1": module[norm], f"{last}2": module[last]})
    state, declared = module.state_dict(), folding.fold(module.state_dict())
    found, refusal = tried(lambda: folding.fold({key: state[key] for key in sorted(state)}))
    if refusal:
        assert "nothing says of which layer" in refusal
        assert not second, "numbers say it"
    else:
        assert all(torch.equal(found[key], declared[key]) for key in declared)


def test_the_command_says_what_it_took_and_how_it_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path / "cache"))
    torch.save({"model_state_dict": STATE, "epoch": 3}, tmp_path / "it.pt")
    assert main(["import", str(tmp_path / "it.pt"), "--out", str(tmp_path / "it.safetensors"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["layers"][0] == {"name": "fc1", "shape": [9, 784]}
    assert "Taken: model_state_dict. Left: epoch." in printed.err
    assert "ReLU after each but the last" in printed.err
    assert main(["import", str(tmp_path / "none.pt"), "--out", str(tmp_path / "it.safetensors")]) == 1
    assert "No such file" in capsys.readouterr().err
