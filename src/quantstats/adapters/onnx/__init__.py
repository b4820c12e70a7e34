"""ONNX models: read and cleaned with onnxruntime, seen through onnx-ir, emitted with QuantizeLinear pairs."""

from quantstats.adapters.onnx.adapter import OnnxAdapter
from quantstats.adapters.onnx.loading import OnnxModel
from quantstats.adapters.onnx.saving import save_model

__all__ = ["OnnxAdapter", "OnnxModel", "save_model"]
