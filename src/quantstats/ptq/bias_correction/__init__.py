"""Bias correction: shift biases so that the mean of an operation's output is what it was before quantization."""

from quantstats.ptq.bias_correction.correctable import channel_mean_taps
from quantstats.ptq.bias_correction.correction import BiasCorrection
from quantstats.ptq.bias_correction.fast import correct_fast
from quantstats.ptq.bias_correction.full import correct_full
from quantstats.ptq.bias_correction.means import InputMean

__all__ = ["BiasCorrection", "InputMean", "channel_mean_taps", "correct_fast", "correct_full"]
