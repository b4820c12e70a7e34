"""Calibration spread over an executor: each task runs the model on some samples and returns statistics of them."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from quantstats.adapters import adapter_for
from quantstats.adapters.protocol import ModelAdapter, Sample
from quantstats.errors import DataError, NonFiniteError, ParameterError, QuantizationError
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.identity import model_hash
from quantstats.ptq.non_finite import first_not_finite, refusal
from quantstats.statistics.calibration import CalibrationStatistics

Numbered = tuple[str, Sample]

# Samples in one task: merging what a task returns costs the same for one sample and for many, about half a run of a
# small network. Where the number of samples is known, each worker gets four tasks at least, so that all end together.
_MOST_SAMPLES = 32
_SAMPLES_OF_UNKNOWN = 8
_TASKS_OF_WORKER = 4
_MOST_BYTES = 32 << 20  # Of all samples of a task, unless it has a single one.


def take_sample(
    adapter: ModelAdapter[Any],
    graph: QuantizationGraph,
    statistics: CalibrationStatistics,
    sample_id: str,
    sample: Sample,
    *,
    guard: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Run the model on one sample and take its activations in.

    :param guard: Makes the context in which the statistics change.
    :raises NonFiniteError: an activation holds NaN or Inf and they are refused; the message names tensor, operation,
        counts, channels and sample.
    """
    values = adapter.run(sample, statistics.observed)
    try:
        with guard():
            statistics.update(sample_id, values)
    except NonFiniteError as error:
        tensor = first_not_finite(statistics, values) if statistics.non_finite == "raise" else None
        if tensor is None:
            raise
        raise NonFiniteError(refusal(graph, tensor, values[tensor], sample_id)) from error


def pack_model(model: Any, settings: Mapping[str, Any]) -> bytes:
    """What a task needs to make an adapter of its own.

    :raises ParameterError: the model cannot be sent to another process.
    """
    if isinstance(model, str | os.PathLike):
        model = str(Path(model).resolve())
    try:
        return pickle.dumps((model, dict(settings)), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise ParameterError(
            f"calibrate.model of type {type(model).__name__} cannot be sent to the executor ({error}); give the path "
            "of a file that every worker reads, or an onnx.ModelProto"
        ) from error


def collect_shard(packed: bytes, empty: CalibrationStatistics, samples: list[Numbered]) -> CalibrationStatistics:
    """The task: statistics of some samples. The worker keeps the model for its next task.

    :param packed: what `pack_model` made.
    :param empty: statistics without samples, of the same model.
    """
    adapter, graph, found = _model_of(packed)
    if found != empty.model_hash:
        raise DataError(
            f"a worker reads another model: hash {found}, and the caller has {empty.model_hash}; give every worker the "
            "same file, or send an onnx.ModelProto"
        )
    statistics = copy.deepcopy(empty)
    for sample_id, sample in samples:
        take_sample(adapter, graph, statistics, sample_id, sample)
    return statistics


_models = threading.local()  # A thread has a model of its own: adapters need not be safe to share.


def _model_of(packed: bytes) -> tuple[ModelAdapter[Any], QuantizationGraph, str]:
    key = sha256(packed).digest()
    if getattr(_models, "key", None) != key:
        adapter = adapter_for(*pickle.loads(packed))
        graph = adapter.graph()
        _models.model, _models.key = (adapter, graph, model_hash(adapter, graph)), key
    found: tuple[ModelAdapter[Any], QuantizationGraph, str] = _models.model
    return found


def collect_in_shards(
    executor: Executor,
    packed: bytes,
    empty: CalibrationStatistics,
    samples: Iterable[Numbered],
    *,
    total: int | None,
    taken: Callable[[CalibrationStatistics], None],
    remedy: str,
) -> None:
    """Have all samples taken in by tasks of an executor.

    Twice as many tasks as there are workers are under way at any moment, so that data that do not fit into memory are
    read as they are needed.

    :param executor: Any executor of :mod:`concurrent.futures` or with its interface.
    :param packed: What `pack_model` made.
    :param empty: Statistics without samples.
    :param samples: With their ids.
    :param total: How many samples there are, as far as it is known.
    :param taken: Called with the statistics of each task, in the order in which they end.
    :param remedy: How to go on after a worker died, for the message.
    :raises QuantizationError: a task failed; what other tasks had finished by then was handed to `taken`. An error of
        `samples` or `taken` is raised as it is.
    """
    workers = _num_workers(executor)
    size = _SAMPLES_OF_UNKNOWN
    if total is not None:
        size = min(_MOST_SAMPLES, max(1, -(-total // (_TASKS_OF_WORKER * workers))))
    pending: set[Future[CalibrationStatistics]] = set()
    shards = _split(samples, size)
    try:
        while True:
            for shard in islice(shards, 2 * workers - len(pending)):
                with _errors_of_tasks(remedy):
                    pending.add(executor.submit(collect_shard, packed, empty, shard))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            _hand_over(done, taken, remedy)
    finally:
        for future in pending:
            future.cancel()


def _hand_over(
    done: Iterable[Future[CalibrationStatistics]], taken: Callable[[CalibrationStatistics], None], remedy: str
) -> None:
    """Hand over what tasks returned; only then raise what one of them raised."""
    failure: BaseException | None = None
    for future in done:
        try:
            part = future.result()
        except BaseException as error:
            failure = failure or error
        else:
            taken(part)
    if failure is not None:
        with _errors_of_tasks(remedy):
            raise failure


@contextmanager
def _errors_of_tasks(remedy: str) -> Iterator[None]:
    try:
        yield
    except QuantizationError:
        raise
    except Exception as error:
        raise QuantizationError(
            f"a task of the executor did not end well ({type(error).__name__}: {error}); {remedy}"
        ) from error


def _split(samples: Iterable[Numbered], size: int) -> Iterator[list[Numbered]]:
    shard: list[Numbered] = []
    nbytes = 0
    for sample_id, sample in samples:
        more = sum(value.nbytes for value in sample.values())
        if shard and nbytes + more > _MOST_BYTES:
            yield shard
            shard, nbytes = [], 0
        shard.append((sample_id, sample))
        nbytes += more
        if len(shard) == size:
            yield shard
            shard, nbytes = [], 0
    if shard:
        yield shard


def _num_workers(executor: Executor) -> int:
    """How many tasks an executor runs at a time, as far as it tells: Dask's by its client, others by an attribute."""
    client = getattr(executor, "_client", None)
    if client is not None and hasattr(client, "ncores"):
        return max(1, sum(map(int, client.ncores().values())))
    for attribute in ("num_workers", "_max_workers"):
        found = getattr(executor, attribute, None)
        if isinstance(found, int) and found > 0:
            return found
    return os.cpu_count() or 1
