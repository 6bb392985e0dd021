"""The network of Niklaus, Mai and Liu, "Video Frame Interpolation via Adaptive Separable Convolution" (ICCV 2017).

Two frames in, the frame halfway between them out. An encoder and decoder with skip connections looks at both frames
and predicts, for every pixel, two vertical and two horizontal kernels of 51 taps; `sepconv` applies one pair of them
to each frame, and the sum is the result.

This file defines the network and nothing else: vfi/weights gives it weights, vfi/interpolator.py pictures. On a CPU,
vfi/cpu_network.py computes the same faster.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sepconv import sepconv

TAPS = 51  # of every kernel
REACH = TAPS // 2  # pixels that a kernel reaches to each side: half the motion from one frame to the other
STRIDE = 32  # pixels of a frame for each one in the deepest layer
CHANNEL_MULTIPLE = 8  # tensor cores compute so many channels at once
ALIGNMENT = 128  # pixels: frames are padded to multiples of it, as the first public code does
LEAST_WEIGHT = 0.01  # sums of weights that are nearer to zero count as 1 in kernel normalization
PADDINGS = {"improved": 0, "paper": REACH}  # pixels to add on the top and left

Padding = int | tuple[int, int]


class Conv(nn.Conv2d):
    """A convolution of 3 x 3 pixels.

    On tensor cores it pads the channels with zeros to a multiple of CHANNEL_MULTIPLE. Its results keep these channels,
    and the following layers accept the extra channels.
    """

    bias: nn.Parameter

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=3, padding=1)

    def forward(self, frames: Tensor, padding: Padding = 1) -> Tensor:
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if _on_tensor_cores(frames):
            frames = _zero_pad(frames, 1, -frames.shape[1] % CHANNEL_MULTIPLE)
            weight = _zero_pad(weight, 1, frames.shape[1] - self.in_channels)
            weight, bias = (_zero_pad(tensor, 0, -self.out_channels % CHANNEL_MULTIPLE) for tensor in (weight, bias))
        return F.conv2d(frames, weight, bias, padding=padding)


def _on_tensor_cores(frames: Tensor) -> bool:
    return frames.is_cuda and (frames.dtype.itemsize == 2 or torch.is_autocast_enabled("cuda"))


def _zero_pad(tensor: Tensor, dimension: int, count: int) -> Tensor:
    """Adds `count` zeros at the end of a dimension."""
    return F.pad(tensor, [0, 0] * (tensor.dim() - 1 - dimension) + [0, count]) if count else tensor


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class _Upsampling(nn.Module):
    """Bilinear upsampling by two."""

    def forward(self, frames: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            gathered: Tensor = _GatheringUpsampling.apply(frames)
            return gathered
        return _upsample_by_two(frames)


class _GatheringUpsampling(torch.autograd.Function):
    """Bilinear upsampling whose gradient gathers.

    The gradient that torch.compile generates scatters instead, which takes a third of a training step.
    """

    @staticmethod
    def forward(ctx: Any, frames: Tensor) -> Tensor:
        return _upsample_by_two(frames)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        lines = gradient.permute(0, 2, 3, 1)  # the order in memory under channels_last
        return _upsampling_gradient(_upsampling_gradient(lines, 2), 1).permute(0, 3, 1, 2)


def _upsample_by_two(frames: Tensor) -> Tensor:
    return F.interpolate(frames, scale_factor=2, mode="bilinear", align_corners=True)


def _upsampling_gradient(gradient: Tensor, dimension: int) -> Tensor:
    """The gradient of bilinear upsampling by two along a dimension; a source pixel contributes to at most five outputs.

    A source pixel contributes to all outputs that lie less than one source pixel away; these are about twice as dense.
    """
    size = gradient.shape[dimension] // 2
    source = torch.arange(size, device=gradient.device)
    first = torch.floor((source - 1) * ((2 * size - 1) / max(size - 1, 1))).long() + 1
    total: Any = 0
    for result in (first + k for k in range(5)):
        weight = (1 - (result * ((size - 1) / (2 * size - 1)) - source).abs()).clamp(min=0)
        weight = torch.where((result >= 0) & (result < 2 * size), weight, 0)
        weight = weight.view(-1, *[1] * (gradient.dim() - 1 - dimension))
        total = total + weight * gradient.index_select(dimension, result.clamp(0, 2 * size - 1))
    return total.to(gradient.dtype)


def _basic(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        Conv(channels_in, channels_out),
        _relu(),
        Conv(channels_out, channels_out),
        _relu(),
        Conv(channels_out, channels_out),
        _relu(),
    )


def _upsample(channels: int) -> nn.Sequential:
    return nn.Sequential(_Upsampling(), Conv(channels, channels), _relu())


def _head() -> nn.Sequential:
    return nn.Sequential(
        Conv(64, 64), _relu(), Conv(64, 64), _relu(), Conv(64, TAPS), _relu(), _Upsampling(), Conv(TAPS, TAPS)
    )


class Network(nn.Module):
    """Figure 3 of the paper: two frames to the frame halfway between them.

    Args:
        kernel_normalization: divide each output pixel by the sum of its kernels' weights (arXiv 2011.01280).
        input_normalization: shift and scale what the network sees (not what the kernels are applied to) by the mean
            and standard deviation of the pair (same paper).

    Both are properties of the weights, and wrong for weights that were trained without them: the published ones were.

    Attributes:
        metadata: of the file of the weights, strings by name; None for weights that are from no file.
    """

    def __init__(self, kernel_normalization: bool = False, input_normalization: bool = False) -> None:
        super().__init__()
        self.metadata: dict[str, str] | None = None
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

    @property
    def heads(self) -> tuple[nn.Sequential, ...]:
        """In the order in which `sepconv` takes their kernels, for one frame after the other."""
        return self.vertical1, self.horizontal1, self.vertical2, self.horizontal2

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, in which the convolutions are computed."""
        first = self.conv1[0]
        assert isinstance(first, Conv)  # see _basic
        return first.weight.dtype

    def forward(
        self,
        one: Tensor,
        two: Tensor,
        padding: str = "improved",
        band_pixels: int | None = None,
        has_context: bool = False,
    ) -> Tensor:
        """The frame between two frames.

        Args:
            one, two: (N, C, H, W) of any size, float32, range [0, 1], channel order BGR. Channels beyond the third
                (alpha, for example) are filtered by the same kernels, and not seen by the network.
            padding: "improved", or "paper" for 25 more pixels on the top and left.
            band_pixels: for how many pixels to hold kernels in memory at once; None for all, as training needs.
            has_context: for crops in training. The kernels reach into the outer REACH pixels of both frames, which are
                neither seen by the network nor part of the result; the rest is aligned to STRIDE pixels.

        Returns:
            (N, C, H, W), float32, not clamped.
        """
        margin, alignment = PADDINGS[padding], ALIGNMENT
        if has_context:
            reachable, alignment = (one, two), STRIDE
            one, two = (frame[..., REACH:-REACH, REACH:-REACH] for frame in reachable)
        batch, _, height, width = one.shape
        pair = prepare(one, two, self.input_normalization, margin, alignment, self.dtype)
        inner = self._run_heads(pair)
        del pair
        # On a GPU, 16-bit kernels are applied in float16, on tensor cores; bfloat16 kernels, too: their values are well
        # below one, and float16 holds the frames more exactly.
        op_dtype = torch.float16 if one.is_cuda and self.dtype.itemsize == 2 else one.dtype
        if has_context:
            one, two = (frame.to(op_dtype) for frame in reachable)
        else:
            one, two = (F.pad(frame, [REACH] * 4, mode="replicate").to(op_dtype) for frame in (one, two))

        # No kernels are computed for pixels that were only padded: this undoes the padding.
        columns = slice(margin, margin + width)
        if band_pixels is None:
            bands = [(0, height)]
        else:
            rows = max(1, band_pixels // (batch * width))
            bands = [(top, min(top + rows, height)) for top in range(0, height, rows)]
        results = []
        for top, bottom in bands:
            kernels = [
                _as_taps(_kernel_rows(head, features, margin + top, margin + bottom)[..., columns], op_dtype)
                for head, features in zip(self.heads, inner, strict=True)
            ]  # 4 x (N, 51, bottom - top, W)
            reached = slice(top, bottom + TAPS - 1)
            results.append(self._filter(one[:, :, reached], two[:, :, reached], *kernels))
        return torch.cat(results, dim=2) if len(results) > 1 else results[0]

    def _run_heads(self, pair: Tensor) -> list[Tensor]:
        """Runs the heads up to their upsampling: for each (N, 51, H' / 2, W' / 2), H' and W' aligned.

        On tensor cores the results have 56 channels, of which the last are zero.
        """
        features = self._features(pair)  # (N, 64, H' / 2, W' / 2)
        return [head[:6](features) for head in self.heads]

    def _features(self, pair: Tensor) -> Tensor:
        conv1 = self.conv1(pair)
        conv2 = self.conv2(F.avg_pool2d(conv1, 2))
        del conv1  # the largest, and the only one without a skip connection
        conv3 = self.conv3(F.avg_pool2d(conv2, 2))
        conv4 = self.conv4(F.avg_pool2d(conv3, 2))
        conv5 = self.conv5(F.avg_pool2d(conv4, 2))
        up5 = self.upsample5(self.deconv5(F.avg_pool2d(conv5, 2))) + conv5
        up4 = self.upsample4(self.deconv4(up5)) + conv4
        up3 = self.upsample3(self.deconv3(up4)) + conv3
        return self.upsample2(self.deconv2(up3)) + conv2

    def _filter(
        self, one: Tensor, two: Tensor, vertical1: Tensor, horizontal1: Tensor, vertical2: Tensor, horizontal2: Tensor
    ) -> Tensor:
        exact = torch.promote_types(one.dtype, torch.float32)
        out = sepconv(one, vertical1, horizontal1).to(exact) + sepconv(two, vertical2, horizontal2).to(exact)
        if self.kernel_normalization:
            sums = [
                kernels.sum(1, keepdim=True, dtype=exact)
                for kernels in (vertical1, horizontal1, vertical2, horizontal2)
            ]
            out = divide(out, sums[0] * sums[1] + sums[2] * sums[3])
        return out


def divide(values: Tensor, weights: Tensor) -> Tensor:
    """values / weights; see LEAST_WEIGHT."""
    return values / weights.masked_fill(weights.abs() < LEAST_WEIGHT, 1)


def prepare(one: Tensor, two: Tensor, normalizes: bool, margin: int, alignment: int, dtype: torch.dtype) -> Tensor:
    """What the network sees of two frames (N, C, H, W): both normalized, if asked for, and aligned.

    Args:
        normalizes: see `input_normalization` in `Network`.
        margin, alignment: see `_align`.

    Returns:
        (N, 6, H', W'), channels_last.
    """
    pair = torch.cat([one[:, :3], two[:, :3]], dim=1)  # (N, 6, H, W)
    if normalizes:
        pair = pair - _means(pair)
        count = pair[0].numel()
        variance = _means(pair.square()) * (count / (count - 1))
        pair = pair / (variance.sqrt() + 1e-3)  # torch.std_mean takes four times as long
    return _align(pair, margin, alignment).to(dtype, memory_format=torch.channels_last)


def _means(pairs: Tensor) -> Tensor:
    """The mean of each pair, (N, 1, 1, 1): of each row first, so that it does not depend on the number of threads."""
    return pairs.mean(3, keepdim=True).mean(dim=(1, 2), keepdim=True)


def _align(frames: Tensor, margin: int, alignment: int) -> Tensor:
    """Replicates the edges: `margin` pixels on the top and left, at least as many on the others, to the alignment."""
    height, width = frames.shape[2:]
    bottom, right = (-(size + 2 * margin) % alignment + margin for size in (height, width))
    return F.pad(frames, [margin, right, margin, bottom], mode="replicate")


def _as_taps(kernels: Tensor, dtype: torch.dtype) -> Tensor:
    """Drops the padding channels; they must not lie between the taps, where the op would be several times slower."""
    taps = kernels[:, :TAPS].to(dtype)
    return taps if taps.stride(3) <= TAPS else taps.contiguous(memory_format=torch.channels_last)


def _kernel_rows(head: nn.Sequential, features: Tensor, top: int, bottom: int) -> Tensor:
    """Rows `top` to `bottom` of the result of a head's end (upsampling, convolution) for `features`."""
    upsampling, conv = head[6], head[7]
    height = 2 * features.shape[2]
    if top == 0 and bottom == height:
        kernels: Tensor = conv(upsampling(features))
        return kernels
    # The convolution needs one more row on each side; beyond the edge of the picture it meets zeros.
    above, below = int(top == 0), int(bottom == height)
    rows = _upsample_rows(features, torch.arange(top - 1 + above, bottom + 1 - below, device=features.device))
    if above or below:
        rows = F.pad(rows, [0, 0, above, below])
    assert isinstance(conv, Conv)  # as _head has it
    return conv(rows, padding=(0, 1))


def _upsample_rows(features: Tensor, rows: Tensor) -> Tensor:
    """Some rows of the bilinear upsampling (by two, align_corners=True) of (N, C, h, w): (N, C, len(rows), 2 w).

    The position of a row depends on the height of the whole, so that a band cannot be upsampled by itself. As in
    PyTorch, positions are computed in float32.
    """
    height, width = features.shape[2:]
    position = rows.float() * ((height - 1) / (2 * height - 1))
    upper = position.long().clamp(max=height - 1)
    lower = (upper + 1).clamp(max=height - 1)
    share = (position - upper)[:, None, None]
    lines = features.permute(0, 2, 3, 1)  # the order in memory under channels_last
    exact = torch.promote_types(features.dtype, torch.float32)
    lines = torch.lerp(lines[:, upper].to(exact), lines[:, lower].to(exact), share.to(exact)).to(features.dtype)
    size = (rows.shape[0], 2 * width)  # unlike len, it may be symbolic
    return F.interpolate(lines.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=True)
