"""Outputs appear complete or not at all."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import pytest

from quantstats.cli.output import check_output, staged_outputs
from quantstats.errors import ParameterError


def test_a_block_that_ends_well_leaves_the_files_and_nothing_else(tmp_path: Path) -> None:
    with staged_outputs(tmp_path / "m.onnx", overwrite=False) as (staged,):
        staged.write_bytes(b"model")
        (staged.parent / "m.onnx.data").write_bytes(b"weights")
        assert not (tmp_path / "m.onnx").exists()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "m.onnx": b"model",
        "m.onnx.data": b"weights",
    }


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with staged_outputs(tmp_path / "m.onnx", overwrite=False) as (staged,):
            staged.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_until_the_new_file_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_bytes(b"old")
    with staged_outputs(out, overwrite=True) as (staged,):
        staged.write_bytes(b"new")
        assert out.read_bytes() == b"old"
    assert out.read_bytes() == b"new"


def test_a_second_file_is_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.data").write_bytes(b"of another model")

    def write() -> None:
        with staged_outputs(tmp_path / "m.onnx", overwrite=False) as (staged,):
            staged.write_bytes(b"model")
            (staged.parent / "m.onnx.data").write_bytes(b"weights")

    with pytest.raises(ParameterError, match=r"m\.onnx\.data' exists"):
        write()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"m.onnx.data": b"of another model"}


def test_several_outputs_appear_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    paths = (tmp_path / "m.onnx", tmp_path / "deep" / "s.json")
    with staged_outputs(*paths, overwrite=False) as staged:
        for file in staged:
            file.write_text("content")
        assert not any(path.exists() for path in paths)
    assert [path.read_text() for path in paths] == ["content", "content"]

    def replace_both() -> None:
        with staged_outputs(tmp_path / "new.onnx", paths[1], overwrite=False) as staged:
            for file in staged:
                file.write_text("other")

    with pytest.raises(ParameterError, match=r"s\.json' exists"):
        replace_both()
    assert [path.read_text() for path in paths] == ["content", "content"]
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"s.json"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_moving_comes_too_late_and_the_next_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def note(number: int, frame: FrameType | None) -> None:
        raise InterruptedError(number)

    replace = Path.replace

    def interrupted_replace(file: Path, target: Path) -> Path:
        signal.raise_signal(number)
        return replace(file, target)

    before = signal.signal(number, note)
    try:
        with monkeypatch.context() as patch, staged_outputs(tmp_path / "a", tmp_path / "b", overwrite=False) as staged:
            for file in staged:
                file.write_text("content")
            patch.setattr(Path, "replace", interrupted_replace)
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
        with pytest.raises(InterruptedError):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


def test_check_names_the_path_and_the_remedy(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    check_output(out, overwrite=False)
    out.touch()
    check_output(out, overwrite=True)
    with pytest.raises(ParameterError, match=r"m\.onnx' exists; .*--overwrite"):
        check_output(out, overwrite=False)
    with pytest.raises(ParameterError, match="would replace a file that is read"):
        check_output(out, overwrite=True, sources=(tmp_path / "." / "m.onnx",))
    with pytest.raises(ParameterError, match="is a directory"):
        check_output(tmp_path, overwrite=True)
    with pytest.raises(ParameterError, match=r"directory .*nowhere' does not exist"):
        check_output(tmp_path / "nowhere" / "m.onnx", overwrite=False)
