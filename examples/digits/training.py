"""The training loop of both examples: AdamW, a one-cycle learning rate, shifted and noisy images."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from data import Split


def make_deterministic(seed: int) -> None:
    """Seed torch and keep it to one thread, since the order of a parallel sum depends on the number of threads."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


def fit(
    model: nn.Module, train: Split, *, epochs: int, batch_size: int, peak_learning_rate: float, weight_decay: float
) -> None:
    """Train `model` in place and leave it in evaluation mode."""
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    steps_per_epoch = len(labels) // batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak_learning_rate, total_steps=epochs * steps_per_epoch
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for step in range(steps_per_epoch):
            picked = order[step * batch_size : (step + 1) * batch_size]
            loss = loss_function(model(_augment(images[picked])), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def accuracy(model: nn.Module, split: Split) -> float:
    """Share of the samples of `split` whose largest logit is that of the label, in [0, 1]."""
    with torch.inference_mode():
        predictions = model(torch.from_numpy(split.images)).argmax(dim=1).numpy()
    return float(np.mean(predictions == split.labels))


def parameter_count(model: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in model.parameters())


def _augment(images: torch.Tensor) -> torch.Tensor:
    """Shift every image by at most one pixel each way, scale its contrast and add noise; shape and range stay."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2, count, 1, 1))
    rows = down + torch.arange(height).view(1, height, 1)
    columns = right + torch.arange(width).view(1, 1, width)
    shifted = padded[torch.arange(count).view(count, 1, 1), 0, rows, columns].unsqueeze(1)
    contrast = 0.8 + 0.4 * torch.rand(count, 1, 1, 1)
    return (contrast * shifted + 0.05 * torch.randn_like(shifted)).clamp(0.0, 1.0)
