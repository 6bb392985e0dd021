"""The network on a CPU, for inference: what vfi/network.py defines, in less time and less memory.

It is derived once from a `Network`, and gives its results but for rounding. Four things are different:

- Convolution, bias and ReLU are one call of oneDNN, with weights in its own layout, where PyTorch offers that.
- Bilinear upsampling and the convolution behind it change places: vfi/kernels/cpu_upsampling.py.
- The kernels of a pixel are made, applied and normalized tile by tile: vfi/kernels/cpu_inference.py.
- The layers of large frames work in bands of rows, so that no tensor among them is large; see BAND_BYTES.
"""

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi.kernels import cpu, cpu_inference, cpu_upsampling
from vfi.network import ALIGNMENT, LEAST_WEIGHT, PADDINGS, REACH, TAPS, Conv, Network, prepare

# Of a tensor in a band. Larger blocks are mapped by the C library at each allocation and given back, and to clear their
# pages takes the system longer than the convolution takes.
BAND_BYTES = 12 * 2**20
PRODUCT_BYTES = 32 * 2**20  # of the products of a convolution in a band: written, and read once soon after
BLOCK_REACH = 3  # pixels that three convolutions reach to each side
HEAD_CHANNELS = 64  # instead of TAPS inside the heads, the others zero: processors compute them in vectors


class CpuNetwork:
    """A `Network` for inference on a CPU.

    Args:
        network: on the CPU, of a dtype that is supported. Its weights are copied; later changes are not seen.
    """

    @torch.inference_mode()
    def __init__(self, network: Network) -> None:
        self._normalizes_input = network.input_normalization
        self._least_weight = LEAST_WEIGHT if network.kernel_normalization else 0.0
        self._dtype = network.dtype
        encoder = (network.conv1, network.conv2, network.conv3, network.conv4, network.conv5)
        decoder = (network.deconv5, network.deconv4, network.deconv3, network.deconv2)
        upsamplings = (network.upsample5, network.upsample4, network.upsample3, network.upsample2)
        memories = [_Memory() for _ in network.heads]  # the products of all heads are needed at once
        heads = [_convolutions(head) for head in network.heads]
        self._encoder = [_Block(_convolutions(block)) for block in encoder]
        self._decoder = [_Block(_convolutions(block)) for block in decoder]
        self._upsamplings = [_UpsampledConvolution(_convolutions(layers)[0], memories[0]) for layers in upsamplings]
        self._heads = [_Block(layers[:3]) for layers in heads]
        self._ends = [_UpsampledConvolution(head[3], memory) for head, memory in zip(heads, memories, strict=True)]
        self._biases = torch.stack([end.bias for end in self._ends])

    @staticmethod
    def supports(dtype: torch.dtype) -> bool:
        """float32, bfloat16, and float16 but on x86 processors from before 2013."""
        return dtype != torch.float64 and cpu.supports(dtype)

    @torch.inference_mode()
    def __call__(self, one: Tensor, two: Tensor, padding: str = "improved") -> Tensor:
        """The frame between two frames, (N, C, H, W), float32; see `Network.forward`."""
        pairs = zip(one.split(1), two.split(1), strict=True)
        return torch.cat([self._interpolate(*pair, PADDINGS[padding]) for pair in pairs])

    def _interpolate(self, one: Tensor, two: Tensor, margin: int) -> Tensor:
        features = self._features(prepare(one, two, self._normalizes_input, margin, ALIGNMENT, self._dtype))
        frames = [cpu_inference.pack(frame, REACH) for frame in (one, two)]
        out = torch.empty_like(one)
        for top, bottom in _bands(out.shape[2], 2 * self._heads[0].band_rows(features)):
            self._filter(out, frames, features, margin, top, bottom)
        return out

    def _features(self, pair: Tensor) -> Tensor:
        """What the heads see, (1, 64, H' / 2, W' / 2), of an aligned pair (1, 6, H', W')."""
        features = self._encoder[0].pooled(pair)
        skips = []
        for block in self._encoder[1:]:
            skips.append(block(features))
            features = F.avg_pool2d(skips[-1], 2)
        for block, upsampling in zip(self._decoder, self._upsamplings, strict=True):
            features = upsampling.add_to(skips.pop(), block(features))
        return features

    def _filter(
        self, out: Tensor, frames: Sequence[Tensor], features: Tensor, margin: int, top: int, bottom: int
    ) -> None:
        """The rows top <= y < bottom of `out`, by the kernels of the four heads."""
        rows, columns = (cpu_upsampling.blends(size) for size in features.shape[2:])
        width = out.shape[3]
        across = slice(*columns.reach(margin, margin + width))
        first, last = rows.reach(margin + top, margin + bottom)
        inner = [head.rows(features, first, last) for head in self._heads]  # 4 x (1, 64, last - first, W' / 2)
        for upper, lower in _bands(bottom, self._ends[0].band_rows(features), top):
            low_upper, low_lower = rows.reach(margin + upper, margin + lower)
            within = slice(low_upper - first, low_lower - first)
            cpu_inference.filter_pair(
                out[:, :, upper:lower],
                [frame[upper : lower + TAPS - 1] for frame in frames],
                [end.products(head[:, :, within])[:, across] for end, head in zip(self._ends, inner, strict=True)],
                self._biases,
                rows.part(margin + upper, margin + lower),
                columns.part(margin, margin + width),
                self._least_weight,
            )


