"""Train the digits CNN, export it as fp32 ONNX and write the calibration and test archives beside it.

    python examples/digits/train.py

The network has what a mobile vision model is made of: convolutions with BatchNorm and ReLU, depthwise convolutions, a
residual addition, max pooling, global average pooling and two fully connected layers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from data import load_splits, write_archives
from export import export_model
from training import accuracy, fit, make_deterministic, parameter_count

SEED = 7
EPOCHS = 60


class ConvBatchNorm(nn.Sequential):
    """Convolution without a bias (BatchNorm has one), BatchNorm and, if wanted, ReLU; height and width stay."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, groups: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        if relu:
            self.relu = nn.ReLU()


class DepthwiseSeparable(nn.Sequential):
    """A depthwise 3 x 3 convolution, then a pointwise one, each with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = ConvBatchNorm(inputs, inputs, 3, groups=inputs)
        self.pointwise = ConvBatchNorm(inputs, outputs, 1)


class Residual(nn.Module):
    """Two 3 x 3 convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBatchNorm(channels, channels, 3)
        self.second = ConvBatchNorm(channels, channels, 3, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width] in and out."""
        result: torch.Tensor = self.relu(x + self.second(self.first(x)))
        return result


class DigitsCNN(nn.Sequential):
    """Images [batch, 1, 8, 8] to logits [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBatchNorm(1, 32, 3)
        self.separable1 = DepthwiseSeparable(32, 64)
        self.pool = nn.MaxPool2d(2)
        self.residual = Residual(64)
        self.separable2 = DepthwiseSeparable(64, 128)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(128, 64)
        self.hidden_relu = nn.ReLU()
        self.classifier = nn.Linear(64, 10)


def main() -> None:
    """Train, export, check, report."""
    parser = argparse.ArgumentParser(description="Train the digits CNN and export it to ONNX.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--output-dir", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()

    make_deterministic(SEED)
    train, test = load_splits()
    model = DigitsCNN()
    fit(model, train, epochs=arguments.epochs, batch_size=60, peak_learning_rate=4e-3, weight_decay=1e-2)
    path = arguments.output_dir / "digits_cnn.onnx"
    export_model(model, path, test.images)
    write_archives(arguments.output_dir, train, test)
    print(
        f"{path}: {parameter_count(model):,} parameters, test accuracy {100 * accuracy(model, test):.2f} %, "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
