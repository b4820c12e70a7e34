from __future__ import annotations

import math

import numpy as np
import pytest

import quantstats as qs
from quantstats import kernels
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig, quantizer_from_range
from quantstats.statistics import CalibrationStatistics, predicted_sqnr
from quantstats.statistics.what_if import what_if

Presets = qs.RangeEstimatorParametersSet
ESTIMATORS = {name: getattr(Presets, name) for name in ("MINMAX", "MEAN_MINMAX", "MEAN_QUANTILE", "MSE")}


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    signed = rng.standard_t(4, size=(6, 20_000)).astype(np.float32)
    return {"signed": signed, "rectified": np.maximum(rng.normal(size=(6, 20_000)), 0).astype(np.float32)}


@pytest.fixture(scope="module")
def statistics(samples: dict[str, np.ndarray]) -> CalibrationStatistics:
    collected = CalibrationStatistics(dict.fromkeys(samples))
    for index in range(6):
        collected.update(str(index), {name: values[index] for name, values in samples.items()})
    return collected


@pytest.mark.parametrize("mode", QuantizationMode)
def test_predictions_are_what_quantizing_gives(
    mode: QuantizationMode, statistics: CalibrationStatistics, samples: dict[str, np.ndarray]
) -> None:
    found = what_if(statistics, ESTIMATORS, num_bits=(8, 4), mode=mode)
    assert found.tensors == ("rectified", "signed")
    assert set(found.predictions) == {(t, e, b) for t in samples for e in ESTIMATORS for b in (8, 4)}
    for (tensor, name, bits), prediction in found.predictions.items():
        symmetric = mode is QuantizationMode.SYMMETRIC
        low, high = statistics.range(tensor, ESTIMATORS[name], symmetric=symmetric, num_bits=bits)
        quantizer = quantizer_from_range(low, high, QuantizerConfig(num_bits=bits, mode=mode))
        x = samples[tensor]
        quantized = kernels.fake_quantize(
            x, quantizer.scale, quantizer.zero_point, qmin=quantizer.level_low, qmax=quantizer.level_high
        )
        noise = np.square(x - quantized, dtype=np.float64).sum()
        sqnr = 10 * math.log10(np.square(x, dtype=np.float64).sum() / noise)
        assert prediction.sqnr_db == pytest.approx(sqnr, abs=0.2)
        assert prediction.sqnr_db == predicted_sqnr(statistics[tensor].histogram, quantizer)
        levels = np.rint(x / quantizer.scale) + quantizer.zero_point
        clipped = np.mean((levels < quantizer.level_low) | (levels > quantizer.level_high))
        assert prediction.clipped == pytest.approx(clipped, rel=0.05, abs=1e-5)
        assert (prediction.low, prediction.high) == (low.item(), high.item())


def test_the_summary_is_of_all_tensors(statistics: CalibrationStatistics) -> None:
    found = what_if(statistics, ESTIMATORS, num_bits=(8, 4))
    lines = {(line.estimator, line.num_bits): line for line in found.summary()}
    assert list(lines) == [(name, bits) for name in ESTIMATORS for bits in (8, 4)]
    for (name, bits), line in lines.items():
        row = [found.predictions[tensor, name, bits] for tensor in found.tensors]
        worst = min(row, key=lambda p: p.sqnr_db)
        assert (line.worst_sqnr_db, line.worst_tensor) == (worst.sqnr_db, worst.tensor)
        assert line.median_sqnr_db == max(p.sqnr_db for p in row)  # the upper of two
        assert line.mean_clipped == pytest.approx(sum(p.clipped for p in row) / 2)
    # The range that minimises the error has the least.
    assert {bits: lines["MSE", bits].best_for for bits in (8, 4)} == {8: 2, 4: 2}
    assert found.best("signed", 4) == found.predictions["signed", "MSE", 4]
    assert lines["MINMAX", 8].mean_clipped == 0


def test_tensors_can_be_chosen_and_zeros_are_exact() -> None:
    collected = CalibrationStatistics(dict.fromkeys(["zeros", "ones"]))
    collected.update("0", {"zeros": np.zeros(8, np.float32), "ones": np.ones(8, np.float32)})
    found = what_if(collected, {"MINMAX": Presets.MINMAX}, tensors=["zeros"])
    assert found.tensors == ("zeros",)
    assert [prediction.sqnr_db for prediction in found.predictions.values()] == [math.inf] * 3


def test_what_cannot_be_predicted_is_refused(statistics: CalibrationStatistics) -> None:
    with pytest.raises(ParameterError, match="nothing to predict"):
        what_if(statistics, {})
    with pytest.raises(ParameterError, match=r"what_if\.estimators="):
        what_if(statistics, Presets.MINMAX)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"what_if\.num_bits=8 is not a sequence .*num_bits=\(8, 4\)"):
        what_if(statistics, ESTIMATORS, num_bits=8)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"what_if\.statistics=5"):
        what_if(5, ESTIMATORS)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="num_bits=9"):
        what_if(statistics, ESTIMATORS, num_bits=(9,))
    with pytest.raises(ParameterError, match="'y' was not observed"):
        what_if(statistics, ESTIMATORS, tensors=["y"])
    with pytest.raises(DataError, match="no sample with values"):
        what_if(CalibrationStatistics({"x": None}), ESTIMATORS)