def _convolutions(layers: nn.Sequential) -> list[Conv]:
    return [layer for layer in layers if isinstance(layer, Conv)]


class _Block:
    """Three convolutions, each with its ReLU, on tensors (1, C, H, W), channels_last."""

    def __init__(self, layers: Sequence[Conv]) -> None:
        self._convolutions = [Convolution(layer) for layer in layers]
        self._channels = max(convolution.channels for convolution in self._convolutions)

    def band_rows(self, frames: Tensor) -> int:
        """Rows of a band: an even number, so that a band can be pooled."""
        row = frames.shape[3] * self._channels * frames.itemsize
        return max(2, BAND_BYTES // row // 2 * 2)

    def rows(self, frames: Tensor, top: int, bottom: int) -> Tensor:
        """The rows top <= y < bottom of the result."""
        height = frames.shape[2]
        above, below = min(BLOCK_REACH, top), min(BLOCK_REACH, height - bottom)
        band = frames[:, :, top - above : bottom + below]
        for convolution in self._convolutions:
            band = convolution(band)
        return band[:, :, above : above + bottom - top]  # rows beyond lack neighbours, unless they end the frame

    def _bands(self, frames: Tensor) -> Iterator[Tensor]:
        """The result, band by band."""
        for top, bottom in _bands(frames.shape[2], self.band_rows(frames)):
            yield self.rows(frames, top, bottom)

    def __call__(self, frames: Tensor) -> Tensor:
        return _joined(self._bands(frames), frames.shape[2])

    def pooled(self, frames: Tensor) -> Tensor:
        """The means of the result's squares of 2 x 2 pixels; the result itself is never there as a whole."""
        return _joined((F.avg_pool2d(band, 2) for band in self._bands(frames)), frames.shape[2] // 2)


class Convolution:
    """A convolution and its ReLU, on tensors (1, C, H, W), channels_last."""

    def __init__(self, layer: Conv) -> None:
        weight: Tensor = layer.weight
        bias: Tensor = layer.bias
        if weight.shape[0] == TAPS:
            weight, bias = (
                F.pad(tensor, [0, 0] * (tensor.dim() - 1) + [0, HEAD_CHANNELS - TAPS]) for tensor in (weight, bias)
            )
        self.channels = weight.shape[0]
        self._bias = bias.clone()
        self._fuses = _can_fuse(weight.dtype)
        self._weight = _pack(weight) if self._fuses else weight.clone(memory_format=torch.channels_last)

    def __call__(self, frames: Tensor) -> Tensor:
        if self._fuses:
            return _convolve_fused(frames, self._weight, self._bias)
        return F.conv2d(frames, self._weight, self._bias, padding=1).relu_()


def _pack(weight: Tensor) -> Tensor:
    """The weights in oneDNN's own layout; it is the same for all sizes of frames."""
    size = (1, weight.shape[1], 64, 64)
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, [1, 1], [1, 1], [1, 1], 1, size)
    return packed


def _convolve_fused(frames: Tensor, packed: Tensor, bias: Tensor) -> Tensor:
    call = torch.ops.mkldnn._convolution_pointwise
    result: Tensor = call(frames, packed, bias, [1, 1], [1, 1], [1, 1], 1, "relu", [], "")
    return result


@lru_cache
def _can_fuse(dtype: torch.dtype) -> bool:
    """Whether these calls, which are PyTorch's private ones for its compiler, are there and right."""
    weight = torch.linspace(-0.5, 0.5, 16 * 8 * 9).view(16, 8, 3, 3).to(dtype, memory_format=torch.channels_last)
    frames = torch.linspace(0, 1, 8 * 16).view(1, 8, 4, 4).to(dtype, memory_format=torch.channels_last)
    bias = torch.linspace(-1, 1, 16).to(dtype)
    expected = F.conv2d(frames, weight, bias, padding=1).relu()
    try:
        result = _convolve_fused(frames, _pack(weight), bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
    tolerance = 1e-4 if dtype == torch.float32 else 0.02
    return result.dtype == dtype and torch.allclose(result.float(), expected.float(), rtol=tolerance, atol=tolerance)


class _Memory(threading.local):
    """Memory that is used again: fresh memory has to be cleared by the system, which takes as long as the products."""

    def __init__(self) -> None:
        self._values = torch.empty(0)

    def take(self, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of any values; what this thread was given before is lost."""
        count = math.prod(size)
        if self._values.dtype != dtype or self._values.numel() < count:
            self._values = torch.empty(count, dtype=dtype)
        return self._values[:count].view(size)


class _UpsampledConvolution:
    """Upsampling and the convolution behind it; see vfi/kernels/cpu_upsampling.py.

    Args:
        memory: for the products.

    Attributes:
        bias: (C,), float32.
    """

    def __init__(self, layer: Conv, memory: _Memory) -> None:
        weight: Tensor = layer.weight
        if weight.shape[1] == TAPS:
            weight = F.pad(weight, [0, 0, 0, 0, 0, HEAD_CHANNELS - TAPS])
        self._weights = cpu_upsampling.product_weights(weight)
        self.bias = layer.bias.float()
        self._memory = memory

    def band_rows(self, features: Tensor) -> int:
        """Rows of the result to compute at once, for features (1, C, h, w): as many as whole strips have."""
        row = features.shape[3] * self._weights.shape[1] * features.itemsize
        return cpu_inference.STRIP * max(1, 2 * (PRODUCT_BYTES // row) // cpu_inference.STRIP)

    def products(self, features: Tensor) -> Tensor:
        """(h, w, 3, pitch) of features (1, C, h, w) that are channels_last; the next take their place in `memory`."""
        height, width = features.shape[2:]
        pixels = features[0].permute(1, 2, 0).reshape(height * width, -1)
        out = self._memory.take((height * width, self._weights.shape[1]), features.dtype)
        return torch.mm(pixels, self._weights, out=out).view(height, width, 3, -1)

    def add_to(self, skip: Tensor, features: Tensor) -> Tensor:
        """skip + relu(convolution(upsampling(features))), in the memory of `skip`, (1, C, 2 h, 2 w)."""
        height, width = features.shape[2:]
        rows, columns = (cpu_upsampling.blends(size) for size in (height, width))
        out = skip[0].permute(1, 2, 0)
        for top, bottom in _bands(2 * height, self.band_rows(features)):
            first, last = rows.reach(top, bottom)
            products = self.products(features[:, :, first:last])
            cpu_upsampling.add_upsampled(out[top:bottom], products, self.bias, rows.part(top, bottom), columns)
        return skip


def _bands(bottom: int, rows: int, top: int = 0) -> Iterator[tuple[int, int]]:
    """The rows top <= y < bottom in bands of at most `rows`: the first row of each, and the one behind its last."""
    for first in range(top, bottom, rows):
        yield first, min(first + rows, bottom)


def _joined(bands: Iterator[Tensor], height: int) -> Tensor:
    """Bands, one below the other, as one tensor of `height` rows. Of the bands, one at a time is in memory."""
    first = next(bands)
    if first.shape[2] == height:
        return first
    size = (*first.shape[:2], height, first.shape[3])
    whole = torch.empty(size, dtype=first.dtype, memory_format=torch.channels_last)
    top = 0
    for band in itertools.chain([first], bands):
        whole[:, :, top : top + band.shape[2]] = band
        top += band.shape[2]
    return whole
