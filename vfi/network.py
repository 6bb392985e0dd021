"""The network of Niklaus, Mai and Liu, "Video Frame Interpolation via Adaptive Separable Convolution" (ICCV 2017).

Two frames in, the frame halfway between them out. An encoder and decoder with skip connections looks at both frames
and predicts, for every pixel, two vertical and two horizontal kernels of 51 taps; `sepconv` applies one pair of them
to each frame, and the sum is the result.

* `Network` is the definition, tensors in and out.
* `load_network` builds one from a weights file: ours, the published ones, or any file in their format.
* `Interpolator` is what most people want: pictures in and out, on the device at hand.

    from vfi.network import Interpolator
    between = Interpolator(model="lf")
    middle = between(one, two)  # uint8, uint16 or float arrays, (H, W), (H, W, 3) or (H, W, 4), RGB
"""

import logging
import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sepconv import cuda_problem, sepconv
from vfi.download import FAILURES, fetch, why
from vfi.files import DataError, UsageError, replacing

TAPS = 51  # of every kernel
REACH = TAPS // 2  # pixels that a kernel reaches to each side: half the motion from one frame to the other
DEPTH = 32  # pixels of a frame that are one in the deepest layer
EIGHT = 8  # channels that a tensor core takes at once
ALIGNMENT = 128  # pixels: frames are padded to multiples of it, as the first public code does

MODELS = ("l1", "lf")
PADDINGS = {"improved": 0, "paper": REACH}  # pixels that are added on the top and left
PRECISIONS = ("auto", "float32", "bfloat16", "float16")

PUBLISHED = "http://content.sniklaus.com/sepconv/network-{model}.pytorch"

# Pixels whose kernels are held at once. On a CPU, what is just small enough for its caches is also the fastest.
BAND_PIXELS = {"cpu": 2**16, "cuda": 2**20}


class WeightsError(DataError):
    """A weights file that cannot be had, read or used; the message names it and says why."""


class DeviceError(DataError):
    """A device or precision that was asked for and is not there."""


# --- The network -----------------------------------------------------------------------------------------------


class _Conv(nn.Conv2d):
    """A convolution of 3 x 3 pixels.

    On tensor cores, which take channels by eights, it fills them up with zeros. So do its results, and the layers that
    follow take the more channels as they come.
    """

    def __init__(self, channels_in, channels_out):
        super().__init__(channels_in, channels_out, kernel_size=3, padding=1)

    def forward(self, frames, padding=1):
        weight, bias = self.weight, self.bias
        if _on_tensor_cores(frames):
            frames = _fill_up(frames, 1, -frames.shape[1] % EIGHT)
            weight = _fill_up(weight, 1, frames.shape[1] - self.in_channels)
            weight, bias = (_fill_up(tensor, 0, -self.out_channels % EIGHT) for tensor in (weight, bias))
        return F.conv2d(frames, weight, bias, padding=padding)


def _on_tensor_cores(frames):
    return frames.is_cuda and (frames.dtype.itemsize == 2 or torch.is_autocast_enabled("cuda"))


def _fill_up(tensor, dimension, count):
    """Adds `count` zeros at the end of a dimension."""
    return F.pad(tensor, [0, 0] * (tensor.dim() - 1 - dimension) + [0, count]) if count else tensor


def _relu():
    return nn.ReLU(inplace=True)


class _Double(nn.Module):
    """Bilinear upsampling by two."""

    def forward(self, frames):
        return (_Doubling.apply if torch.compiler.is_compiling() else _double)(frames)


class _Doubling(torch.autograd.Function):
    """Gathers its gradient. What PyTorch's compiler makes of its own scatters it, which takes a third of a step."""

    @staticmethod
    def forward(ctx, frames):
        return _double(frames)

    @staticmethod
    def backward(ctx, gradient):
        lines = gradient.permute(0, 2, 3, 1)  # as they lie in memory under channels_last
        return _halve(_halve(lines, 2), 1).permute(0, 3, 1, 2)


def _double(frames):
    return F.interpolate(frames, scale_factor=2, mode="bilinear", align_corners=True)


def _halve(gradient, dimension):
    """Sums the gradient along a dimension into what bilinear upsampling by two had made it of.

    Place `source` went into all results less than one away from it: there are two and a little to each place, so into
    five at most.
    """
    size = gradient.shape[dimension] // 2
    source = torch.arange(size, device=gradient.device)
    first = torch.floor((source - 1) * ((2 * size - 1) / max(size - 1, 1))).long() + 1
    total = 0
    for result in (first + k for k in range(5)):
        weight = (1 - (result * ((size - 1) / (2 * size - 1)) - source).abs()).clamp(min=0)
        weight = torch.where((result >= 0) & (result < 2 * size), weight, 0)
        weight = weight.view(-1, *[1] * (gradient.dim() - 1 - dimension))
        total = total + weight * gradient.index_select(dimension, result.clamp(0, 2 * size - 1))
    return total.to(gradient.dtype)


def _basic(channels_in, channels_out):
    return nn.Sequential(
        _Conv(channels_in, channels_out),
        _relu(),
        _Conv(channels_out, channels_out),
        _relu(),
        _Conv(channels_out, channels_out),
        _relu(),
    )


def _upsample(channels):
    return nn.Sequential(_Double(), _Conv(channels, channels), _relu())


def _head():
    return nn.Sequential(
        _Conv(64, 64), _relu(), _Conv(64, 64), _relu(), _Conv(64, TAPS), _relu(), _Double(), _Conv(TAPS, TAPS)
    )


