"""Upsampling and the convolution behind it, from products of the small size, against PyTorch in float64."""

import pytest
import torch
import torch.nn.functional as F
from helpers.threads import assert_same_for_any_threads

from vfi.kernels import cpu
from vfi.kernels.cpu_upsampling import add_upsampled, blends, product_weights

TOLERANCES = {torch.float32: 3e-5, torch.bfloat16: 0.04, torch.float16: 0.005}  # results are at most about 3


def arguments(height, width, channels, dtype):
    """Features (h, w, C), a convolution (C, C, 3, 3) with bias, and what the result is added to, (2 h, 2 w, C)."""
    generator = torch.Generator().manual_seed(height * width + channels)

    def normal(*size):
        return torch.randn(size, generator=generator)

    weight = (normal(channels, channels, 3, 3) / (3 * channels**0.5)).to(dtype)
    return normal(height, width, channels).to(dtype), weight, normal(channels), normal(2 * height, 2 * width, channels)


def exact(features, weight, bias):
    picture = F.interpolate(
        features.double().permute(2, 0, 1)[None], scale_factor=2, mode="bilinear", align_corners=True
    )
    return F.conv2d(picture, weight.double(), bias.double(), padding=1)[0].permute(1, 2, 0)


def add(out, features, weight, bias, rows_at_once=None):
    height, width, _ = features.shape
    rows, columns = blends(height), blends(width)
    for top in range(0, 2 * height, rows_at_once or 2 * height):
        bottom = min(top + (rows_at_once or 2 * height), 2 * height)
        first, last = rows.reach(top, bottom)
        products = (features[first:last].flatten(0, 1) @ product_weights(weight)).view(last - first, width, 3, -1)
        add_upsampled(out[top:bottom], products, bias, rows.part(top, bottom), columns)
    return out


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("height", "width", "channels"), [(1, 1, 64), (1, 5, 64), (2, 1, 64), (7, 70, 64), (4, 30, 512)]
)
def test_adds_the_convolution_of_the_upsampled_picture(dtype, height, width, channels):
    if not cpu.supports(dtype):
        pytest.skip("this processor does not convert float16")
    features, weight, bias, skip = arguments(height, width, channels, dtype)
    expected = skip.to(dtype).double() + exact(features, weight, bias).relu()
    out = add(skip.to(dtype), features, weight, bias)
    assert (out - expected).abs().max() < TOLERANCES[dtype]


@pytest.mark.parametrize("rows_at_once", [1, 2, 5])
def test_bands_give_the_same_result(rows_at_once):
    features, weight, bias, skip = arguments(6, 9, 64, torch.float32)
    whole = add(skip.clone(), features, weight, bias)
    assert (add(skip.clone(), features, weight, bias, rows_at_once) - whole).abs().max() < 1e-5


def test_not_a_number_stays():
    features, weight, bias, skip = arguments(3, 4, 64, torch.float32)
    features[1, 2] = torch.nan
    out = add(skip, features, weight, bias)
    assert out[2, 4].isnan().all()
    assert not out[:, 0].isnan().any()


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1000])
def test_blends_are_those_of_pytorch(size):
    """Each result takes from itself and its neighbours what PyTorch's upsampling gives, and nothing from outside."""
    values = torch.rand(size, dtype=torch.float64)
    doubled = F.interpolate(values.view(1, 1, size, 1), size=(2 * size, 1), mode="bilinear", align_corners=True)
    sources, weights = blends(size)
    taps = (values[torch.from_numpy(sources)] * torch.from_numpy(weights)).unflatten(1, (3, 2)).sum(2)
    assert (taps - F.pad(doubled.flatten(), [1, 1]).unfold(0, 3, 1)).abs().max() < 1e-4  # positions are float32
    assert (sources.min(1) == sources[:, 0]).all()
    assert (sources.max(1) == sources[:, 5]).all()


def test_results_do_not_depend_on_threads():
    features, weight, bias, skip = arguments(20, 30, 64, torch.bfloat16)
    assert_same_for_any_threads(lambda: add(skip.bfloat16(), features, weight, bias))
