"""``quantstats quantize`` from end to end: what it writes, prints and measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from typer.testing import Result

Command = Callable[..., Result]
MakeImages = Callable[[int], np.ndarray]

QUICK = ("--latency-seconds", "0.01")


def outputs(model: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    scores, best = session.run(["scores", "best"], {"image": images})
    return scores, best


def sqnr_db(reference: np.ndarray, actual: np.ndarray) -> float:
    signal = np.sum(reference.astype(np.float64) ** 2)
    return float(10 * np.log10(signal / np.sum((reference.astype(np.float64) - actual) ** 2)))


def summary_of(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_the_table_says_what_was_quantized_and_what_it_is_worth(
    quantstats: Command, model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    result = quantstats("quantize", model, "--data", data, "-o", out, "--labels", "label", *QUICK)
    assert result.exit_code == 0, result.output
    for words in ("Conv", "Gemm", "SQNR", "% equal", "top-1 accuracy", "file size", "latency, batch 1"):
        assert words in result.stdout
    types = {node.op_type for node in onnx.load(out).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"} <= types


def test_every_figure_is_what_an_independent_measurement_gives(
    quantstats: Command, model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    subset = 25
    found = summary_of(
        quantstats(
            "quantize", model, "--data", data, "-o", out, "--subset-size", subset, "--labels", "label", "--json", "-",
            *QUICK,
        )
    )  # fmt: skip
    with np.load(data) as archive:
        images, labels = archive["image"][subset:], archive["label"][subset:]
    (scores, best), (scores8, best8) = outputs(model, images), outputs(out, images)
    assert found["outputs"]["scores"]["sqnr_db"] == pytest.approx(sqnr_db(scores, scores8), abs=1e-3)
    assert found["outputs"]["scores"]["sqnr_db"] > 20
    assert found["outputs"]["best"] == {"sqnr_db": None, "agreement": np.mean(best == best8), "elements": 15}
    assert found["top1_accuracy"] == {
        "fp32": pytest.approx(np.mean(best == labels)),
        "int8": pytest.approx(np.mean(best8 == labels)),
    }
    assert found["calibration"]["samples"] == subset
    assert found["evaluation_data"]["samples"] == 15
    sizes = found["file_bytes"]
    assert (sizes["fp32"], sizes["int8"]) == (model.stat().st_size, out.stat().st_size)
    assert found["operations"]["quantized"]["Conv"] == 1
    assert found["operations"]["quantized"]["Gemm"] == 1
    latency = found["latency"]
    assert latency["runs"] >= 5
    assert latency["speed_up"] == pytest.approx(latency["fp32_median_ms"] / latency["int8_median_ms"])


def test_without_further_samples_an_eighth_is_held_back(
    quantstats: Command, model: Path, data: Path, tmp_path: Path
) -> None:
    found = summary_of(
        quantstats("quantize", model, "--data", data, "-o", tmp_path / "o.onnx", "--json", "-", "--latency-seconds", 0)
    )
    assert found["calibration"]["samples"] == 35
    assert found["evaluation_data"] == {
        "samples": 5,
        "origin": "of data.npz, held back from calibration",
        "seen_in_calibration": False,
    }
    assert found["latency"] is None


def test_a_single_sample_calibrates_and_compares_and_the_summary_says_so(
    quantstats: Command, model: Path, make_images: MakeImages, tmp_path: Path
) -> None:
    np.save(tmp_path / "one.npy", make_images(1))
    found = summary_of(
        quantstats("quantize", model, "--data", tmp_path / "one.npy", "-o", tmp_path / "o.onnx", "--json", "-", *QUICK)
    )
    assert found["calibration"]["samples"] == 1
    assert found["evaluation_data"]["samples"] == 1
    assert found["evaluation_data"]["seen_in_calibration"] is True


def test_test_data_of_its_own(
    quantstats: Command, model: Path, data: Path, make_images: MakeImages, tmp_path: Path
) -> None:
    images = make_images(9)[:, :, ::-1].copy()
    np.savez(tmp_path / "test.npz", image=images, y=np.zeros(9, np.int64))
    out = tmp_path / "o.onnx"
    found = summary_of(
        quantstats(
            "quantize", model, "--data", data, "--test-data", tmp_path / "test.npz", "--labels", "y", "-o", out,
            "--json", "-", *QUICK,
        )
    )  # fmt: skip
    assert found["calibration"]["samples"] == 40
    assert found["evaluation_data"]["samples"] == 9
    assert found["outputs"]["scores"]["sqnr_db"] == pytest.approx(
        sqnr_db(outputs(model, images)[0], outputs(out, images)[0]), abs=1e-3
    )


def test_batches_do_not_change_the_statistics(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    written = []
    for size in (1, 7):
        out = tmp_path / f"batch{size}.onnx"
        assert (
            quantstats("quantize", model, "--data", data, "-o", out, "--batch-size", size, "-q", *QUICK).exit_code == 0
        )
        written.append([onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer])
    for one, seven in zip(*written, strict=True):
        # Convolutions of a batch may sum in another order, so ranges may differ in the last bits of a float32.
        np.testing.assert_allclose(one, seven, rtol=1e-5)


def test_a_model_with_a_fixed_batch(
    quantstats: Command, make_classifier: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    model = make_classifier(tmp_path / "fixed.onnx", batch=4)
    found = summary_of(
        quantstats(
            "quantize", model, "--data", data, "-o", tmp_path / "o.onnx", "--subset-size", 30, "--json", "-", *QUICK
        )
    )
    assert found["calibration"]["samples"] == 28
    assert found["evaluation_data"]["samples"] == 12
    assert found["latency"]["batch_size"] == 4


def weight_levels(model: Path) -> dict[int, tuple[int, int]]:
    """Least and greatest int8 weight, by the number of axes of the weight."""
    arrays = [onnx.numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer]
    return {a.ndim: (int(a.min()), int(a.max())) for a in arrays if a.dtype == np.int8 and a.ndim > 1}


@pytest.mark.parametrize(("fix", "halved"), [("enable", {4, 2}), ("first_layer_only", {4}), ("disable", set())])
def test_overflow_fix(quantstats: Command, model: Path, data: Path, tmp_path: Path, fix: str, halved: set[int]) -> None:
    out = tmp_path / "o.onnx"
    assert quantstats("quantize", model, "--data", data, "-o", out, "--overflow-fix", fix, "-q", *QUICK).exit_code == 0
    levels = weight_levels(out)
    assert set(levels) == {4, 2}
    assert {ndim for ndim, (low, high) in levels.items() if low >= -64 and high <= 63} == halved


def activation_scales(model: Path) -> dict[str, float]:
    """Scale of each QuantizeLinear whose input is an activation, by that input."""
    graph = onnx.load(model).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    return {
        node.input[0]: float(constants[node.input[1]])
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants
    }


def test_range_estimator(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    images = np.load(data)["image"][:35]
    scales = {}
    for name in ("MINMAX", "mean_minmax"):
        out = tmp_path / f"{name}.onnx"
        arguments = ("--range-estimator", name, "--preset", "performance", "-q", *QUICK)
        assert quantstats("quantize", model, "--data", data, "-o", out, *arguments).exit_code == 0
        scales[name] = activation_scales(out)["image"]
    greatest = np.abs(images).max(axis=(1, 2, 3))
    assert scales["MINMAX"] == pytest.approx(greatest.max() / 127, rel=1e-5)
    assert scales["mean_minmax"] == pytest.approx(greatest.mean() / 127, rel=1e-5)


def test_every_ready_made_estimator_has_a_name_on_the_command_line() -> None:
    from quantstats.cli.app import RangeEstimatorName
    from quantstats.range_estimator import RangeEstimatorParameters, RangeEstimatorParametersSet

    ready_made = {name for name in vars(RangeEstimatorParametersSet) if not name.startswith("_")}
    assert {name.name for name in RangeEstimatorName} == ready_made
    assert all(name.value == name.name.lower() for name in RangeEstimatorName)
    assert all(isinstance(name.parameters, RangeEstimatorParameters) for name in RangeEstimatorName)


def test_preset(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    zero_points = {}
    for preset in ("performance", "mixed"):
        out = tmp_path / f"{preset}.onnx"
        assert quantstats("quantize", model, "--data", data, "-o", out, "--preset", preset, "-q", *QUICK).exit_code == 0
        graph = onnx.load(out).graph
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        (node,) = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "image"]
        zero_points[preset] = constants[node.input[2]]
    # Symmetric signed activations have zero in the middle; the images are not symmetric enough for asymmetric to.
    middle = {np.dtype(np.int8): 0, np.dtype(np.uint8): 128}
    assert zero_points["performance"] == middle[zero_points["performance"].dtype]
    assert zero_points["mixed"] != middle[zero_points["mixed"].dtype]


@pytest.mark.parametrize(
    ("option", "kind"),
    [(("--ignore-name", "gemm"), "Gemm"), (("--ignore-pattern", "con.*"), "Conv"), (("--ignore-type", "Gemm"), "Gemm")],
)
def test_ignored_scope(
    quantstats: Command, model: Path, data: Path, tmp_path: Path, option: tuple[str, str], kind: str
) -> None:
    found = summary_of(
        quantstats("quantize", model, "--data", data, "-o", tmp_path / "o.onnx", *option, "--json", "-", *QUICK)
    )
    assert kind not in found["operations"]["quantized"]
    (group,) = [group for group in found["operations"]["left_in_float"] if group["type"] == kind]
    assert all(option[1] in reason for reason in group["operations"].values())


def test_ignore_options_can_be_repeated(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    ignore = ("--ignore-name", "gemm", "--ignore-name", "pool")
    found = summary_of(
        quantstats("quantize", model, "--data", data, "-o", tmp_path / "o.onnx", *ignore, "--json", "-", *QUICK)
    )
    assert set(found["operations"]["quantized"]) == {"Conv", "Relu"}


def test_json_goes_to_a_file_and_the_table_still_to_the_terminal(
    quantstats: Command, model: Path, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "summary.json"
    result = quantstats("quantize", model, "--data", data, "-o", tmp_path / "o.onnx", "--json", path, *QUICK)
    assert result.exit_code == 0, result.output
    assert "SQNR" in result.stdout
    found = json.loads(path.read_text())
    assert found["output"] == str(tmp_path / "o.onnx")
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "data.npz", "o.onnx", "summary.json"}


def test_quiet_prints_nothing(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    result = quantstats("quantize", model, "--data", data, "-o", tmp_path / "o.onnx", "--quiet", *QUICK)
    assert (result.exit_code, result.output) == (0, "")


def test_overwrite_replaces_the_output(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    out.write_bytes(b"old")
    assert quantstats("quantize", model, "--data", data, "-o", out, "--overwrite", "-q", *QUICK).exit_code == 0
    assert onnx.load(out).graph.output[0].name == "scores"


def test_the_scores_decide_the_label(quantstats: Command, model: Path, make_images: MakeImages, tmp_path: Path) -> None:
    images = make_images(24)
    labels = outputs(model, images)[1]
    assert len(set(labels.tolist())) > 1, "the model must not give one answer to everything"
    np.savez(tmp_path / "own.npz", image=images, label=labels)
    found = summary_of(
        quantstats(
            "quantize", model, "--data", tmp_path / "own.npz", "--labels", "label", "-o", tmp_path / "o.onnx",
            "--json", "-", *QUICK,
        )
    )  # fmt: skip
    assert found["top1_accuracy"]["fp32"] == 1.0


def test_bias_correction(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    """Each mode gives the model other biases and nothing else; fast is the default."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for mode in ("fast", "full", "off", None):
        out = tmp_path / f"{mode}.onnx"
        option = () if mode is None else ("--bias-correction", mode)
        result = quantstats("quantize", model, "--data", data, "-o", out, *option, *QUICK)
        assert result.exit_code == 0, result.output
        initializers = onnx.load(out).graph.initializer
        found[str(mode)] = {i.name.replace("_corrected", ""): onnx.numpy_helper.to_array(i) for i in initializers}
    for name, value in found["off"].items():
        assert np.array_equal(found["None"][name], found["fast"][name])
        if value.dtype != np.int32:
            assert np.array_equal(found["fast"][name], value), name
            assert np.array_equal(found["full"][name], value), name
    biases = [name for name, value in found["off"].items() if value.dtype == np.int32 and value.any()]
    assert any(not np.array_equal(found["fast"][name], found["off"][name]) for name in biases)
    assert any(not np.array_equal(found["full"][name], found["fast"][name]) for name in biases)


def test_full_bias_correction_needs_samples(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    statistics, out = tmp_path / "statistics.safetensors", tmp_path / "int8.onnx"
    assert quantstats("calibrate", model, "--data", data, "-o", statistics).exit_code == 0
    asked = ("quantize", model, "--statistics", statistics, "-o", out, "--bias-correction")
    result = quantstats(*asked, "full")
    assert result.exit_code == 1
    assert "give --data in their place, or take --bias-correction fast" in " ".join(result.stderr.split())
    assert quantstats(*asked, "fast", *QUICK).exit_code == 0
