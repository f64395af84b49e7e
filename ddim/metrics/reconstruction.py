"""How far reconstructed images are from their originals: PSNR and SSIM."""

import numpy as np
from scipy.ndimage import uniform_filter

WINDOW = 7
"""Pixels on a side over which SSIM takes its means, at most."""
LUMINANCE, CONTRAST = 0.01, 0.03
"""K1 and K2 of SSIM, which keep its quotients finite."""


def psnr(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, (n,), of images (n, h, w, c) in [0, 1].

    -10 log10 of the mean squared error; infinite for equal images.
    """
    differences = np.asarray(images, np.float64) - others
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.mean(differences**2, axis=(1, 2, 3)))


def ssim(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Structural similarity, (n,), of images (n, h, w, c) in [0, 1]; 1 for equal ones.

    The mean over channels and over all square windows inside the image (Wang et al.,
    2004, equation 13), windows unweighted and covariances of samples (over n - 1), as
    scikit-image has it by default. Windows have 7 pixels on a side, or less and an odd
    number for smaller images.
    """
    x, y = np.asarray(images, np.float64), np.asarray(others, np.float64)
    side = min(WINDOW, *x.shape[1:3])
    side -= 1 - side % 2
    inside = (slice(None), *[slice(side // 2, -(side // 2) or None)] * 2)
    samples = side**2
    unbiased = samples / max(samples - 1, 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, (0, side, side, 0))[inside]

    mean_x, mean_y = mean(x), mean(y)
    variance_x = unbiased * (mean(x * x) - mean_x**2)
    variance_y = unbiased * (mean(y * y) - mean_y**2)
    covariance = unbiased * (mean(x * y) - mean_x * mean_y)
    c1, c2 = LUMINANCE**2, CONTRAST**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(axis=(1, 2, 3))
