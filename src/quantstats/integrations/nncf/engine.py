"""The sessions in which nncf runs ONNX models, without the work that nobody needs.

- Threads that wait sleep. Between two runs of the model the statistics want the CPU, and threads of onnxruntime that
  wait in a loop for the next run take it from them; they compute the same either way.
- Constants are handed out once. To take the statistics of weights nncf makes them outputs of the model, and onnxruntime
  copies every one of them in every run. Here the first run's copies stand for those of the following runs; they are
  read-only, so that nobody can change one for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def served() -> Iterator[tuple[Any, str, Any]]:
    """What of nncf is changed, the name of an attribute of it, and what takes its place."""
    try:
        from nncf.onnx import engine
    except ImportError:  # nncf without ONNX
        return
    yield engine, "rt", _Runtime(engine.rt)
    owner = engine.ONNXEngine
    yield owner, "__init__", _with_constants_once(owner.__dict__["__init__"])


class _Runtime:
    """onnxruntime, but for the options of a session."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def SessionOptions(self) -> Any:
        options = self._runtime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


def _with_constants_once(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def init(self: Any, model: Any, **options: Any) -> None:
        original(self, model, **options)
        # A constant that is an input too can be given another value in each run.
        constants = {tensor.name for tensor in model.graph.initializer}.difference(self.input_names)
        constants.difference_update(tensor.name for tensor in self.sess.get_overridable_initializers())
        if not constants.isdisjoint(output.name for output in self.sess.get_outputs()):
            self.sess = _Session(self.sess, constants)

    return init


class _Session:
    """A session of onnxruntime that computes all outputs but constants, which it has after the first run.

    :param session: The session.
    :param constants: Names of tensors that have the same value in every run.
    """

    def __init__(self, session: Any, constants: set[str]) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]
        self._computed = [name for name in self._outputs if name not in constants]
        self._constants: Mapping[str, Array] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
        """What the session's own `run` returns, in new arrays but for constants."""
        if output_names or not self._computed:
            return self._session.run(output_names, input_feed, run_options)
        constants = self._constants
        if constants is None:
            values = dict(zip(self._outputs, self._session.run([], input_feed, run_options), strict=True))
            constants = {name: values[name] for name in self._outputs if name not in self._computed}
            for array in constants.values():
                if isinstance(array, np.ndarray):
                    array.setflags(write=False)
            self._constants = constants
        else:
            values = dict(zip(self._computed, self._session.run(self._computed, input_feed, run_options), strict=True))
            values.update(constants)
        return [values[name] for name in self._outputs]
