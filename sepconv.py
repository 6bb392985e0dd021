"""Local separable convolution: every output pixel has a kernel of its own, the product of two vectors.

    out[n, c, y, x] = sum_i sum_j  frame[n, c, y + i, x + j] * vertical[n, i, y, x] * horizontal[n, j, y, x]

    frame       (N, C, H + K - 1, W + K - 1)
    vertical    (N, K, H, W)
    horizontal  (N, K, H, W)
    out         (N, C, H, W)

This is equation 2 of Niklaus, Mai and Liu, "Video Frame Interpolation via Adaptive Separable Convolution" (ICCV
2017), for one of the two frames. Any K >= 1, any C, empty batches too.

`sepconv` is registered with PyTorch as one operator: it has gradients, and works under `torch.compile`,
`torch.export`, autocast (which computes it in float32) and CUDA graphs. Its kernels are in vfi/kernels: on the CPU by
Numba, on NVIDIA GPUs in CUDA C++, which CuPy compiles. Other devices, and GPUs without CuPy, use `sepconv_reference`.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor, ...]  # of frame, vertical and horizontal

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def sepconv(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Applies to every pixel its own separable kernel; see the formula at the top of this file.

    Args:
        frame: (N, C, H + K - 1, W + K - 1), float16, bfloat16, float32 or float64.
        vertical: (N, K, H, W), dtype and device of `frame`; tap i meets row y + i.
        horizontal: (N, K, H, W), dtype and device of `frame`; tap j meets column x + j.

    Returns:
        (N, C, H, W), in the dtype of `frame`, contiguous. 16-bit types are summed in float32.

    Tensors may have any strides: contiguous, channels_last or sliced, they are read where they lie. The same call
    gives the same bits, gradients included. Second derivatives are not available.

    On the tensor cores of NVIDIA GPUs, which compute 16-bit types with 51 taps, infinities and NaN in a frame also
    reach results up to 13 pixels beyond those that they are part of. Before a call is captured in a CUDA graph, make
    one like it: the first compiles its kernel.

    Raises:
        TypeError: an argument is not a tensor.
        ValueError: shapes, dtypes or devices do not fit together.
    """
    for name, tensor in {"frame": frame, "vertical": vertical, "horizontal": horizontal}.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}, expected a torch.Tensor")
    out: Tensor = torch.ops.sepconv.sepconv(frame, vertical, horizontal)
    return out


