"""PSNR and SSIM against their definitions."""

import numpy as np
import pytest

from ddim.metrics.reconstruction import psnr, ssim

DICE = np.random.default_rng(0)
IMAGES = DICE.uniform(size=(3, 12, 10, 2))
OTHERS = np.clip(IMAGES + DICE.normal(0, 0.2, IMAGES.shape), 0, 1)


def test_psnr_of_a_known_error():
    images = np.full((2, 4, 4, 3), 0.5)
    found = psnr(images, images + np.array([0.1, 0.01]).reshape(2, 1, 1, 1))
    np.testing.assert_allclose(found, [20.0, 40.0])
    assert np.isinf(psnr(images, images)).all()


def test_ssim_of_equal_images_is_one():
    np.testing.assert_allclose(ssim(IMAGES, IMAGES), 1.0)


def test_ssim_of_constant_images_compares_their_luminance():
    one, other = np.full((1, 8, 8, 3), 0.2), np.full((1, 8, 8, 3), 0.7)
    c1 = 0.01**2
    expected = (2 * 0.2 * 0.7 + c1) / (0.2**2 + 0.7**2 + c1)
    np.testing.assert_allclose(ssim(one, other), expected, rtol=1e-9)


@pytest.mark.parametrize(("height", "side"), [(12, 7), (6, 5), (5, 5), (1, 1)])
def test_ssim_against_a_loop_over_windows(height, side):
    """Equation 13 of Wang et al. (2004), window by window, sample covariances."""
    for number in range(len(IMAGES)):
        x, y = IMAGES[number, :height], OTHERS[number, :height]
        values = []
        for channel in range(2):
            for row in range(height - side + 1):
                for column in range(10 - side + 1):
                    window = slice(row, row + side), slice(column, column + side)
                    a = x[(*window, channel)].ravel()
                    b = y[(*window, channel)].ravel()
                    values.append(similarity(a, b))
        found = ssim(x[None], y[None])
        np.testing.assert_allclose(found, np.mean(values), rtol=1e-9)


def similarity(a, b):
    c1, c2 = 0.01**2, 0.03**2
    degrees = 1 if len(a) > 1 else 0
    (vx, cov), (_, vy) = np.cov(a, b, ddof=degrees)
    mx, my = a.mean(), b.mean()
    quotient = (2 * mx * my + c1) * (2 * cov + c2)
    return quotient / ((mx**2 + my**2 + c1) * (vx + vy + c2))
