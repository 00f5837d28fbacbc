"""The network as it came: images in the order of axes that it wants, and as many at once as it takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from core.incoming import originals
from core.networks.graph import BaselineError

COLOURS = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
GREY = np.arange(2 * 4 * 5, dtype=np.float32).reshape(2, 1, 4, 5)
SIGNALS = np.arange(2 * 3 * 6, dtype=np.float32).reshape(2, 3, 1, 6)


@pytest.mark.parametrize(
    ("images", "sizes", "expected"),
    [
        (COLOURS, [None, 3, 4, 5], COLOURS), (COLOURS, [None, 4, 5, 3], COLOURS.transpose(0, 2, 3, 1)),
        (COLOURS, [None, None, None, None], COLOURS), (COLOURS, [1, 60], COLOURS.reshape(2, 60)),
        (GREY, [None, 4, 5], GREY[:, 0]), (GREY, [None, 4, 5, 1], GREY.transpose(0, 2, 3, 1)),
        (SIGNALS, [None, 3, 6], SIGNALS[:, :, 0]), (SIGNALS, [None, 6, 3], SIGNALS[:, :, 0].transpose(0, 2, 1)),
    ],
)  # fmt: skip
def test_images_are_in_the_order_that_the_file_wants(
    images: np.ndarray,
    sizes: list[int | None],
    expected: np.ndarray,  # type: ignore[type-arg]
) -> None:
    assert np.array_equal(originals.arranged(images, sizes, images.shape[1:]), expected)


@pytest.mark.parametrize("sizes", [[None, 3, 4, 6], [None, 61], [None, 4, 5], [None, 2, 3, 4, 5], [None]])
def test_what_fits_no_image_is_refused_with_both_shapes(sizes: list[int | None]) -> None:
    with pytest.raises(BaselineError, match=r"\(3, 4, 5\)"):
        originals.arranged(COLOURS, sizes, (3, 4, 5))


def onnx_flat(batch: int | str) -> bytes:
    """y = W x of flat features."""
    weight = numpy_helper.from_array(np.arange(120, dtype=np.float32).reshape(2, 60) / 60, "w")
    x, y = (helper.make_tensor_value_info(name, 1, [batch, size]) for name, size in (("x", 60), ("y", 2)))
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], "flat", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_a_file_with_a_fixed_batch_sees_every_image_once(batch: int | str) -> None:
    images = np.random.default_rng(0).normal(size=(7, 3, 4, 5)).astype(np.float32)
    weight = np.arange(120, dtype=np.float32).reshape(2, 60) / 60
    found = originals.of_onnx(onnx_flat(batch), {}, (3, 4, 5))(images)
    np.testing.assert_allclose(found, images.reshape(7, 60) @ weight.T, rtol=1e-4, atol=1e-4)


def test_a_module_sees_its_own_shape_and_stays_in_its_mode() -> None:
    module = nn.Sequential(nn.Linear(60, 2), nn.Dropout(0.5)).double().train()
    images = np.random.default_rng(0).normal(size=(7, 3, 4, 5)).astype(np.float32)
    found = originals.of_module(module, (60,), 2)(images)
    expected = module[0](torch.from_numpy(images).double().flatten(1)).float()
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)
    assert module.training


class Boxed(nn.Module):
    """One output, in a box."""

    def __init__(self, box: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc, self.box = nn.Linear(60, 2), box

    def forward(self, x: Tensor) -> Any:
        return self.box(self.fc(x))


@pytest.mark.parametrize("box", [lambda x: {"logits": x}, lambda x: (x,), lambda x: [None, x], lambda x: ({"y": x},)])
def test_a_module_may_put_its_scores_into_a_box(box: Callable[[Tensor], Any]) -> None:
    module = Boxed(box)
    found = originals.of_module(module, (60,), None)(COLOURS)
    np.testing.assert_allclose(found, module.fc(torch.from_numpy(COLOURS).flatten(1)).detach().numpy(), rtol=1e-5)


def test_scores_may_have_axes_of_size_1() -> None:
    scores = np.array([[1.0, 3, 2], [5, 1, 1]], dtype=np.float32)
    assert not len(originals.disagreements(scores, scores[:, :, None, None]))
    assert not len(originals.disagreements(scores, np.array([[1], [0]])))
    assert originals.disagreements(scores, scores[::-1, :, None, None]).tolist() == [0, 1]


@pytest.mark.parametrize(("kind", "step"), [(torch.bfloat16, 2.0**-7), (torch.float16, 2.0**-10)])
def test_what_an_original_of_16_bits_rounds_is_a_tie(kind: torch.dtype, step: float) -> None:
    exact = 8 * torch.rand(4_000, 10, generator=torch.Generator().manual_seed(0))
    rounded = exact.to(kind).float()
    assert (exact.argmax(1) != rounded.argmax(1)).any(), "rounding alone decides some"
    assert not len(originals.disagreements(exact.numpy(), rounded.numpy()))
    other = rounded.clone()
    other[0, other[0].argmin()] = 99.0
    assert originals.disagreements(exact.numpy(), other.numpy()).tolist() == [0]
    assert len(originals.disagreements(exact.numpy(), rounded.numpy() + 1e-4)), "one of float32 says what it says"


def test_what_onnx_runtime_cannot_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="ONNX Runtime cannot run the file"):
        originals.of_onnx(b"\x08no", {}, (3, 4, 5))


def test_an_onnx_file_is_known_by_its_ending_or_its_first_byte(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(onnx_flat("n"))
    torch.save({"w": torch.zeros(1)}, tmp_path / "a.pt")
    assert originals.is_onnx(tmp_path / "a.bin")
    assert not originals.is_onnx(tmp_path / "a.pt")
    for size in range(64, 80):
        safetensors.torch.save_file({"w" * size: torch.zeros(1)}, tmp_path / "a.safetensors")
        assert not originals.is_onnx(tmp_path / "a.safetensors"), "whatever the size of its header"
    (tmp_path / "b.onnx").write_bytes(b"")
    assert originals.is_onnx(tmp_path / "b.onnx")


@pytest.mark.parametrize("place", ["net.data", "weights/net.data"])
def test_only_what_a_file_names_is_read_beside_it(tmp_path: Path, place: str) -> None:
    model, path = onnx.load_from_string(onnx_flat("n")), tmp_path / "net.onnx"
    expected = originals.of_onnx(onnx_flat("n"), {}, (3, 4, 5))(COLOURS)
    (tmp_path / "weights").mkdir()
    onnx.save(model, path, save_as_external_data=True, location=place, size_threshold=0)
    (tmp_path / "other.data").write_bytes(b"secret")
    for found in (
        originals.beside(path.read_bytes(), {}, path.parent),
        originals.beside(path.read_bytes(), {"net.data": (tmp_path / place).read_bytes(), "other.data": b"secret"}),
    ):
        assert set(found) == {place}
        np.testing.assert_array_equal(originals.of_onnx(path.read_bytes(), found, (3, 4, 5))(COLOURS), expected)
