"""Two pictures in, the picture halfway between them out, on the device of this machine.

from vfi import Interpolator
interpolator = Interpolator(model="lf")
middle = interpolator(one, two)  # uint8, uint16 or float arrays, (H, W), (H, W, 3) or (H, W, 4), RGB
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sepconv import cuda_problem
from vfi.errors import DataError, UsageError
from vfi.network import PADDINGS, Network, divide
from vfi.weights import Progress, load_network

if TYPE_CHECKING:
    from vfi.cpu_network import CpuNetwork

PRECISIONS = ("auto", "float32", "bfloat16", "float16")

BAND_PIXELS = 2**20  # for which kernels are held in a GPU's memory at once

_WHITE = {torch.uint8: 255, torch.uint16: 65535}
_WHITE |= dict.fromkeys((torch.float16, torch.bfloat16, torch.float32, torch.float64), 1)


FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))  # dimensions of (N, C, H, W)
ENSEMBLE = 2 * len(FLIPS)  # calls of the network


class Interpolator:
    """Interpolates between pictures: `Interpolator()(one, two)`.

    Args:
        model, weights, progress: see `load_network`.
        device: "auto" (an NVIDIA GPU if PyTorch sees one, else the CPU), "cpu", "cuda" or "cuda:1".
        padding: "improved", or "paper" to compare with the paper's numbers.
        precision: of the convolutions: "float32", "bfloat16", "float16", or "auto", which is bfloat16 on a CPU that
            computes in it natively, float16 on a GPU with tensor cores, and float32 elsewhere and for weights without
            kernel normalization (the published ones). The kernels are applied in float32, but on a GPU in float16 where
            the convolutions are in 16 bits: too coarse for uint16 pictures that have to be exact. The README says how
            little of the picture this changes.

        ensemble: the mean over the four flips of the frames, each in both orders (arXiv 2011.01280); it takes
            ENSEMBLE times as long.

    Raises:
        WeightsError: see `load_network`.
        DataError: the device is not available; it is never quietly replaced.
        UsageError: the name of the model, device, padding or precision is not known.
    """

    def __init__(
        self,
        model: str = "lf",
        weights: str | os.PathLike[str] = "bundled",
        device: str = "auto",
        padding: str = "improved",
        precision: str = "auto",
        progress: Progress | None = None,
        ensemble: bool = False,
    ) -> None:
        if padding not in PADDINGS:
            raise UsageError(f"padding {padding!r} is not known: choose one of {', '.join(PADDINGS)}")
        self.device = find_device(device)
        self.padding = padding
        self.ensemble = ensemble
        if precision not in PRECISIONS:
            raise UsageError(f"precision {precision!r} is not known: choose one of {', '.join(PRECISIONS)}")
        network = load_network(model, weights, progress)
        self.precision = fast_precision(self.device, network) if precision == "auto" else precision
        dtype: torch.dtype = getattr(torch, self.precision)
        self.network = _fastest(network.to(self.device, dtype, memory_format=torch.channels_last))  # type: ignore[call-overload]

    def __call__(self, one: Any, two: Any) -> Any:
        """The picture halfway between two.

        Args:
            one, two: both of the same kind, shape and dtype. Either arrays (H, W), or (H, W, C) with C = 1 (grey), 2
                (grey, alpha), 3 (RGB) or 4 (RGB, alpha); or tensors (N, C, H, W) on any device. uint8, uint16, or
                floating-point numbers in the range [0, 1].

        Returns:
            The same kind, shape, dtype and range (and device). Two identical pictures give that picture, without a call
            of the network.

        Raises:
            TypeError: one and two are not two arrays or two tensors.
            ValueError: their shapes or dtypes differ or are none of the above, or values are not finite.
        """
        one, two, restore = _frames(one, two)
        results = list(one)
        differing = [index for index in range(len(one)) if not torch.equal(one[index], two[index])]
        if differing:
            white = _WHITE[one.dtype]
            pair = (frames[differing].to(self.device, torch.float32) / white for frames in (one, two))
            result = self.middle(*pair) * white
            result = (result.round() if white > 1 else result).to(one.device, one.dtype)
            for index, picture in zip(differing, result, strict=True):
                results[index] = picture
        return restore(torch.stack(results) if results else one)

    @torch.inference_mode()
    def middle(self, one: Tensor, two: Tensor) -> Tensor:
        """The same for tensors (N, 1 to 4, H, W), float32, range [0, 1], on `device`; does not look for identical ones.

        On a GPU nothing waits for the result: the call returns when the work is queued.
        """
        channels = one.shape[1]
        if channels < 3:  # the network sees grey as three equal channels
            one, two = _grey_to_rgb(one), _grey_to_rgb(two)
        result = self._middle_of_rgb(one, two).clamp(0, 1)
        return torch.cat([result[:, :1], result[:, 3:]], dim=1) if channels < 3 else result

    def _middle_of_rgb(self, one: Tensor, two: Tensor) -> Tensor:
        one, two = _swap_red_and_blue(one), _swap_red_and_blue(two)
        if one.shape[1] == 3:
            return _swap_red_and_blue(self._run(one, two))
        return _swap_red_and_blue(_unpremultiply(self._run(_premultiply(one), _premultiply(two))))

    def _run(self, one: Tensor, two: Tensor) -> Tensor:
        if not self.ensemble:
            return self._run_once(one, two)
        total = torch.zeros_like(one)
        for dimensions in FLIPS:
            first, second = one.flip(dimensions), two.flip(dimensions)
            for order in ((first, second), (second, first)):
                total += self._run_once(*order).clamp(0, 1).flip(dimensions)
        return total / ENSEMBLE

    def _run_once(self, one: Tensor, two: Tensor) -> Tensor:
        if isinstance(self.network, Network):
            out: Tensor = self.network(one, two, self.padding, BAND_PIXELS)
            return out
        return self.network(one, two, self.padding)


def _fastest(network: Network) -> "Network | CpuNetwork":
    """A network for inference where its weights are: on a CPU `CpuNetwork`, elsewhere the network itself."""
    if next(network.parameters()).is_cpu:
        from vfi.cpu_network import CpuNetwork  # here: only those who need Numba wait for its import

        if CpuNetwork.supports(network.dtype):
            return CpuNetwork(network)
    return network


def _frames(one: Any, two: Any) -> tuple[Tensor, Tensor, Callable[[Tensor], Any]]:
    """Both pictures as tensors (N, C, H, W) of their own dtype, and the function that makes such a picture again."""
    kinds = {"an array": np.ndarray, "a tensor": torch.Tensor}
    kind = next((kind for kind in kinds.values() if isinstance(one, kind) and isinstance(two, kind)), None)
    if kind is None:
        raise TypeError(
            f"one is a {type(one).__name__} and two a {type(two).__name__}, expected two arrays or two tensors"
        )
    for what in ("shape", "dtype") if kind is np.ndarray else ("shape", "dtype", "device"):
        if getattr(one, what) != getattr(two, what):
            raise ValueError(f"one has {what} {getattr(one, what)}, two has {getattr(two, what)}: expected the same")
    shape, dtype = tuple(one.shape), one.dtype
    if kind is torch.Tensor:
        one, two = one.detach(), two.detach()
    else:
        if dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
            raise ValueError(f"one is {dtype}, expected uint8, uint16 or floating-point numbers")
        if len(shape) not in (2, 3):
            raise ValueError(f"one has shape {shape}, expected (H, W) or (H, W, C)")
        height, width, *channels = shape
        one, two = (
            torch.from_numpy(np.array(array, dtype=dtype.newbyteorder("=")))
            .view(1, height, width, *channels or [1])
            .permute(0, 3, 1, 2)
            for array in (one, two)
        )
    if one.dtype not in _WHITE:
        raise ValueError(f"one is {dtype}, expected uint8, uint16 or floating-point numbers")
    if one.dim() != 4 or one.shape[1] not in (1, 2, 3, 4) or 0 in one.shape[2:]:
        raise ValueError(f"one has shape {shape}, expected 1 to 4 channels and at least one pixel")
    for name, frames in {"one": one, "two": two}.items():
        # One such value would spoil the mean of the pair, and so every pixel.
        if frames.is_floating_point() and not frames.isfinite().all():
            raise ValueError(f"{name} has values that are not finite, expected numbers in the range [0, 1]")

    def restore(result: Tensor) -> Any:
        if kind is torch.Tensor:
            return result
        return result.permute(0, 2, 3, 1).reshape(shape).numpy().astype(dtype, copy=False)

    return one, two, restore


def _grey_to_rgb(frames: Tensor) -> Tensor:
    """Grey to three equal channels; alpha stays."""
    return torch.cat([frames[:, :1].expand(-1, 3, -1, -1), frames[:, 1:]], dim=1)


def _swap_red_and_blue(frames: Tensor) -> Tensor:
    """RGB to BGR, the network's order of channels, and back; alpha stays where it is."""
    return torch.cat([frames[:, :3].flip(1), frames[:, 3:]], dim=1)  # a GPU would wait for a list of indices


