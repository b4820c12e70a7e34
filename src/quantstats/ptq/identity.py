"""Telling models apart: statistics of one model are of no use for another."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from quantstats.adapters.protocol import ModelAdapter
from quantstats.ptq.graph import OperationKind, QuantizationGraph


def graph_hash(graph: QuantizationGraph) -> str:
    """SHA-256 of a model as the driver sees it, without the values of its constants: 64 hexadecimal digits."""
    return _of_graph(graph).hexdigest()


def model_hash(adapter: ModelAdapter[Any], graph: QuantizationGraph) -> str:
    """SHA-256 of a model as the driver sees it: operations, tensors, inputs, outputs and the values of all constants.

    Attributes of operations that a :class:`QuantizationGraph` does not show, such as strides, do not enter.

    :param adapter: The model, for its constants.
    :param graph: Its graph.
    :return: 64 hexadecimal digits.
    """
    digest = _of_graph(graph)
    for name in sorted(graph.tensors):
        if graph.tensors[name].constant:
            value = np.ascontiguousarray(adapter.constant(name))
            digest.update(f"\0{name}\0{value.dtype.name}{value.shape}\0".encode())
            digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _of_graph(graph: QuantizationGraph) -> hashlib._Hash:
    described = {
        "operations": [dataclasses.asdict(operation) for operation in graph.operations],
        "tensors": [dataclasses.asdict(graph.tensors[name]) for name in sorted(graph.tensors)],
        "inputs": graph.inputs,
        "outputs": graph.outputs,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=_plain).encode())


def _plain(value: object) -> str:
    assert isinstance(value, OperationKind), f"{value!r} has no place in a graph"
    return value.value
