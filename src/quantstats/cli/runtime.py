"""Models in onnxruntime, as the user will run them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from quantstats.errors import ModelError

Array = NDArray[Any]

_FATAL = 4


class OnnxRunner:
    """A model on the CPU with onnxruntime's default settings.

    :param path: The ONNX file.
    :raises ModelError: onnxruntime cannot load it.
    """

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        # Errors come as exceptions; the log would print them a second time.
        options.log_severity_level = _FATAL
        # The threads of one session spin for a while after its run. Where two sessions take turns, they would steal
        # time from each other.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._path = path
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"onnxruntime cannot load the model {str(path)!r}: {_one_line(error)}") from error
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def __call__(self, sample: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model on one batch and return an array for each output.

        :raises ModelError: onnxruntime fails on it.
        """
        try:
            return dict(zip(self.outputs, self._session.run(None, dict(sample)), strict=True))
        except Exception as error:
            raise ModelError(f"onnxruntime cannot run the model {str(self._path)!r}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


__all__ = ["OnnxRunner"]
