"""Print the accuracy of a digits model on the test split, as onnxruntime runs it on the CPU.

The model may be fp32 or int8:

    python examples/digits/evaluate.py examples/digits/digits_cnn.onnx
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime as ort


def accuracy(model: Path, data: Path) -> float:
    """Share of right answers, in [0, 1]; `data` holds `image` float32 [count, 1, 8, 8] and `label` int64 [count]."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(data) as archive:
        images, labels = archive["image"], archive["label"]
    logits = session.run(["logits"], {"image": images})[0]
    return float(np.mean(logits.argmax(axis=1) == labels))


def main() -> None:
    """Evaluate the model that the command line names."""
    parser = argparse.ArgumentParser(description="Print the test accuracy of a digits model.")
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parent / "test.npz")
    arguments = parser.parse_args()
    print(f"{arguments.model}: accuracy {100 * accuracy(arguments.model, arguments.data):.2f} %")


if __name__ == "__main__":
    main()
