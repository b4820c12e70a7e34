"""Observers against torch's own, against the range estimators they stand for, and in real quantization flows."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.ao.quantization as tq
from torch import nn

import quantstats as qs
from quantstats import kernels
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.integrations import torch as observers
from quantstats.integrations.torch.observation import as_array

AFFINE, SYMMETRIC = torch.per_tensor_affine, torch.per_tensor_symmetric
CHANNEL_AFFINE, CHANNEL_SYMMETRIC = torch.per_channel_affine, torch.per_channel_symmetric
NAMES = ["MinMax", "Quantile", "Percentile", "MSE", "Histogram", "Entropy", "Auto"]
OF_DISTRIBUTION = ["Percentile", "MSE", "Histogram", "Entropy", "Auto"]


def observer_class(name: str) -> Any:
    return getattr(observers, f"{name}Observer")


def batches(count: int = 4, shape: tuple[int, ...] = (4, 6, 10, 10), seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = torch.linspace(0.5, 3, shape[1]).reshape(1, -1, *(1,) * (len(shape) - 2))
    return [torch.randn(shape, generator=generator) * channels + 0.3 for _ in range(count)]


def observe(observer: Any, data: list[torch.Tensor]) -> Any:
    for batch in data:
        assert observer(batch) is batch
    return observer


@pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max")
@pytest.mark.parametrize(
    ("dtype", "qscheme", "reduce_range"),
    [
        (torch.quint8, AFFINE, False),
        (torch.quint8, AFFINE, True),
        (torch.quint8, SYMMETRIC, False),  # torch has no reduced range for it
        (torch.qint8, AFFINE, False),
        (torch.qint8, SYMMETRIC, True),
    ],
)
def test_min_max_equals_torchs(dtype: torch.dtype, qscheme: torch.qscheme, reduce_range: bool) -> None:
    options = {"dtype": dtype, "qscheme": qscheme, "reduce_range": reduce_range}
    ours = observe(observers.MinMaxObserver(**options), batches())
    theirs = observe(tq.MinMaxObserver(**options), batches())
    for found, expected in zip(ours.calculate_qparams(), theirs.calculate_qparams(), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found.reshape(-1), expected.reshape(-1))


@pytest.mark.parametrize("qscheme", [CHANNEL_AFFINE, CHANNEL_SYMMETRIC])
@pytest.mark.parametrize("ch_axis", [0, 1, -1])
def test_min_max_per_channel_equals_torchs(qscheme: torch.qscheme, ch_axis: int) -> None:
    options = {"dtype": torch.qint8, "qscheme": qscheme}
    ours = observe(observers.MinMaxObserver(**options, ch_axis=ch_axis), batches())
    theirs = observe(tq.PerChannelMinMaxObserver(**options, ch_axis=ch_axis % 4), batches())
    for found, expected in zip(ours.calculate_qparams(), theirs.calculate_qparams(), strict=True):
        assert torch.equal(found, expected)


def test_quantiles_are_the_means_of_each_calls() -> None:
    params = qs.RangeEstimatorParametersSet.MEAN_QUANTILE
    params.min.quantile_outlier_prob = params.max.quantile_outlier_prob = 0.05
    low, high = observe(observers.QuantileObserver(params), batches()).range()
    expected = np.mean([np.quantile(b.numpy().astype(np.float64), [0.05, 0.95]) for b in batches()], axis=0)
    np.testing.assert_allclose([low, high], expected, rtol=1e-6)
    per_channel = observers.QuantileObserver(params, qscheme=CHANNEL_AFFINE, dtype=torch.qint8, ch_axis=1)
    low, high = observe(per_channel, batches()).range()
    expected = np.mean(
        [np.quantile(b.numpy().astype(np.float64), [0.05, 0.95], axis=(0, 2, 3)) for b in batches()], axis=0
    )
    np.testing.assert_allclose(np.stack([low, high]), expected, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("qscheme", [AFFINE, SYMMETRIC])
def test_ranges_are_those_of_the_estimators(name: str, qscheme: torch.qscheme) -> None:
    observer = observe(observer_class(name)(qscheme=qscheme, dtype=torch.qint8), batches())
    symmetric = qscheme is SYMMETRIC
    estimator = qs.RangeEstimator(observer.params, symmetric=symmetric)
    for batch in batches():
        estimator.update(batch.numpy())
    config = qs.QuantizerConfig(
        mode=qs.QuantizationMode.SYMMETRIC if symmetric else qs.QuantizationMode.ASYMMETRIC,
        signedness_to_force=True if symmetric else None,
    )
    expected = [float(bound.item()) for bound in estimator.range(config=config)]
    assert [bound.item() for bound in observer.range()] == [float(np.float32(bound)) for bound in expected]


@pytest.mark.parametrize("name", OF_DISTRIBUTION)
def test_a_channel_has_the_range_that_it_has_alone(name: str) -> None:
    data = batches()
    together = observe(observer_class(name)(qscheme=CHANNEL_AFFINE, dtype=torch.qint8, ch_axis=1), data)
    low, high = together.range()
    assert low.shape == high.shape == (6,)
    for channel in range(6):
        alone = observe(observer_class(name)(dtype=torch.qint8), [batch[:, channel] for batch in data])
        assert (low[channel], high[channel]) == alone.range()
    scale, zero_point = together.calculate_qparams()
    assert scale.shape == zero_point.shape == (6,)


@pytest.mark.parametrize("name", ["MSE", "Auto", "Histogram"])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "relu"])
def test_the_error_is_at_most_that_of_torchs_histogram_observer(name: str, kind: str) -> None:
    generator = np.random.default_rng(3)
    data = {
        "normal": generator.standard_normal((4, 8, 40, 40)),
        "heavy tails": generator.standard_t(2.5, (4, 8, 40, 40)),
        "relu": np.maximum(generator.standard_normal((4, 8, 40, 40)), 0),
    }[kind]
    samples = [torch.from_numpy(batch.astype(np.float32)) for batch in data]

    def error(observer: Any) -> float:
        scale, zero = observe(observer, samples).calculate_qparams()
        every = torch.cat(samples)
        rounded = torch.fake_quantize_per_tensor_affine(every, scale.item(), int(zero.item()), 0, 255)
        return float(((every - rounded).double() ** 2).sum())

    # Either searches a histogram instead of the values: what it cannot see is worth 2 % of the error. AUTO besides
    # keeps the whole range for a loss of up to 0.2 dB.
    allowed = 10**0.02 if name == "Auto" else 1
    assert error(observer_class(name)()) <= 1.02 * allowed * error(tq.HistogramObserver())


def test_neither_order_nor_split_of_batches_changes_a_bit() -> None:
    data = batches(6)
    for name in OF_DISTRIBUTION:
        whole = observe(observer_class(name)(), [torch.cat(data)])
        split = observe(observer_class(name)(), data[::-1])
        assert whole.range() == split.range(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_are_read_where_they_are(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.randn(3, 5, 7).to(dtype).transpose(0, 2)
    array = as_array(tensor)
    assert array.ctypes.data == tensor.data_ptr()
    assert array.shape == tensor.shape
    assert array.strides == tuple(stride * tensor.element_size() for stride in tensor.stride())
    assert array.dtype == (ml_dtypes.bfloat16 if dtype is torch.bfloat16 else tensor.numpy().dtype)
    read: list[int] = []
    kernel = kernels.summarize
    monkeypatch.setattr(kernels, "summarize", lambda x, *a, **k: (read.append(x.ctypes.data), kernel(x, *a, **k))[1])
    observer = observe(observers.MSEObserver(), [tensor])
    assert read == [tensor.data_ptr()]
    assert observer.num_calls == 1
    exact = tensor.double()
    low, high = observe(observers.MinMaxObserver(), [tensor]).range()
    assert (low.item(), high.item()) == tuple(np.float32([exact.min().item(), exact.max().item()]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("qscheme", [AFFINE, CHANNEL_AFFINE])
def test_state_dict_goes_on_where_the_other_one_was(name: str, qscheme: torch.qscheme) -> None:
    options = {"qscheme": qscheme, "dtype": torch.qint8, "ch_axis": 1}
    data = batches(6)
    straight = observe(observer_class(name)(**options), data)
    first = observe(observer_class(name)(**options), data[:3])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = observer_class(name)(**options)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.num_calls == 3
    observe(second, data[3:])
    for found, expected in zip(second.calculate_qparams(), straight.calculate_qparams(), strict=True):
        assert torch.equal(found, expected)


def test_a_fresh_observer_has_a_state_too() -> None:
    fresh = observers.MSEObserver()
    other = observe(observers.MSEObserver(), batches(1))
    other.load_state_dict(fresh.state_dict())
    assert other.num_calls == 0


def loose_quantiles() -> Any:
    params = qs.RangeEstimatorParametersSet.MEAN_QUANTILE
    params.max.quantile_outlier_prob = 0.01
    return observers.QuantileObserver(params)


@pytest.mark.parametrize(
    ("one", "other", "setting"),
    [
        (lambda: observers.MinMaxObserver(qscheme=CHANNEL_AFFINE), observers.MinMaxObserver, "per_channel"),
        (observers.MinMaxObserver, lambda: observers.MinMaxObserver(qscheme=CHANNEL_AFFINE), "per_channel"),
        (lambda: observers.MSEObserver(qscheme=CHANNEL_AFFINE), observers.MSEObserver, "per_channel"),
        (
            lambda: observers.MinMaxObserver(qscheme=CHANNEL_AFFINE),
            lambda: observers.MinMaxObserver(qscheme=CHANNEL_AFFINE, ch_axis=1),
            "ch_axis",
        ),
        (lambda: observers.MinMaxObserver(qscheme=SYMMETRIC), observers.MinMaxObserver, "symmetric"),
        (observers.QuantileObserver, observers.MSEObserver, "min.statistics_type"),
        (
            lambda: observers.RangeObserver(qs.RangeEstimatorParametersSet.MEAN_MINMAX),
            observers.MinMaxObserver,
            "min.aggregator_type",
        ),
        (observers.MSEObserver, observers.PercentileObserver, "min.aggregator_type"),
        (observers.QuantileObserver, loose_quantiles, "max.quantile_outlier_prob"),
    ],
)
def test_state_of_an_observer_with_other_settings_is_refused(one: Any, other: Any, setting: str) -> None:
    state = observe(one(), [torch.randn(1, 20)]).state_dict()
    loading = observe(other(), batches(1, (3, 4)))
    before = loading.range()
    with pytest.raises(DataError, match=rf"has {setting}=\S+ and the state is of an observer with {setting}=\S+; load"):
        loading.load_state_dict(state)
    assert all(map(torch.equal, loading.range(), before))


@pytest.mark.parametrize("state", [None, 5, {}, {"version": 2}])
def test_state_of_no_known_version_is_refused(state: Any) -> None:
    with pytest.raises(DataError, match="not one of version 1"):
        observers.MSEObserver().set_extra_state(state)


@pytest.mark.parametrize(
    ("name", "qscheme", "part", "value"),
    [
        ("MSE", AFFINE, "num_samples", torch.zeros(2)),
        ("MSE", AFFINE, "counts", torch.zeros(2)),
        ("MSE", AFFINE, "counts", None),
        ("MSE", AFFINE, "extrema", torch.zeros(3)),
        ("MSE", AFFINE, "extrema", torch.zeros(2)),
        ("MSE", CHANNEL_AFFINE, "num_samples", torch.tensor(7)),
        ("MinMax", AFFINE, "rows", torch.zeros(1, 2, 4, *(1,) * 7)),
        ("MinMax", CHANNEL_AFFINE, "rows", torch.zeros(1, 2, 4, 3, *(1,) * 6)),
    ],
)
def test_damaged_state_is_refused(name: str, qscheme: torch.qscheme, part: str, value: torch.Tensor | None) -> None:
    state = observe(observer_class(name)(qscheme=qscheme), batches(1)).state_dict()
    arrays = state["_extra_state"]["estimators"][0]
    arrays[part] = value
    with pytest.raises(DataError, match=r"the state is damaged|it is damaged"):
        observer_class(name)(qscheme=qscheme).load_state_dict(state)


@pytest.mark.parametrize("estimators", [None, 5, [], [5], [{}]])
def test_state_without_estimators_is_refused(estimators: Any) -> None:
    observer = observers.MSEObserver()
    state = {**observer.get_extra_state(), "estimators": estimators}
    with pytest.raises(DataError, match=r"it is damaged|has no 'num_samples'"):
        observer.set_extra_state(state)
    with pytest.raises(DataError, match="it is damaged"):
        observer.set_extra_state({"version": 1})


def test_copies_are_independent() -> None:
    one = observe(observers.AutoObserver(), batches(1))
    other = observe(copy.deepcopy(one), batches(2, seed=1))
    assert (one.num_calls, other.num_calls) == (1, 3)


def test_reset_forgets() -> None:
    observer = observe(observers.MinMaxObserver(), batches(1))
    observer.reset()
    assert observer.num_calls == 0
    assert repr(observer) == "MinMaxObserver(nothing observed)"


def test_bad_input_is_named() -> None:
    observer = observers.MSEObserver()
    with pytest.raises(DataError, match="MSEObserver has observed no tensor; run the prepared model"):
        observer.calculate_qparams()
    with pytest.raises(NonFiniteError, match=r"1 NaN and 0 infinite values of 2 in a tensor of shape \(2,\)"):
        observer(torch.tensor([1.0, float("nan")]))
    with pytest.raises(DataError, match=r"dtype torch\.int32 cannot be observed"):
        observer(torch.ones(3, dtype=torch.int32))
    with pytest.raises(DataError, match="make it dense"):
        observer(torch.ones(3, 3).to_sparse())
    with pytest.raises(DataError, match="the values of a Tensor on meta cannot be observed"):
        observer(torch.ones(3, device="meta"))
    with pytest.raises(ParameterError, match="is_dynamic=True"):
        observers.MSEObserver(is_dynamic=True)
    with pytest.raises(ParameterError, match="MSEObserver: ch_axis='a' is not an integer"):
        observers.MSEObserver(qscheme=CHANNEL_AFFINE, ch_axis="a")
    channels = observers.MSEObserver(qscheme=CHANNEL_AFFINE, ch_axis=4)
    with pytest.raises(ParameterError, match="ch_axis=4 is no axis of a tensor of shape"):
        channels(batches(1)[0])
    assert observer.num_calls == 0
    observe(observer, [torch.empty(0, 3)])
    assert observer.num_calls == 0


@pytest.mark.parametrize("name", ["MinMax", "MSE"])
def test_nothing_changes_where_channels_do_not_fit(name: str) -> None:
    channels = observe(observer_class(name)(qscheme=CHANNEL_AFFINE), [torch.randn(3, 4)])
    loaded = observer_class(name)(qscheme=CHANNEL_AFFINE)
    loaded.load_state_dict(channels.state_dict())
    bad = torch.ones(3, 4)
    bad[2, 1] = torch.inf
    for observer in (channels, loaded):
        before = observer.get_extra_state()["estimators"]
        with pytest.raises(DataError, match="a tensor of 5 channels follows one of 3"):
            observer(torch.randn(5, 4))
        with pytest.raises(NonFiniteError, match=r"1 infinite values of 12 in a tensor of shape \(3, 4\)"):
            observer(bad)
        after = observer.get_extra_state()["estimators"]
        assert all(torch.equal(one[key], other[key]) for one, other in zip(before, after, strict=True) for key in one)


def test_negated_views_are_read_as_they_are() -> None:
    low, high = observe(observers.MinMaxObserver(), [torch._neg_view(torch.tensor([1.0, 3.0]))]).range()
    assert (low, high) == (-3, -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_export_with_an_observer_says_what_to_do(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Identity(), observers.MinMaxObserver())
    with pytest.raises(DataError, match="export it without observers, and prepare what was exported"):
        torch.export.export(model, (torch.ones(2, 3, dtype=dtype),))


class SmallNet(nn.Module):
    """Two convolutions and a classifier between a stub at either end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(8 * 8 * 8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dequant(self.head(self.body(self.quant(x))))


def sqnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    return float(10 * torch.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


@pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max", "ignore:torch.ao.quantization is deprecated")
@pytest.mark.parametrize("name", NAMES)
def test_prepare_calibrate_convert(name: str) -> None:
    images = [torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    model = SmallNet().eval()
    weight = observers.MinMaxObserver.with_args(dtype=torch.qint8, qscheme=CHANNEL_SYMMETRIC)
    activation = observer_class(name).with_args(dtype=torch.quint8, reduce_range=True)
    model.qconfig = tq.QConfig(activation=activation, weight=weight)
    with torch.no_grad():
        expected = model(images[0])
        prepared = tq.prepare(model)
        for batch in images:
            prepared(batch)
        observed = [m for m in prepared.modules() if isinstance(m, observer_class(name)) and m.num_calls == 6]
        assert len(observed) >= 4
        scale, zero_point = prepared.body[0].activation_post_process.calculate_qparams()
        int8 = tq.convert(prepared)
        assert (int8.body[0].scale, int8.body[0].zero_point) == (scale.item(), zero_point.item())
        assert sqnr(expected, int8(images[0])) > 25


def test_pt2e_prepare_calibrate_convert() -> None:
    # In a process of its own: torchao registers its operators in torch when it is imported.
    script = """
import warnings; warnings.filterwarnings("ignore")
import torch
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
from quantstats.integrations.torch import pt2e

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
images = [torch.randn(2, 3, 12, 12) for _ in range(4)]
activation = QuantizationSpec(dtype=torch.int8, quant_min=-128, quant_max=127, qscheme=torch.per_tensor_affine,
                              observer_or_fake_quant_ctr=pt2e.MSEObserver)
weight = QuantizationSpec(dtype=torch.int8, quant_min=-127, quant_max=127, qscheme=torch.per_channel_symmetric,
                          ch_axis=0, observer_or_fake_quant_ctr=pt2e.MinMaxObserver)

class Convolutions(Quantizer):
    def annotate(self, model):
        for node in model.graph.nodes:
            if node.target is torch.ops.aten.conv2d.default:
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={node.args[0]: activation, node.args[1]: weight}, output_qspec=activation,
                    _annotated=True)
        return model

    def validate(self, model):
        pass

with torch.no_grad():
    exported = torch.export.export(net, (images[0],)).module()
    prepared = prepare_pt2e(exported, Convolutions())
    for image in images:
        prepared(image)
    seen = [m for m in prepared.modules() if isinstance(m, (pt2e.MSEObserver, pt2e.MinMaxObserver))]
    assert sorted(m.num_calls for m in seen) [-4:] == [4] * 4, [m.num_calls for m in seen]
    expected = net(images[0])
    converted = convert_pt2e(prepared)
    targets = [str(node.target) for node in converted.graph.nodes]
    assert any("quantize_per_tensor" in t for t in targets) and any("dequantize_per_channel" in t for t in targets)
    error = expected - converted(images[0])
    print(float(10 * torch.log10((expected**2).sum() / (error**2).sum())))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.splitlines()[-1]) > 25


@pytest.mark.parametrize(("module", "missing"), [("torch", "torch"), ("torch.pt2e", "torchao")])
def test_what_is_missing_is_named(module: str, missing: str) -> None:
    script = (
        "import sys; sys.modules[sys.argv[2]] = None\n"
        "try:\n    __import__('quantstats.integrations.' + sys.argv[1])\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, module, missing], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(
        f"{missing} is not installed; install it with: pip install 'quantstats-native[torch]'"
    )
