"""Inputs of the op in every layout, and the tolerances of its results."""

import torch

from sepconv import sepconv, sepconv_reference, sepconv_reference_backward

# The largest deviation from float64, relative to the largest value.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14, torch.float16: 1e-3, torch.bfloat16: 8e-3}

LAYOUTS = ("contiguous", "channels_last", "sliced", "expanded")

# (N, C, H, W, K): the network's own, odd sizes, wider than one chunk, single pixels, more channels than a tile has.
SIZES = [
    (1, 3, 7, 33, 51),
    (2, 3, 13, 5, 3),
    (1, 3, 2, 600, 17),
    (2, 3, 1, 1, 1),
    (1, 3, 25, 70, 20),
    (1, 5, 9, 20, 5),
]


def arguments(size, dtype=torch.float32, layout="contiguous", seed=0):
    """frame, vertical, horizontal and grad_out with the values of float64 random numbers rounded to `dtype`."""
    batch, channels, height, width, taps = size
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (batch, channels, height + taps - 1, width + taps - 1),
        (batch, taps, height, width),
        (batch, taps, height, width),
        (batch, channels, height, width),
    ]
    return [laid_out(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype), layout) for s in shapes]


def laid_out(tensor, layout):
    if layout == "channels_last":
        return tensor.to(memory_format=torch.channels_last)
    if layout == "sliced":
        n, c, h, w = tensor.shape
        room = tensor.new_full((n + 1, c + 2, 2 * h, 2 * w + 3), float("nan"))
        view = room[1:, 1:-1, ::2, 3::2]
        return view.copy_(tensor)
    if layout == "expanded":
        return tensor[..., :1].expand(tensor.shape)
    return tensor


def deviation(result, exact):
    return ((result.double() - exact).abs().max() / exact.abs().max()).item()


def check_against_reference(size, dtype, layout):
    *inputs, grad_out = arguments(size, dtype, layout)
    exact_inputs = [tensor.double() for tensor in inputs]
    exact = [sepconv_reference(*exact_inputs), *sepconv_reference_backward(grad_out.double(), *exact_inputs)]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    out = sepconv(*leaves)
    gradients = torch.autograd.grad(out, leaves, grad_out)
    for result, expected in zip([out.detach(), *gradients], exact, strict=True):
        assert result.dtype == dtype
        assert result.shape == expected.shape
        assert deviation(result, expected) < TOLERANCE[dtype]
