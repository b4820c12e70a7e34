"""How many images the statistics of BatchNormalization are taken over."""

from __future__ import annotations

FEWEST_IMAGES = 4
# The last layers see an image 32 times smaller along each side; fewer pixels make their variances noise.
REDUCTION, FEWEST_PIXELS = 32, 196


def images_for_statistics(image_size: int) -> int:
    """Return enough images for the smallest activations of a network, and no more than that takes."""
    pixels = max(image_size // REDUCTION, 1) ** 2
    return max(FEWEST_IMAGES, -(-FEWEST_PIXELS // pixels))
