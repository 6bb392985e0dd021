"""Both frames filtered in one pass on the CPU, against the op and the sums of the kernels in float64."""

import pytest
import torch

from sepconv import sepconv_pair, sepconv_reference
from vfi.kernels import cpu
from vfi.network import divide

TAPS = 51


def arguments(height, width, channels, dtype, memory_format, batch=2):
    """Two frames in float32 and four kernels of `dtype`; the kernels' weights add up to about 1."""
    generator = torch.Generator().manual_seed(height * width + channels)
    frames = [torch.rand(batch, channels, height + TAPS - 1, width + TAPS - 1, generator=generator) for _ in range(2)]
    kernels = [(0.02 * torch.rand(batch, TAPS, height, width, generator=generator)).to(dtype) for _ in range(4)]
    return frames, [kernel.to(memory_format=memory_format) for kernel in kernels]


def exact(frames, kernels, normalizes):
    one, two, *kernels = (tensor.double() for tensor in (*frames, *kernels))
    out = sepconv_reference(one, *kernels[:2]) + sepconv_reference(two, *kernels[2:])
    sums = [kernel.sum(1, keepdim=True) for kernel in kernels]
    return divide(out, sums[0] * sums[1] + sums[2] * sums[3]) if normalizes else out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("normalizes", [False, True])
@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 3), (7, 33, 3), (13, 70, 1), (6, 64, 5)])
def test_one_pass_is_its_definition(dtype, memory_format, normalizes, height, width, channels):
    """The result is exact to float32's rounding errors: kernels of 16 bits are not rounded further."""
    if not cpu.supports(dtype):
        pytest.skip("this processor does not convert float16")
    frames, kernels = arguments(height, width, channels, dtype, memory_format)
    out = sepconv_pair(frames, kernels, normalizes)
    assert (out - exact(frames, kernels, normalizes)).abs().max() < 1e-5


def test_kernels_among_other_channels():
    """Kernels may be a part of a larger tensor, as behind convolutions with padded channels, or in bands of frames."""
    frames, kernels = arguments(9, 40, 3, torch.bfloat16, torch.channels_last)
    padded = [torch.nn.functional.pad(kernel, [3, 0, 0, 0, 0, 13]) for kernel in kernels]
    parts = [kernel.to(memory_format=torch.channels_last)[:, :TAPS, :, 3:] for kernel in padded]
    frames = [torch.nn.functional.pad(frame, [0, 5, 2, 2])[:, :, 2:-2, :-5] for frame in frames]
    out = sepconv_pair(frames, parts, True)
    assert (out - exact(frames, kernels, True)).abs().max() < 1e-5


def test_weights_near_zero_count_as_one():
    frames, kernels = arguments(6, 20, 3, torch.float32, torch.channels_last)
    kernels[0][:, :, :3], kernels[2][:, :, :3] = 1e-6, -1e-6
    kernels[0][:, :, 3], kernels[2][:, :, 3] = 0, 0
    out = sepconv_pair(frames, kernels, True)
    assert (out - exact(frames, kernels, True)).abs().max() < 1e-5
    assert (out[:, :, 3] == 0).all()


def test_results_do_not_depend_on_threads():
    frames, kernels = arguments(40, 600, 3, torch.bfloat16, torch.channels_last, batch=1)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(sepconv_pair(frames, kernels, True))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("change", ["shape", "dtype", "double kernels", "dimensions", "size"])
def test_arguments_that_do_not_fit_are_refused(change):
    frames, kernels = arguments(6, 20, 3, torch.float32, torch.channels_last)
    if change == "shape":
        kernels[3] = kernels[3][:, :, :5]
    elif change == "dtype":
        frames[1] = frames[1].double()
    elif change == "double kernels":
        kernels = [kernel.double() for kernel in kernels]
    elif change == "dimensions":
        kernels = [kernel[0] for kernel in kernels]
    else:
        frames = [frame[..., :-1] for frame in frames]
    with pytest.raises(ValueError, match="expected"):
        sepconv_pair(frames, kernels, True)
