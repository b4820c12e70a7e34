"""Inputs that look like data to a network: images with the spectrum of photographs, sequences with that of words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Each color channel is mostly luminance, which all three share; the rest is its own.
LUMINANCE, CHROMINANCE = 0.9, 0.4
# Images differ in contrast (a factor, spread of its logarithm) and brightness, as photographs do.
CONTRAST_SPREAD, BRIGHTNESS_SPREAD = 0.1, 0.2


def images(count: int, image_size: int = 224, seed: int = 0) -> NDArray[np.float32]:
    """Return smooth random fields, float32 [count, 3, image_size, image_size], normalized as for ImageNet networks.

    Amplitudes fall as 1 / frequency, as they do in photographs (Field, 1987), with random phases. An image depends on
    `seed` and its index alone: the first images of a longer batch are those of a shorter one.
    """
    return np.stack([_image(image_size, np.random.default_rng([seed, index])) for index in range(count)])


def _image(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    frequency = np.hypot(np.fft.fftfreq(size)[:, np.newaxis], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf  # The mean is drawn apart, as brightness.
    fields = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(4, size, size))) / frequency, s=(size, size))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    colors = LUMINANCE * fields[:1] + CHROMINANCE * fields[1:]
    contrast = np.exp(rng.normal(scale=CONTRAST_SPREAD))
    brightness = rng.normal(scale=BRIGHTNESS_SPREAD)
    return np.asarray(contrast * colors + brightness, dtype=np.float32)


def tokens(count: int, seq: int = 32, vocab: int = 1000, seed: int = 0) -> NDArray[np.int64]:
    """Return sequences of token identifiers, int64 [count, seq], as frequent as words are: by Zipf's law.

    A sequence depends on `seed` and its index alone, as the images do.
    """
    frequency = 1.0 / np.arange(1, vocab + 1)
    rows = [
        np.random.default_rng([seed, index]).choice(vocab, size=seq, p=frequency / frequency.sum())
        for index in range(count)
    ]
    return np.stack(rows).astype(np.int64)
