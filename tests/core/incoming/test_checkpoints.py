"""What people bring is read, or refused with what it is and the way out; nothing is left out in silence."""

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
from torch import Tensor, nn

from core.__main__ import main
from core.incoming import checkpoints, state_dict
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
            _, refusal = tried(lambda: state_dict.layers(checkpoints.read(path).state))
            assert "\x1b" not in refusal


def test_the_command_says_what_it_took_and_how_it_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path / "cache"))
    torch.save({"model_state_dict": STATE, "epoch": 3}, tmp_path / "it.pt")
    given = ["--activation", "relu", "--scale", "dataset", "--json"]
    assert main(["import", str(tmp_path / "it.pt"), "--out", str(tmp_path / "it.safetensors"), *given]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["layers"][0] == {"name": "1", "shape": [9, 784]}
    assert "Taken: model_state_dict. Left: epoch." in printed.err
    assert "Read as 2 linear layers, ReLU." in printed.err
    assert "Input scaling dataset" in printed.err
    assert "never trained" in printed.err
    assert main(["import", str(tmp_path / "none.pt"), "--out", str(tmp_path / "it.safetensors")]) == 1
    assert "No such file" in capsys.readouterr().err
