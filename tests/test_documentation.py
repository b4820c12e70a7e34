"""The Python of the documentation runs as it is written, on the digits example."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits"


DOCUMENTS = [
    "README.md",
    "docs/getting-started.md",
    "docs/integrations.md",
    "docs/overflow.md",
    "docs/statistics.md",
]


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:.*reduce_range")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_python_in_a_document_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGITS / "digits_cnn.onnx", "model.onnx")
    shutil.copy(DIGITS / "calibration.npz", "samples.npz")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)
    assert len(blocks) > 1
    # A reader goes from top to bottom in one session; "images" stands for data of the reader's own.
    session: dict[str, object] = {"images": np.load("samples.npz")["image"]}
    for block in blocks:
        exec(compile(block, document, "exec"), session)
    written = onnx.load("model_int8.onnx")
    assert "DequantizeLinear" in {node.op_type for node in written.graph.node}
