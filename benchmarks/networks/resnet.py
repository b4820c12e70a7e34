"""ResNet-18 (He et al., 2016): convolutions of 3 x 3 in blocks with a residual."""

from __future__ import annotations

import onnx

from benchmarks.networks.builder import GAIN_OF_BRANCH, OFFSET_BEFORE_RECTIFIER, NetworkBuilder
from benchmarks.networks.inputs import images
from benchmarks.networks.statistics_size import images_for_statistics

STEM_CHANNELS = 64
# channels and stride of each block
BLOCKS = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))


def resnet18(*, image_size: int = 224, seed: int = 0, num_classes: int = 1000) -> onnx.ModelProto:
    """Build ResNet-18: "input" float32 [batch, 3, image_size, image_size], "output" float32 [batch, num_classes]."""
    data = images(images_for_statistics(image_size), image_size, seed=seed)
    builder = NetworkBuilder(data, seed=seed)
    x = _activated(builder, "input", STEM_CHANNELS, 7, name="stem", stride=2)
    x = builder.op("MaxPool", x, name="stem_pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = STEM_CHANNELS
    for index, (outputs, stride) in enumerate(BLOCKS):
        x = _block(builder, x, outputs, stride, name=f"block{index}", project=outputs != channels or stride != 1)
        channels = outputs
    x = builder.op("GlobalAveragePool", x, name="average")
    x = builder.op("Flatten", x, name="flatten")
    return builder.model(builder.linear(x, num_classes, name="classifier"), "resnet18")


def _activated(builder: NetworkBuilder, x: str, outputs: int, kernel: int, *, name: str, stride: int) -> str:
    x = builder.conv(x, outputs, kernel, name=name, stride=stride)
    x = builder.batch_norm(x, name=f"{name}_norm", offset=OFFSET_BEFORE_RECTIFIER)
    return builder.op("Relu", x, name=f"{name}_relu")


def _block(builder: NetworkBuilder, x: str, outputs: int, stride: int, *, name: str, project: bool) -> str:
    """Add two convolutions beside the identity, which is projected where the shape changes."""
    branch = _activated(builder, x, outputs, 3, name=f"{name}_conv1", stride=stride)
    branch = builder.conv(branch, outputs, 3, name=f"{name}_conv2")
    branch = builder.batch_norm(branch, name=f"{name}_conv2_norm", gain=GAIN_OF_BRANCH)
    identity = x
    if project:
        identity = builder.conv(x, outputs, 1, name=f"{name}_projection", stride=stride)
        identity = builder.batch_norm(identity, name=f"{name}_projection_norm", offset=OFFSET_BEFORE_RECTIFIER)
    total = builder.op("Add", branch, identity, name=f"{name}_add")
    return builder.op("Relu", total, name=f"{name}_relu")
