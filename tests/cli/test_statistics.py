"""``quantstats calibrate`` and ``merge``: what they write, and what they refuse."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import quantstats as qs

Command = Callable[..., Result]


def error_of(result: Result) -> str:
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    return line


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_statistics_are_those_of_the_library(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.safetensors"
    result = quantstats("calibrate", model, "--data", data, "-o", out, "--subset-size", 12, "--per-channel")
    assert result.exit_code == 0, result.output
    found = qs.CalibrationStatistics.load(out)
    with np.load(data) as archive:
        expected = qs.calibrate(model, archive["image"][:12], per_channel=True, progress=False)
    assert found == expected
    assert result.stdout == f"{out}: {len(expected.taps)} tensors, 12 runs of the model\n"
    assert names_in(tmp_path) == {"model.onnx", "data.npz", "s.safetensors"}


def test_parts_merge_to_the_file_of_one_run(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"part{first}" for first in (0, 15, 30)]
    for first, part in zip((0, 15, 30), parts, strict=True):
        result = quantstats("calibrate", model, "--data", data, "-o", part, "--first", first, "--subset-size", 15)
        assert result.exit_code == 0, result.output
    assert qs.CalibrationStatistics.load(parts[2]).num_samples == 10
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    assert quantstats("calibrate", model, "--data", data, "-o", whole).exit_code == 0
    result = quantstats("merge", parts[2], parts[0], parts[1], "-o", merged)
    assert result.exit_code == 0, result.output
    assert "40 runs of the model" in result.stdout
    assert merged.read_bytes() == whole.read_bytes()


def test_batches_hold_the_statistics_of_single_samples(
    quantstats: Command, model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    options = ("--first", 3, "--subset-size", 10, "--batch-size", 4, "--id-prefix", "a:", "-q")
    result = quantstats("calibrate", model, "--data", data, "-o", out, *options)
    assert (result.exit_code, result.output) == (0, "")
    found = qs.CalibrationStatistics.load(out)
    assert found.sample_ids == ("a:11", "a:3", "a:7")
    with np.load(data) as archive:
        single = qs.calibrate(model, archive["image"][3:13], progress=False)
    assert found["image"].table.items.tolist() == [2, 4, 4]
    for mine, its in zip(found.range("image"), single.range("image"), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_a_checkpoint_is_gone_on_from(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    whole, out, checkpoint = tmp_path / "whole", tmp_path / "s", tmp_path / "c"
    assert quantstats("calibrate", model, "--data", data, "-o", whole).exit_code == 0
    options = ("--checkpoint", checkpoint, "--every", 7)
    assert quantstats("calibrate", model, "--data", data, "-o", out, "--subset-size", 9, *options).exit_code == 0
    assert qs.CalibrationStatistics.load(checkpoint) == qs.CalibrationStatistics.load(out)
    result = quantstats("calibrate", model, "--data", data, "-o", out, "--overwrite", *options)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == whole.read_bytes()
    assert qs.CalibrationStatistics.load(checkpoint) == qs.CalibrationStatistics.load(whole)
    line = error_of(quantstats("calibrate", model, "--data", data, "-o", tmp_path / "t", "--per-channel", *options))
    assert f"the checkpoint {checkpoint} is of another calibration, it differs in tensor 'image': channel axis" in line
    for name, message in ((data, "would replace a file that is read"), (tmp_path / "t", "is the output too")):
        line = error_of(quantstats("calibrate", model, "--data", data, "-o", tmp_path / "t", "--checkpoint", name))
        assert message in line
    assert names_in(tmp_path) == {"model.onnx", "data.npz", "whole", "s", "c"}


def test_a_policy_for_values_that_are_not_finite(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    with np.load(data) as archive:
        image = archive["image"]
    image[3, 0, 0, 0] = np.nan
    bad, out = tmp_path / "bad.npz", tmp_path / "s"
    np.savez(bad, image=image)
    line = error_of(quantstats("calibrate", model, "--data", bad, "-o", out))
    assert "tensor 'image' has 1 NaN, 0 +Inf and 0 -Inf among 64 values, in channel 0 of axis 1, in sample '3'" in line
    assert not out.exists()
    result = quantstats("calibrate", model, "--data", bad, "-o", out, "--non-finite", "clamp")
    assert result.exit_code == 0, result.output
    assert "note: values that are not finite were clamped in the statistics of tensors: 'image' (1 NaN" in result.stderr
    assert qs.CalibrationStatistics.load(out)["image"].counts.nan == 1


def test_a_model_that_fixes_its_batch(
    quantstats: Command, make_classifier: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    model, out = make_classifier(tmp_path / "fixed.onnx", batch=4), tmp_path / "s"
    options = ("--first", 33, "--subset-size", 100)
    assert quantstats("calibrate", model, "--data", data, "-o", out, *options).exit_code == 0
    assert qs.CalibrationStatistics.load(out).sample_ids == ("33",)
    line = error_of(quantstats("calibrate", model, "--data", data, "-o", tmp_path / "t", "--first", 37))
    assert "hold 40 samples, so there is nothing to read from sample 37 on; give a smaller --first" in line


def test_merging_what_does_not_go_together(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "merged"
    for path, count in ((a, 3), (b, 5)):
        assert quantstats("calibrate", model, "--data", data, "-o", path, "--subset-size", count).exit_code == 0
    line = error_of(quantstats("merge", a, b, "-o", out))
    assert line.startswith(f"error: {b}: sample '0' and 2 more are on both sides")
    assert "--skip-duplicates" in line
    assert quantstats("merge", a, b, "-o", out, "--skip-duplicates").exit_code == 0
    assert out.read_bytes() == b.read_bytes()
    assert "exists; give another name, or --overwrite" in error_of(quantstats("merge", a, "-o", out))
    assert quantstats("merge", a, "-o", out, "--overwrite").exit_code == 0
    assert out.read_bytes() == a.read_bytes()
    assert "would replace a file that is read" in error_of(quantstats("merge", a, b, "-o", a, "--overwrite"))
    a.write_bytes(a.read_bytes()[:-1])
    assert f"{a} is truncated or no statistics file" in error_of(quantstats("merge", b, a, "-o", tmp_path / "c"))
    assert names_in(tmp_path) == {"model.onnx", "data.npz", "a", "b", "merged"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--first", "40"), "nothing to read from sample 40 on"),
        (("--data", "nothing.npz"), "nothing.npz"),
    ],
)
def test_bad_data(
    quantstats: Command, model: Path, data: Path, tmp_path: Path, change: tuple[str, ...], message: str
) -> None:
    line = error_of(quantstats("calibrate", model, "--data", data, "-o", tmp_path / "s", *change))
    assert message in line
    assert names_in(tmp_path) == {"model.onnx", "data.npz"}


def test_without_safetensors_nothing_is_run(
    quantstats: Command, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setattr("quantstats.cli.statistics.calibrate", lambda *_, **__: pytest.fail("the model is run"))
    line = error_of(quantstats("calibrate", model, "--data", data, "-o", tmp_path / "s"))
    assert "pip install 'quantstats-native[stats]'" in line
