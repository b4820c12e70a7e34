"""MobileNetV2 (Sandler et al., 2018): depthwise convolutions between narrow layers, activations clipped at 6."""

from __future__ import annotations

import numpy as np
import onnx

from benchmarks.networks.builder import GAIN_OF_BRANCH, OFFSET_BEFORE_RECTIFIER, NetworkBuilder
from benchmarks.networks.inputs import images
from benchmarks.networks.statistics_size import images_for_statistics

STEM_CHANNELS, LAST_CHANNELS = 32, 1280
# expansion, channels, blocks and stride of the first block of each stage
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(*, image_size: int = 224, seed: int = 0, num_classes: int = 1000) -> onnx.ModelProto:
    """Build MobileNetV2: "input" float32 [batch, 3, image_size, image_size], "output" float32 [batch, num_classes]."""
    data = images(images_for_statistics(image_size), image_size, seed=seed)
    builder = NetworkBuilder(data, seed=seed)
    for name, bound in (("zero", 0.0), ("six", 6.0)):
        builder.weight(name, np.asarray(bound, np.float32))
    x = _activated(builder, "input", STEM_CHANNELS, 3, name="stem", stride=2)
    channels = STEM_CHANNELS
    for stage, (expansion, outputs, blocks, stride) in enumerate(STAGES):
        for block in range(blocks):
            name = f"stage{stage}_block{block}"
            x = _block(builder, x, channels, expansion, outputs, stride if block == 0 else 1, name=name)
            channels = outputs
    x = _activated(builder, x, LAST_CHANNELS, 1, name="last")
    x = builder.op("GlobalAveragePool", x, name="average")
    x = builder.op("Flatten", x, name="flatten")
    return builder.model(builder.linear(x, num_classes, name="classifier"), "mobilenet_v2")


def _activated(
    builder: NetworkBuilder, x: str, outputs: int, kernel: int, *, name: str, stride: int = 1, groups: int = 1
) -> str:
    x = builder.conv(x, outputs, kernel, name=name, stride=stride, groups=groups)
    x = builder.batch_norm(x, name=f"{name}_norm", offset=OFFSET_BEFORE_RECTIFIER)
    return builder.op("Clip", x, "zero", "six", name=f"{name}_relu6")


def _block(
    builder: NetworkBuilder, x: str, channels: int, expansion: int, outputs: int, stride: int, *, name: str
) -> str:
    """Widen, convolve each channel by itself, narrow; with a residual where the shape stays."""
    wide, branch = channels * expansion, x
    if expansion != 1:
        branch = _activated(builder, branch, wide, 1, name=f"{name}_expand")
    branch = _activated(builder, branch, wide, 3, name=f"{name}_depthwise", stride=stride, groups=wide)
    branch = builder.conv(branch, outputs, 1, name=f"{name}_project")
    residual = stride == 1 and channels == outputs
    branch = builder.batch_norm(branch, name=f"{name}_project_norm", gain=GAIN_OF_BRANCH if residual else 1.0)
    return builder.op("Add", x, branch, name=f"{name}_add") if residual else branch
