"""Train the digits transformer and export it as fp32 ONNX; the data are those of `train.py`.

    python examples/digits/train_transformer.py

A small vision transformer: patches of 2 x 2 pixels become 16 tokens, two encoder layers (pre-norm) follow, and the
mean token is classified. Attention is spelled out as matrix products, transpositions and a softmax, so that the
exported graph has the operations that a quantizer meets in larger transformers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from data import load_splits
from export import export_model
from training import accuracy, fit, make_deterministic, parameter_count

SEED = 7
EPOCHS = 200

PATCH = 2
TOKENS = (8 // PATCH) ** 2
WIDTH = 64
HEADS = 4
HIDDEN = 128
LAYERS = 2


class Attention(nn.Module):
    """Multi-head self-attention, tokens [batch, TOKENS, WIDTH] in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.softmax = nn.Softmax(dim=-1)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, TOKENS, WIDTH] in and out."""
        # Constant target shapes with -1 for the batch: reading x.shape would export a subgraph that computes them.
        per_head = (-1, TOKENS, HEADS, WIDTH // HEADS)
        query = self.query(x).reshape(per_head).permute(0, 2, 1, 3)
        key = self.key(x).reshape(per_head).permute(0, 2, 3, 1)
        value = self.value(x).reshape(per_head).permute(0, 2, 1, 3)
        weights = self.softmax(torch.matmul(query, key) * (WIDTH // HEADS) ** -0.5)
        merged = torch.matmul(weights, value).permute(0, 2, 1, 3).reshape(-1, TOKENS, WIDTH)
        result: torch.Tensor = self.output(merged)
        return result


class EncoderLayer(nn.Module):
    """Attention and a two-layer perceptron with GELU, each normalised first and added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.mlp_norm = nn.LayerNorm(WIDTH)
        self.expand = nn.Linear(WIDTH, HIDDEN)
        self.gelu = nn.GELU()
        self.contract = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, TOKENS, WIDTH] in and out."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.contract(self.gelu(self.expand(self.mlp_norm(x))))  # type: ignore[no-any-return]


class DigitsTransformer(nn.Module):
    """Images [batch, 1, 8, 8] to logits [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.position = nn.Parameter(0.02 * torch.randn(1, TOKENS, WIDTH))
        self.layers = nn.Sequential(*(EncoderLayer() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.classifier = nn.Linear(WIDTH, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[batch, 1, 8, 8] to [batch, 10]."""
        tokens = self.patches(image).reshape(-1, WIDTH, TOKENS).permute(0, 2, 1) + self.position
        logits: torch.Tensor = self.classifier(self.norm(self.layers(tokens)).mean(dim=1))
        return logits


def main() -> None:
    """Train, export, check, report."""
    parser = argparse.ArgumentParser(description="Train the digits transformer and export it to ONNX.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--output-dir", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()

    make_deterministic(SEED)
    train, test = load_splits()
    model = DigitsTransformer()
    fit(model, train, epochs=arguments.epochs, batch_size=60, peak_learning_rate=2e-3, weight_decay=5e-2)
    path = arguments.output_dir / "digits_transformer.onnx"
    export_model(model, path, test.images)
    print(
        f"{path}: {parameter_count(model):,} parameters, test accuracy {100 * accuracy(model, test):.2f} %, "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
