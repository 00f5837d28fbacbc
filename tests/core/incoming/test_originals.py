"""The network as it came: images in the order of axes that it wants, and as many at once as it takes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import helper, numpy_helper
from torch import nn

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


def test_only_what_a_file_names_is_read_beside_it(tmp_path: Path) -> None:
    model = onnx.load_from_string(onnx_flat("n"))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "other.data").write_bytes(b"secret")
    assert set(originals.read_beside(tmp_path / "net.onnx")) == {"net.data"}
