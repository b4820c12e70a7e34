"""Networks of the usual shapes with seeded weights, and data to run them on: nothing to download, nothing to train.

What calibration and quantization see of a trained network is here: the operators and shapes of the original, weights
of the usual spread, and BatchNormalization nodes whose statistics are those of data, so that every activation is in the
range that a trained network keeps it in. What is not here is knowledge: the classes that they predict mean nothing.
Figures that depend on operators, shapes and value distributions carry over, accuracies do not.

The same arguments give the same network, apart from the last bits of the BatchNormalization statistics, which are those
of the convolutions that onnxruntime runs on this machine.
"""

from benchmarks.networks.bert import bert_like
from benchmarks.networks.inputs import images, tokens
from benchmarks.networks.mobilenet import mobilenet_v2
from benchmarks.networks.resnet import resnet18

__all__ = ["bert_like", "images", "mobilenet_v2", "resnet18", "tokens"]
