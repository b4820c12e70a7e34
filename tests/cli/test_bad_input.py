"""Bad input gets one line that names the thing and the remedy, exit status 1, and no output file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import Result

Command = Callable[..., Result]
MakeImages = Callable[[int], np.ndarray]


@pytest.fixture
def refused(quantstats: Command, tmp_path: Path) -> Callable[..., str]:
    """Run ``quantstats quantize`` with an output, check how it fails, and return the line of the error."""

    def run(*arguments: object, output: Path = tmp_path / "int8.onnx") -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        result = quantstats("quantize", *arguments, "-o", output, "--json", tmp_path / "summary.json")
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return line

    return run


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_missing_model(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    assert "nowhere.onnx" in refused(tmp_path / "nowhere.onnx", "--data", data)


def test_model_that_is_a_directory(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    assert "folder.onnx" in refused(tmp_path / "folder.onnx", "--data", data)


def test_unreadable_model(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    # A dangling link cannot be opened by anyone, not even by root, whom permission bits do not stop.
    (tmp_path / "link.onnx").symlink_to(tmp_path / "gone.onnx")
    assert "link.onnx" in refused(tmp_path / "link.onnx", "--data", data)


@pytest.mark.parametrize("content", [b"", b"this is no protobuf", bytes(range(256)) * 8])
def test_model_that_is_not_onnx(refused: Callable[..., str], data: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.onnx").write_bytes(content)
    line = refused(tmp_path / "text.onnx", "--data", data)
    assert "text.onnx" in line
    assert "ONNX" in line


def test_truncated_model(refused: Callable[..., str], model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "half.onnx").write_bytes(model.read_bytes()[:700])
    assert "half.onnx" in refused(tmp_path / "half.onnx", "--data", data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda images: {"x": images}, ("'image'", "'x'")),
        (lambda images: {"image": images.astype(np.float64)}, ("'image'", "float64", "float32", "astype")),
        (lambda images: {"image": images[:, 0]}, ("'image'", "(3, 8, 8)", "1, 8, 8")),
        (lambda images: {"image": images[:0]}, ("empty",)),
    ],
)
def test_data_that_do_not_fit(
    refused: Callable[..., str],
    model: Path,
    make_images: MakeImages,
    tmp_path: Path,
    make: Callable[[np.ndarray], dict[str, np.ndarray]],
    words: tuple[str, ...],
) -> None:
    line = refused(model, "--data", save(tmp_path / "bad.npz", **make(make_images(3))))
    for word in ("bad.npz", *words):
        assert word in line


def test_missing_data(refused: Callable[..., str], model: Path, tmp_path: Path) -> None:
    assert "nothing.npz' do not exist" in refused(model, "--data", tmp_path / "nothing.npz")


def test_test_data_are_checked_before_anything_is_computed(
    refused: Callable[..., str], model: Path, data: Path, make_images: MakeImages, tmp_path: Path
) -> None:
    bad = save(tmp_path / "test.npz", picture=make_images(3))
    assert "test.npz' have no array for the model input 'image'" in refused(model, "--data", data, "--test-data", bad)


def test_labels_that_are_not_there(refused: Callable[..., str], model: Path, data: Path) -> None:
    assert "no labels 'y'; they hold 'image', 'label'" in refused(model, "--data", data, "--labels", "y")


def test_labels_that_do_not_fit_the_scores(
    refused: Callable[..., str], model: Path, make_images: MakeImages, tmp_path: Path
) -> None:
    bad = save(tmp_path / "d.npz", image=make_images(8), label=np.zeros((8, 2), np.int64))
    assert "labels of shape (1, 2) do not fit scores of shape (1, 4)" in refused(
        model, "--data", bad, "--labels", "label"
    )


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "Inf")])
def test_a_value_that_is_not_finite(
    refused: Callable[..., str], model: Path, make_images: MakeImages, tmp_path: Path, value: float, word: str
) -> None:
    images = make_images(10)
    images[6, 0, 2, 3] = images[6, 0, 5, 1] = value
    line = refused(model, "--data", save(tmp_path / "d.npz", image=images))
    assert "'image'" in line
    assert "sample 6" in line
    assert re.search(rf"\b2\b.*{word}|{word}.*\b2\b", line, re.IGNORECASE)


def test_a_model_with_nothing_to_quantize(refused: Callable[..., str], data: Path, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["image"], ["y"], "soft")],
        "soft",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 8, 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "soft.onnx")
    assert "nothing" in refused(tmp_path / "soft.onnx", "--data", data).lower()


@pytest.mark.parametrize("option", ["--ignore-name", "--ignore-pattern", "--ignore-type"])
def test_an_ignored_scope_that_matches_nothing(
    refused: Callable[..., str], model: Path, data: Path, option: str
) -> None:
    assert "'Convx'" in refused(model, "--data", data, option, "Convx")


def test_a_pattern_that_is_no_regular_expression(refused: Callable[..., str], model: Path, data: Path) -> None:
    assert "'conv('" in refused(model, "--data", data, "--ignore-pattern", "conv(")


def test_an_output_that_exists(refused: Callable[..., str], model: Path, data: Path, tmp_path: Path) -> None:
    existing = tmp_path / "there.onnx"
    existing.write_bytes(b"precious")
    line = refused(model, "--data", data, output=existing)
    assert "there.onnx' exists" in line
    assert "--overwrite" in line


def test_a_summary_that_exists(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")
    out = tmp_path / "int8.onnx"
    result = quantstats("quantize", model, "--data", data, "-o", out, "--json", tmp_path / "s.json")
    assert result.exit_code == 1
    assert "s.json' exists" in result.stderr
    assert not out.exists()


def test_the_model_itself_is_never_replaced(refused: Callable[..., str], model: Path, data: Path) -> None:
    assert "would replace a file that is read" in refused(model, "--data", data, "--overwrite", output=model)


def test_an_output_in_a_directory_that_does_not_exist(
    refused: Callable[..., str], model: Path, data: Path, tmp_path: Path
) -> None:
    assert "'" + str(tmp_path / "no") + "' does not exist" in refused(
        model, "--data", data, output=tmp_path / "no" / "o.onnx"
    )


def test_model_and_summary_cannot_be_one_file(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "same"
    result = quantstats("quantize", model, "--data", data, "-o", out, "--json", out)
    assert result.exit_code == 1
    assert "would both go to" in result.stderr


def test_a_quantized_model(
    quantstats: Command, refused: Callable[..., str], model: Path, data: Path, tmp_path: Path
) -> None:
    once = tmp_path / "once.onnx"
    assert quantstats("quantize", model, "--data", data, "-o", once, "--latency-seconds", 0, "-q").exit_code == 0
    assert "once.onnx" in refused(once, "--data", data)


def test_a_device_that_is_not_supported(refused: Callable[..., str], model: Path, data: Path) -> None:
    assert "GPU" in refused(model, "--data", data, "--target-device", "gpu")


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "m.onnx"),
        ("quantize", "m.onnx", "--data", "d.npz"),
        ("quantize", "m.onnx", "--data", "d.npz", "-o", "o.onnx", "--preset", "fast"),
        ("quantize", "m.onnx", "--data", "d.npz", "-o", "o.onnx", "--subset-size", "0"),
        ("quantize", "m.onnx", "--data", "d.npz", "-o", "o.onnx", "--range-estimator", "max"),
        ("quantise", "m.onnx"),
    ],
)
def test_wrong_usage_is_exit_status_2(quantstats: Command, arguments: tuple[str, ...]) -> None:
    result = quantstats(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr
