"""Pictures in, the picture halfway between them out, on the device at hand.

from vfi import Interpolator
interpolator = Interpolator(model="lf")
middle = interpolator(one, two)  # uint8, uint16 or float arrays, (H, W), (H, W, 3) or (H, W, 4), RGB
"""

import numpy as np
import torch

from sepconv import cuda_problem
from vfi.errors import DataError, UsageError
from vfi.network import PADDINGS, divide
from vfi.weights import load_network

PRECISIONS = ("auto", "float32", "bfloat16", "float16")

# Pixels whose kernels are held at once. On a CPU, what is just small enough for its caches is also the fastest.
BAND_PIXELS = {"cpu": 2**16, "cuda": 2**20}

_WHITE = {torch.uint8: 255, torch.uint16: 65535}
_WHITE |= dict.fromkeys((torch.float16, torch.bfloat16, torch.float32, torch.float64), 1)


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

    Raises:
        WeightsError, DataError: what was asked for is not to be had. A device is never quietly replaced.
        UsageError: a model, device, padding or precision of an unknown name.
    """

    def __init__(
        self, model="lf", weights="bundled", device="auto", padding="improved", precision="auto", progress=None
    ):
        if padding not in PADDINGS:
            raise UsageError(f"padding {padding!r} is not known: choose one of {', '.join(PADDINGS)}")
        self.device = find_device(device)
        self.padding = padding
        if precision not in PRECISIONS:
            raise UsageError(f"precision {precision!r} is not known: choose one of {', '.join(PRECISIONS)}")
        network = load_network(model, weights, progress)
        self.precision = fast_precision(self.device, network) if precision == "auto" else precision
        self.network = network.to(self.device, getattr(torch, self.precision), memory_format=torch.channels_last)

    def __call__(self, one, two):
        """The picture halfway between two.

        Args:
            one, two: both of the same kind, shape and dtype. Either arrays (H, W), or (H, W, C) with C = 1 (grey), 2
                (grey, alpha), 3 (RGB) or 4 (RGB, alpha); or tensors (N, C, H, W) on any device. uint8, uint16, or
                floating-point numbers in the range [0, 1].

        Returns:
            The same kind, shape, dtype and range (and device). Where the two are identical it is that very picture,
            without a call of the network.

        Raises:
            TypeError: neither arrays nor tensors, or one of each.
            ValueError: shapes or dtypes that differ or are none of the above, values that are not finite.
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
    def middle(self, one, two):
        """The same for tensors (N, 1 to 4, H, W), float32, range [0, 1], on `device`, which are known to differ.

        On a GPU nothing waits for the result: the call returns when the work is queued.
        """
        return self._middle(one, two).clamp(0, 1)

    def _middle(self, one, two):
        channels = one.shape[1]
        if channels < 3:  # grey: the network sees three times the same
            three = (torch.cat([frames[:, :1].expand(-1, 3, -1, -1), frames[:, 1:]], dim=1) for frames in (one, two))
            middle = self._middle(*three)
            return torch.cat([middle[:, :1], middle[:, 3:]], dim=1)
        one, two = _swap_red_and_blue(one), _swap_red_and_blue(two)
        if channels == 3:
            return _swap_red_and_blue(self._run(one, two))
        return _swap_red_and_blue(_unpremultiply(self._run(_premultiply(one), _premultiply(two))))

    def _run(self, one, two):
        return self.network(one, two, self.padding, BAND_PIXELS[self.device.type])


def _frames(one, two):
    """Both pictures as tensors (N, C, H, W) of their own dtype, and what makes such a picture of such a tensor."""
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
        # One of them would spoil the mean of the pair, and so every pixel.
        if frames.is_floating_point() and not frames.isfinite().all():
            raise ValueError(f"{name} has values that are not finite, expected numbers in the range [0, 1]")

    def restore(result):
        if kind is torch.Tensor:
            return result
        return result.permute(0, 2, 3, 1).reshape(shape).numpy().astype(dtype, copy=False)

    return one, two, restore


def _swap_red_and_blue(frames):
    """RGB to BGR, in which the network was trained, and back; alpha stays where it is."""
    return torch.cat([frames[:, :3].flip(1), frames[:, 3:]], dim=1)  # a list of indices would be waited for on a GPU


def _premultiply(frames):
    """Colours by their alpha, so that what cannot be seen is not blended in; alpha; and ones, to count the weights."""
    colour, alpha = frames[:, :3], frames[:, 3:]
    return torch.cat([colour * alpha, alpha, torch.ones_like(alpha)], dim=1)


def _unpremultiply(filtered):
    """The inverse of `_premultiply`, after the op.

    Alpha is divided by what the op makes of ones (if that is not close to nothing), so that it is exactly 1 where both
    frames are opaque, even where the weights of a pixel do not add up to 1; colours are then those without alpha.
    """
    colour, alpha, weight = filtered[:, :3], filtered[:, 3:4], filtered[:, 4:]
    alpha = divide(alpha, weight)
    visible = alpha > 1e-5  # less than half a step of 16 bits
    return torch.cat([torch.where(visible, colour / alpha, 0), alpha], dim=1)


def find_device(name):
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")  # without its kernels, the op warns
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"device {name!r} is not known: choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported: choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs here"
        raise DataError(f"device {name!r} is not there: {found}; use --device cpu, or a CUDA build of PyTorch")
    if device.type == "cuda" and cuda_problem():
        raise DataError(f"device {name!r}: {cuda_problem()}")
    return device


def fast_precision(device, network):
    """16 bits where they are native to the device and harmless to the picture.

    Rounded kernels no longer add up to what they did; normalization mends that, and nothing else does.
    """
    if not network.kernel_normalization:
        return "float32"
    if device.type == "cuda":
        return "float16" if torch.cuda.get_device_capability(device) >= (7, 0) else "float32"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = any(able.get(feature) for feature in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is Arm's
    return "bfloat16" if native and torch.backends.mkldnn.is_available() else "float32"