def _premultiply(frames: Tensor) -> Tensor:
    """Colours times alpha, so that invisible colours are not blended in; alpha; and ones, which sum up the weights."""
    colour, alpha = frames[:, :3], frames[:, 3:]
    return torch.cat([colour * alpha, alpha, torch.ones_like(alpha)], dim=1)


def _unpremultiply(filtered: Tensor) -> Tensor:
    """The inverse of `_premultiply`, after the op.

    Alpha is divided by the op's result for ones, unless that is nearly zero. So it is exactly 1 where both frames are
    opaque, even if the weights of a pixel do not add up to 1; colours are then those without alpha.
    """
    colour, alpha, weight = filtered[:, :3], filtered[:, 3:4], filtered[:, 4:]
    alpha = divide(alpha, weight)
    visible = alpha > 1e-5  # less than half a step of 16 bits
    return torch.cat([torch.where(visible, colour / alpha, 0), alpha], dim=1)


def find_device(name: str) -> torch.device:
    """The device of this name: auto, cpu, cuda or cuda:N.

    Raises:
        UsageError: the name is not one of these.
        DataError: the device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")  # the op warns if its kernels are missing
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"device {name!r} is not known: choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported: choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs here"
        raise DataError(f"device {name!r} is not available: {found}; use --device cpu, or a CUDA build of PyTorch")
    if device.type == "cuda" and cuda_problem():
        raise DataError(f"device {name!r}: {cuda_problem()}")
    return device


def fast_precision(device: torch.device, network: Network) -> str:
    """16 bits where the device computes in them natively, and the picture does not suffer.

    The sums of rounded kernels change, which only kernel normalization corrects.
    """
    if not network.kernel_normalization:
        return "float32"
    if device.type == "cuda":
        return "float16" if torch.cuda.get_device_capability(device) >= (7, 0) else "float32"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = any(able.get(feature) for feature in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is Arm's
    return "bfloat16" if native and torch.backends.mkldnn.is_available() else "float32"
