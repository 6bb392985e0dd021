"""The end of the network on the CPU, in one pass, against its definition in float64."""

import pytest
import torch
import torch.nn.functional as F
from helpers.threads import assert_same_for_any_threads

from sepconv import sepconv_reference
from vfi.kernels import cpu
from vfi.kernels.cpu_inference import filter_pair, pack
from vfi.kernels.cpu_upsampling import blends, product_weights
from vfi.network import LEAST_WEIGHT, TAPS, divide

INNER = 16  # channels of the features; any number


def arguments(height, width, channels, dtype):
    """Two frames, and four heads' features (h, w, INNER), convolutions (51, INNER, 3, 3) and biases (4, 51)."""
    generator = torch.Generator().manual_seed(height * width + channels)
    small = height // 2 + 1, width // 2 + 1
    frames = [torch.rand(1, channels, height + TAPS - 1, width + TAPS - 1, generator=generator) for _ in range(2)]
    features = [torch.rand(*small, INNER, generator=generator).to(dtype) for _ in range(4)]
    weights = [(0.004 * torch.randn(TAPS, INNER, 3, 3, generator=generator)).to(dtype) for _ in range(4)]
    return frames, features, weights, 0.02 * torch.rand(4, TAPS, generator=generator)


def run(frames, features, weights, biases, normalizes=True, origin=(0, 0)):
    sides = [side - TAPS + 1 for side in frames[0].shape[2:]]
    wholes = [blends(side) for side in features[0].shape[:2]]
    ranges = [(begin, begin + side) for begin, side in zip(origin, sides, strict=True)]
    part = tuple(slice(*whole.reach(*each)) for whole, each in zip(wholes, ranges, strict=True))
    rows, columns = (whole.part(*each) for whole, each in zip(wholes, ranges, strict=True))
    products = [
        (each @ product_weights(weight)).unflatten(2, (3, -1))[part]
        for each, weight in zip(features, weights, strict=True)
    ]
    height, width = sides
    out = torch.full((1, frames[0].shape[1], height, width), torch.nan)
    packed = [pack(frame, 0) for frame in frames]
    filter_pair(out, packed, products, biases, rows, columns, LEAST_WEIGHT if normalizes else 0.0)
    return out


def exact(frames, features, weights, biases, normalizes=True, origin=(0, 0)):
    height, width = (side - TAPS + 1 for side in frames[0].shape[2:])
    kernels = []
    for each, weight, bias in zip(features, weights, biases, strict=True):
        picture = each.double().permute(2, 0, 1)[None]
        picture = F.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=True)
        whole = F.conv2d(picture, weight.double(), bias.double(), padding=1)
        kernels.append(whole[:, :, origin[0] : origin[0] + height, origin[1] : origin[1] + width])
    one, two = (frame.double() for frame in frames)
    out = sepconv_reference(one, *kernels[:2]) + sepconv_reference(two, *kernels[2:])
    sums = [kernel.sum(1, keepdim=True) for kernel in kernels]
    return divide(out, sums[0] * sums[1] + sums[2] * sums[3]) if normalizes else out


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-3), (torch.float16, 3e-4)], ids=str
)
@pytest.mark.parametrize("normalizes", [False, True])
@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 3), (7, 33, 3), (13, 70, 1), (6, 64, 5)])
def test_one_pass_is_its_definition(dtype, tolerance, normalizes, height, width, channels):
    """Products of 16 bits are rounded; what is computed from them is exact to float32's rounding errors."""
    if not cpu.supports(dtype):
        pytest.skip("this processor does not convert float16")
    given = arguments(height, width, channels, dtype)
    assert (run(*given, normalizes) - exact(*given, normalizes)).abs().max() < tolerance


@pytest.mark.parametrize("origin", [(1, 0), (0, 5), (3, 2)])
def test_a_part_of_the_picture(origin):
    """As for bands of rows, and for frames that were padded."""
    frames, features, weights, biases = arguments(20, 40, 3, torch.float32)
    height, width = 20 - origin[0], 40 - origin[1]
    frames = [frame[..., : height + TAPS - 1, : width + TAPS - 1] for frame in frames]
    given = frames, features, weights, biases
    assert (run(*given, origin=origin) - exact(*given, origin=origin)).abs().max() < 1e-5


def test_weights_near_zero_count_as_one():
    frames, features, weights, _ = arguments(6, 20, 3, torch.float32)
    given = frames, features, [0 * weight for weight in weights], torch.full((4, TAPS), 1e-3)
    assert 0 < (out := run(*given)).max() < 0.02  # sums of weights are 0.005
    assert (out - exact(*given)).abs().max() < 1e-5


def test_results_do_not_depend_on_threads():
    given = arguments(40, 600, 3, torch.bfloat16)
    assert_same_for_any_threads(lambda: run(*given))
