"""Export of a trained module to ONNX, checked against the module itself."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch import nn

from data import Images

# The first opset with LayerNormalization; Gelu is an operator only from 20 on, so it is exported as Erf arithmetic.
OPSET = 17

# Largest accepted difference between the logits of torch and of onnxruntime. Both compute in float32 and sum in
# another order; logits are of the order of ten.
TOLERANCE = 1e-4


def export_model(model: nn.Module, path: Path, images: Images) -> None:
    """Write `model`, in evaluation mode, to `path` as fp32 ONNX.

    The input is `image`, float32 [batch, 1, 8, 8]; the output is `logits`, float32 [batch, 10].

    Raises `RuntimeError` when onnxruntime gives other logits than torch for `images`, as one batch or as several.
    """
    proto = _to_onnx(model, torch.from_numpy(images[:2]))
    _fold_weight_transposes(proto)
    proto.metadata_props.add(key="torch_version", value=torch.__version__)
    onnx.checker.check_model(proto, full_check=True)
    serialized = proto.SerializeToString()
    _compare(model, serialized, images)
    path.write_bytes(serialized)


def _to_onnx(model: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        # The TorchScript exporter is deprecated in favour of torch.export, but it is the one that names nodes and
        # tensors after the modules they come from.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(directory) / "exported.onnx"
        torch.onnx.export(
            model.eval(),
            (example,),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            # PRESERVE keeps the module in evaluation mode, and yet leaves BatchNormalization unfolded, as EVAL would
            # not: a quantizer has to fold it, and the examples are there to show that it does.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
        return onnx.load(path)


def _fold_weight_transposes(proto: onnx.ModelProto) -> None:
    """Store transposed what the exporter transposes on every run: the [out, in] weights of `nn.Linear` before a MatMul.

    Each weight keeps the name of its parameter. Every parameter has one user in these models.
    """
    initializers = {initializer.name: initializer for initializer in proto.graph.initializer}
    folded: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        if node.op_type == "Transpose" and node.input[0] in initializers:
            weight = initializers[node.input[0]]
            permutation = next(attribute.ints for attribute in node.attribute if attribute.name == "perm")
            transposed = np.ascontiguousarray(numpy_helper.to_array(weight).transpose(permutation))
            weight.CopyFrom(numpy_helper.from_array(transposed, weight.name))
            folded[node.output[0]] = weight.name
        else:
            inputs = [folded.get(name, name) for name in node.input]
            del node.input[:]
            node.input.extend(inputs)
            kept.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(kept)


def _compare(model: nn.Module, serialized: bytes, images: Images) -> None:
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    session = ort.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    for batch in (1, 7, len(images)):
        actual = session.run(["logits"], {"image": images[:batch]})[0]
        difference = float(np.abs(actual - expected[:batch]).max())
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"the exported model differs from torch by {difference:g} (at most {TOLERANCE:g}) at batch {batch}"
            )