def sepconv_reference(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The formula in plain PyTorch: slow, for any device and dtype, differentiable. The oracle of the tests."""
    taps, height, width = vertical.shape[1:]
    total = torch.promote_types(frame.dtype, torch.float32)
    out = torch.zeros(*frame.shape[:2], height, width, dtype=total, device=frame.device)
    for i in range(taps):
        for j in range(taps):
            weight = vertical[:, None, i].to(total) * horizontal[:, None, j].to(total)  # (N, 1, H, W)
            out = out + frame[:, :, i : i + height, j : j + width].to(total) * weight
    return out.to(frame.dtype)


def sepconv_reference_backward(
    grad_out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of all three inputs by the formula, in float32 or better, for any device and dtype.

    With s_ij = sum_c grad_out_c * frame_c[y + i, x + j], the gradients of vertical and horizontal are sum_j s_ij *
    horizontal_j and sum_i s_ij * vertical_i; every pixel of the frame collects grad_out * vertical_i * horizontal_j.
    """
    taps, height, width = vertical.shape[1:]
    total = torch.promote_types(frame.dtype, torch.float32)
    grad_out, frame, vertical, horizontal = (tensor.to(total) for tensor in (grad_out, frame, vertical, horizontal))
    grad_frame, grad_vertical, grad_horizontal = (torch.zeros_like(tensor) for tensor in (frame, vertical, horizontal))
    for i in range(taps):
        for j in range(taps):
            met = (..., slice(i, i + height), slice(j, j + width))
            product = (grad_out * frame[met]).sum(1)  # (N, H, W)
            grad_vertical[:, i] += product * horizontal[:, j]
            grad_horizontal[:, j] += product * vertical[:, i]
            grad_frame[met] += grad_out * (vertical[:, i] * horizontal[:, j])[:, None]
    return grad_frame, grad_vertical, grad_horizontal


class sepconv_func:
    """The name by which code in the wild calls the op: `sepconv_func.apply(frame, vertical, horizontal)`."""

    apply = staticmethod(sepconv)


def _check(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> None:
    tensors = {"frame": frame, "vertical": vertical, "horizontal": horizontal}
    for name, tensor in tensors.items():
        if tensor.dim() != 4:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected four dimensions")
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"{name} is {tensor.dtype}, expected float16, bfloat16, float32 or float64")
        for what in ("dtype", "device"):
            ours, expected = getattr(tensor, what), getattr(frame, what)
            if ours != expected:
                raise ValueError(f"{name} has {what} {ours}, expected {expected}, that of frame")
    if horizontal.shape != vertical.shape:
        raise ValueError(
            f"horizontal has shape {tuple(horizontal.shape)}, expected {tuple(vertical.shape)}, that of vertical"
        )
    batch, taps, height, width = vertical.shape
    if taps < 1:
        raise ValueError(f"vertical has shape {tuple(vertical.shape)}, expected at least one tap (dimension 1)")
    expected = (batch, frame.shape[1], height + taps - 1, width + taps - 1)
    if frame.shape != expected:
        raise ValueError(
            f"frame has shape {tuple(frame.shape)}, expected {expected}: {taps} taps reach {taps - 1} pixels beyond "
            f"the {height} x {width} of vertical and horizontal"
        )


def _check_backward(
    grad_out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor, output_mask: Sequence[bool]
) -> None:
    _check(frame, vertical, horizontal)
    expected = (*frame.shape[:2], *vertical.shape[2:])
    if grad_out.shape != expected or grad_out.dtype != frame.dtype or grad_out.device != frame.device:
        raise ValueError(
            f"grad_out is {tuple(grad_out.shape)}, {grad_out.dtype} on {grad_out.device}, "
            f"expected {expected}, {frame.dtype} on {frame.device}"
        )
    if len(output_mask) != 3:
        raise ValueError(f"output_mask has {len(output_mask)} values, expected one for each of the three inputs")


# The operators, a kernel for each device. They are declared by their schemas: the decorator `torch.library.custom_op`
# says the same, but its first call imports the compiler, which takes a second and which most programs never use.

FORWARD = "sepconv::sepconv"
BACKWARD = "sepconv::sepconv_backward"

torch.library.define(FORWARD, "(Tensor frame, Tensor vertical, Tensor horizontal) -> Tensor")
torch.library.define(  # the gradients that output_mask asks for, and empty tensors for the others
    BACKWARD,
    "(Tensor grad_out, Tensor frame, Tensor vertical, Tensor horizontal, bool[] output_mask)"
    " -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl(FORWARD, "cpu")
def _forward_cpu(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    from vfi.kernels import cpu  # here: only calls that need Numba wait for its import

    if not cpu.supports(frame.dtype):
        return _forward_elsewhere(frame, vertical, horizontal)
    _check(frame, vertical, horizontal)
    out = _empty_out(frame, vertical)
    cpu.forward(out, frame, vertical, horizontal)
    return out


def _forward_elsewhere(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    _check(frame, vertical, horizontal)
    return sepconv_reference(frame, vertical, horizontal)


def _forward_cuda(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    from vfi.kernels import cuda

    if not _has_cuda_kernels():
        return _forward_elsewhere(frame, vertical, horizontal)
    _check(frame, vertical, horizontal)
    out = _empty_out(frame, vertical)
    cuda.forward(out, frame, vertical, horizontal)
    return out


torch.library.impl(FORWARD, "cuda", _forward_cuda)
torch.library.impl(FORWARD, "default", _forward_elsewhere)


@torch.library.register_fake(FORWARD)
def _forward_fake(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    _check(frame, vertical, horizontal)
    return _empty_out(frame, vertical)


@torch.library.impl(BACKWARD, "cpu")
def _backward_cpu(
    grad_out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor, output_mask: Sequence[bool]
) -> Gradients:
    from vfi.kernels import cpu

    if not cpu.supports(frame.dtype):
        return _backward_elsewhere(grad_out, frame, vertical, horizontal, output_mask)
    _check_backward(grad_out, frame, vertical, horizontal, output_mask)
    gradients = _empty_gradients(frame, vertical, horizontal, output_mask)
    cpu.backward(gradients, grad_out, frame, vertical, horizontal, output_mask)
    return gradients


def _backward_elsewhere(
    grad_out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor, output_mask: Sequence[bool]
) -> Gradients:
    _check_backward(grad_out, frame, vertical, horizontal, output_mask)
    gradients = sepconv_reference_backward(grad_out, frame, vertical, horizontal)
    targets = _empty_gradients(frame, vertical, horizontal, output_mask)
    return tuple(
        target.copy_(gradient) if wanted else target
        for target, gradient, wanted in zip(targets, gradients, output_mask, strict=True)
    )


def _backward_cuda(
    grad_out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor, output_mask: Sequence[bool]
) -> Gradients:
    from vfi.kernels import cuda

    if not _has_cuda_kernels():
        return _backward_elsewhere(grad_out, frame, vertical, horizontal, output_mask)
    _check_backward(grad_out, frame, vertical, horizontal, output_mask)
    gradients = _empty_gradients(frame, vertical, horizontal, output_mask)
    cuda.backward(gradients, grad_out, frame, vertical, horizontal, output_mask)
    return gradients


torch.library.impl(BACKWARD, "cuda", _backward_cuda)
torch.library.impl(BACKWARD, "default", _backward_elsewhere)


@torch.library.register_fake(BACKWARD)
def _backward_fake(
    grad_out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor, output_mask: Sequence[bool]
) -> Gradients:
    _check_backward(grad_out, frame, vertical, horizontal, output_mask)
    return _empty_gradients(frame, vertical, horizontal, output_mask)


def cuda_problem() -> str | None:
    """Why the CUDA kernels cannot run on this machine, and what to install: a sentence, or None if they can."""
    from vfi.kernels import cuda

    return cuda.problem()


@lru_cache
def _has_cuda_kernels() -> bool:
    """Whether the CUDA kernels work here; warns once if plain PyTorch must replace them."""
    problem = cuda_problem()
    if problem:
        logging.getLogger(__name__).warning("%s; falling back to plain PyTorch on the GPU", problem)
    return problem is None


def _empty_out(frame: Tensor, vertical: Tensor) -> Tensor:
    return frame.new_empty(*frame.shape[:2], *vertical.shape[2:])


def _empty_gradients(frame: Tensor, vertical: Tensor, horizontal: Tensor, output_mask: Sequence[bool]) -> Gradients:
    """Uninitialised gradients, in the memory format of their tensors."""
    return tuple(
        torch.empty_like(tensor) if wanted else tensor.new_empty(0)
        for tensor, wanted in zip((frame, vertical, horizontal), output_mask, strict=True)
    )


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    output_mask = list(ctx.needs_input_grad)
    gradients = torch.ops.sepconv.sepconv_backward(grad_out, *ctx.saved_tensors, output_mask)
    return tuple(gradient if wanted else None for gradient, wanted in zip(gradients, output_mask, strict=True))


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise NotImplementedError("sepconv has no second derivatives: do not call backward with create_graph=True")


torch.library.register_autograd(FORWARD, _differentiate, setup_context=_save)
torch.library.register_autograd(BACKWARD, _refuse)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast(FORWARD, _device, torch.float32)
