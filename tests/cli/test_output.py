"""Outputs appear complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantstats.cli.output import check_output, staged_output
from quantstats.errors import ParameterError


def test_a_block_that_ends_well_leaves_the_files_and_nothing_else(tmp_path: Path) -> None:
    with staged_output(tmp_path / "m.onnx", overwrite=False) as staged:
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
        with staged_output(tmp_path / "m.onnx", overwrite=False) as staged:
            staged.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_until_the_new_file_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_bytes(b"old")
    with staged_output(out, overwrite=True) as staged:
        staged.write_bytes(b"new")
        assert out.read_bytes() == b"old"
    assert out.read_bytes() == b"new"


def test_a_second_file_is_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.data").write_bytes(b"of another model")

    def write() -> None:
        with staged_output(tmp_path / "m.onnx", overwrite=False) as staged:
            staged.write_bytes(b"model")
            (staged.parent / "m.onnx.data").write_bytes(b"weights")

    with pytest.raises(ParameterError, match=r"m\.onnx\.data' exists"):
        write()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"m.onnx.data": b"of another model"}


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