class Network(nn.Module):
    """Figure 3 of the paper: two frames to the frame halfway between them.

    Args:
        kernel_normalization: divide each output pixel by the sum of its kernels' weights (arXiv 2011.01280).
        input_normalization: shift and scale what the network sees (not what the kernels are applied to) by the mean
            and standard deviation of the pair (same paper).

    Both are properties of the weights: wrong for those trained without, as the published ones were.

    Attributes:
        metadata: of the file that the weights are from, strings by name; None for weights of no file.
    """

    def __init__(self, kernel_normalization=False, input_normalization=False):
        super().__init__()
        self.metadata = None
        self.kernel_normalization = kernel_normalization
        self.input_normalization = input_normalization
        self.conv1 = _basic(6, 32)
        self.conv2 = _basic(32, 64)
        self.conv3 = _basic(64, 128)
        self.conv4 = _basic(128, 256)
        self.conv5 = _basic(256, 512)
        self.deconv5 = _basic(512, 512)
        self.deconv4 = _basic(512, 256)
        self.deconv3 = _basic(256, 128)
        self.deconv2 = _basic(128, 64)
        self.upsample5 = _upsample(512)
        self.upsample4 = _upsample(256)
        self.upsample3 = _upsample(128)
        self.upsample2 = _upsample(64)
        self.vertical1 = _head()
        self.vertical2 = _head()
        self.horizontal1 = _head()
        self.horizontal2 = _head()

    def forward(self, one, two, padding="improved", band_pixels=None, surrounded=False):
        """The frame between two frames.

        Args:
            one, two: (N, C, H, W) of any size, float32, range [0, 1], channel order BGR. Channels beyond the third
                (alpha, say) are filtered by the same kernels, unseen by the network.
            padding: "improved", or "paper" for the 25 pixels on the top and left that the paper has.
            band_pixels: how many pixels' kernels to hold in memory at once; None for all of them, as training needs.
            surrounded: for crops in training. The outer REACH pixels of both frames are there for the kernels to reach
                into, and neither seen by the network nor part of the result; what is left is aligned to 32 pixels.

        Returns:
            (N, C, H, W), float32, not clamped.
        """
        margin, alignment = PADDINGS[padding], ALIGNMENT
        if surrounded:
            reachable, alignment = (one, two), DEPTH
            one, two = (frame[..., REACH:-REACH, REACH:-REACH] for frame in reachable)
        batch, _, height, width = one.shape
        pair = torch.cat([one[:, :3], two[:, :3]], dim=1)  # (N, 6, H, W)
        if self.input_normalization:
            std, mean = torch.std_mean(pair, dim=(1, 2, 3), keepdim=True)
            pair = (pair - mean) / (std + 1e-3)
        precision = self.conv1[0].weight.dtype
        pair = _align(pair, margin, alignment).to(precision, memory_format=torch.channels_last)
        heads = (self.vertical1, self.horizontal1, self.vertical2, self.horizontal2)
        halves = self._halves(heads, pair)
        del pair
        # On a GPU, 16-bit kernels are applied in 16 bits, on tensor cores. In float16 also those that were bfloat16:
        # their values, well below one, fit, and it holds the frames more finely.
        applied = torch.float16 if one.is_cuda and precision.itemsize == 2 else one.dtype
        frames = reachable if surrounded else (F.pad(frame, [REACH] * 4, mode="replicate") for frame in (one, two))
        one, two = (frame.to(applied) for frame in frames)

        # No kernels are made for what was only padded: this is where the padding is undone.
        columns = slice(margin, margin + width)
        rows = height if band_pixels is None else max(1, band_pixels // (batch * width))
        bands = []
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            kernels = [
                _as_taps(_kernel_rows(head, half, margin + top, margin + bottom)[..., columns], applied)
                for head, half in zip(heads, halves, strict=True)
            ]  # 4 x (N, 51, bottom - top, W)
            reached = slice(top, bottom + TAPS - 1)
            bands.append(self._filter(one[:, :, reached], two[:, :, reached], *kernels))
        return torch.cat(bands, dim=2)

    def _halves(self, heads, pair):
        """What heads make of a pair before they enlarge it: for each (N, 51, H' / 2, W' / 2), H' and W' aligned.

        On tensor cores they have 56 channels, of which the last are zero.
        """
        features = self._features(pair)  # (N, 64, H' / 2, W' / 2)
        return [head[:6](features) for head in heads]

    def _features(self, pair):
        conv1 = self.conv1(pair)
        conv2 = self.conv2(F.avg_pool2d(conv1, 2))
        del conv1  # the only one that is not kept for a skip, and the largest
        conv3 = self.conv3(F.avg_pool2d(conv2, 2))
        conv4 = self.conv4(F.avg_pool2d(conv3, 2))
        conv5 = self.conv5(F.avg_pool2d(conv4, 2))
        up5 = self.upsample5(self.deconv5(F.avg_pool2d(conv5, 2))) + conv5
        up4 = self.upsample4(self.deconv4(up5)) + conv4
        up3 = self.upsample3(self.deconv3(up4)) + conv3
        return self.upsample2(self.deconv2(up3)) + conv2

    def _filter(self, one, two, vertical1, horizontal1, vertical2, horizontal2):
        exact = torch.promote_types(one.dtype, torch.float32)
        out = sepconv(one, vertical1, horizontal1).to(exact) + sepconv(two, vertical2, horizontal2).to(exact)
        if self.kernel_normalization:
            sums = [
                kernels.sum(1, keepdim=True, dtype=exact)
                for kernels in (vertical1, horizontal1, vertical2, horizontal2)
            ]
            out = _divide(out, sums[0] * sums[1] + sums[2] * sums[3])
        return out


def _divide(values, weights):
    """values / weights, but for weights so small that nothing sensible comes of it."""
    return values / weights.masked_fill(weights.abs() < 0.01, 1)


def _align(frames, margin, alignment):
    """Replicates the edges: `margin` pixels on the top and left, as many or more on the others, to the alignment."""
    height, width = frames.shape[2:]
    bottom, right = (-(size + 2 * margin) % alignment + margin for size in (height, width))
    return F.pad(frames, [margin, right, margin, bottom], mode="replicate")


def _as_taps(kernels, dtype):
    """Without the channels that tensor cores needed: the op is several times slower where they lie in between."""
    taps = kernels[:, :TAPS].to(dtype)
    return taps if taps.stride(3) <= TAPS else taps.contiguous(memory_format=torch.channels_last)


def _kernel_rows(head, half, top, bottom):
    """Rows `top` to `bottom` of what the end of a head (upsampling, convolution) makes of `half`."""
    double, conv = head[6], head[7]
    height = 2 * half.shape[2]
    if top == 0 and bottom == height:
        return conv(double(half))
    # One row more on each side, for the convolution; beyond the edge of the picture it meets zeros.
    above, below = int(top == 0), int(bottom == height)
    rows = _double_rows(half, torch.arange(top - 1 + above, bottom + 1 - below, device=half.device))
    if above or below:
        rows = F.pad(rows, [0, 0, above, below])
    return conv(rows, padding=(0, 1))


def _double_rows(half, rows):
    """Some rows of the bilinear upsampling (by two, align_corners=True) of (N, C, h, w): (N, C, len(rows), 2 w).

    Where a row lies depends on the height of the whole, so that no band can be upsampled by itself. As in PyTorch,
    positions are computed in float32.
    """
    height, width = half.shape[2:]
    position = rows.float() * ((height - 1) / (2 * height - 1))
    upper = position.long().clamp(max=height - 1)
    lower = (upper + 1).clamp(max=height - 1)
    share = (position - upper)[:, None, None]
    lines = half.permute(0, 2, 3, 1)  # as they lie in memory under channels_last
    exact = torch.promote_types(half.dtype, torch.float32)
    lines = torch.lerp(lines[:, upper].to(exact), lines[:, lower].to(exact), share.to(exact)).to(half.dtype)
    size = (len(rows), 2 * width)
    return F.interpolate(lines.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=True)


# --- Weights ---------------------------------------------------------------------------------------------------


_WEIGHT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_network(model="lf", weights="bundled", progress=None):
    """A `Network` with its weights, on the CPU in float32.

    Args:
        model: "l1" (trained for exact colours) or "lf" (for sharpness); chooses among bundled or published weights.
        weights: "bundled" (in weights/, beside this file), "published" (the authors', downloaded once into the user's
            cache; academic use only) or the path of a file: safetensors, or a state dict as the published ones are.
        progress: called with (bytes so far, bytes in all or None) while downloading.

    Raises:
        WeightsError: the file cannot be had, read, or does not fit the network.
        UsageError: an unknown model.
    """
    if model not in MODELS:
        raise UsageError(f"model {model!r} is not known: choose one of {', '.join(MODELS)}")
    if weights == "bundled":
        return _network_from(Path(__file__).parent / "weights" / f"{model}.safetensors")
    if weights == "published":
        return _network_from(_published(model, progress))
    return _network_from(Path(weights))


def published_name(name):
    """What weights files call a tensor of `Network`: conv1.0.weight -> moduleConv1.0.weight."""
    return f"module{name[0].upper()}{name[1:]}"


def _own_name(name):
    """The inverse of `published_name`; `net` is what the authors' later code says for `module`."""
    match = re.fullmatch(r"(?:module|net)([A-Z])(.*)", name)
    return match[1].lower() + match[2] if match else None


def _network_from(path):
    state, metadata = _read_weights(path)
    if metadata.get("format_version", "1") != "1":
        raise WeightsError(f"weights {path} are in format {metadata['format_version']}; this version reads format 1")
    network = Network(
        kernel_normalization=_flag(path, metadata, "kernel_normalization"),
        input_normalization=_flag(path, metadata, "input_normalization"),
    )
    expected = network.state_dict()
    given = {}  # our name -> the file's
    for name in state:
        given.setdefault(_own_name(name), name)
    lacking = [published_name(name) for name in expected if name not in given]
    strange = [name for name in state if name not in given.values() or _own_name(name) not in expected]
    for what, names in (("lack", lacking), ("hold, unknown to the network,", strange)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise WeightsError(f"weights {path} {what} {', '.join(names[:3])}{more}")
    for name, tensor in expected.items():
        found = state[given[name]]
        if found.shape != tensor.shape:
            raise WeightsError(
                f"weights {path}: {given[name]} has shape {tuple(found.shape)}, expected {tuple(tensor.shape)}"
            )
        if found.dtype not in _WEIGHT_TYPES or found.layout != torch.strided or found.device.type != "cpu":
            raise WeightsError(f"weights {path}: {given[name]} is no plain tensor of 16, 32 or 64-bit floating point")
        if not found.float().isfinite().all():
            raise WeightsError(f"weights {path}: {given[name]} has values that are not finite in float32")
    network.load_state_dict({name: state[given[name]].float() for name in expected})
    network.metadata = metadata
    return network.eval().requires_grad_(False)


def _flag(path, metadata, name):
    value = metadata.get(name, "false")
    if value not in ("true", "false"):
        raise WeightsError(f"weights {path}: {name} is {value!r}, expected true or false")
    return value == "true"


def _read_weights(path):
    """The tensors of a file by name, and its metadata; nothing but tensors is ever built from it."""
    try:
        with open(path, "rb") as file:
            is_torch = file.read(2) in (b"PK", b"\x80\x02")  # what torch.save writes today, and wrote in 2017
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WeightsError(f"weights {path}: {reason.lower()}; give bundled, published or a file") from error
    try:
        if is_torch:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or not all(
                isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
            ):
                raise WeightsError(f"weights {path} are not a state dict (a tensor for each name)")
            return state, {}
        from safetensors import safe_open  # here: training can do without

        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except ImportError as error:
        raise WeightsError(f"weights {path} cannot be read without the package safetensors") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights {path} are damaged, or hold more than tensors, which could run code: they were not loaded"
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # what a damaged pickle raises has no end
        raise WeightsError(f"weights {path} cannot be read: neither safetensors nor a PyTorch state dict") from error


def _cache_folder():
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # as in a container whose user has no account
        raise WeightsError(
            "the published weights are kept in the user's home folder, and there is none: set HOME"
        ) from error
    return Path(base) / "sepconv"


def _published(model, progress):
    """The path of the authors' weights: from the user's cache, else downloaded into it, whole or not at all."""
    address = PUBLISHED.format(model=model)
    path = _cache_folder() / address.rsplit("/", 1)[1]
    if path.exists():
        return path
    logging.getLogger(__name__).warning(
        "downloading %s: the authors' weights, which they give for academic use only", address
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            fetch(address, part, progress)
            _check_download(part)
    except FAILURES as error:
        raise WeightsError(
            f"the published weights could not be had from {address} ({why(error)}); "
            f"put the file at {path} by hand, or use --weights bundled"
        ) from error
    return path


def _check_download(path):
    try:
        _network_from(path)
    except WeightsError as error:
        raise OSError("what came is not the network's weights") from error


# --- Pictures in and out ---------------------------------------------------------------------------------------

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
        WeightsError, DeviceError: what was asked for is not to be had. A device is never quietly replaced.
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
            between = self.between(*pair) * white
            between = (between.round() if white > 1 else between).to(one.device, one.dtype)
            for index, result in zip(differing, between, strict=True):
                results[index] = result
        return restore(torch.stack(results) if results else one)

    @torch.inference_mode()
    def between(self, one, two):
        """The same for tensors (N, 1 to 4, H, W), float32, range [0, 1], on `device`, which are known to differ.

        On a GPU nothing waits for the result: the call returns when the work is queued.
        """
        return self._between(one, two).clamp(0, 1)

    def _between(self, one, two):
        channels = one.shape[1]
        if channels < 3:  # grey: the network sees three times the same
            three = (torch.cat([frames[:, :1].expand(-1, 3, -1, -1), frames[:, 1:]], dim=1) for frames in (one, two))
            between = self._between(*three)
            return torch.cat([between[:, :1], between[:, 3:]], dim=1)
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
    alpha = _divide(alpha, weight)
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
        raise DeviceError(f"device {name!r} is not there: {found}; use --device cpu, or a CUDA build of PyTorch")
    if device.type == "cuda" and cuda_problem():
        raise DeviceError(f"device {name!r}: {cuda_problem()}")
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
