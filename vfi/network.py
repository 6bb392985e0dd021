"""The network of Niklaus, Mai and Liu, "Video Frame Interpolation via Adaptive Separable Convolution" (ICCV 2017).

Two frames in, the frame halfway between them out. An encoder and decoder with skip connections looks at both frames
and predicts, for every pixel, two vertical and two horizontal kernels of 51 taps; `sepconv` applies one pair of them
to each frame, and the sum is the result.

This file defines the network and nothing else: vfi/weights gives it weights, vfi/interpolator.py pictures.
"""

import torch
import torch.nn.functional as F
from torch import nn

from sepconv import sepconv

TAPS = 51  # of every kernel
REACH = TAPS // 2  # pixels that a kernel reaches to each side: half the motion from one frame to the other
STRIDE = 32  # pixels of a frame that are one in the deepest layer
CHANNEL_MULTIPLE = 8  # channels that a tensor core takes at once
ALIGNMENT = 128  # pixels: frames are padded to multiples of it, as the first public code does
PADDINGS = {"improved": 0, "paper": REACH}  # pixels that are added on the top and left


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
            frames = _fill_up(frames, 1, -frames.shape[1] % CHANNEL_MULTIPLE)
            weight = _fill_up(weight, 1, frames.shape[1] - self.in_channels)
            weight, bias = (_fill_up(tensor, 0, -self.out_channels % CHANNEL_MULTIPLE) for tensor in (weight, bias))
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

    def forward(self, one, two, padding="improved", band_pixels=None, has_context=False):
        """The frame between two frames.

        Args:
            one, two: (N, C, H, W) of any size, float32, range [0, 1], channel order BGR. Channels beyond the third
                (alpha, say) are filtered by the same kernels, unseen by the network.
            padding: "improved", or "paper" for the 25 pixels on the top and left that the paper has.
            band_pixels: how many pixels' kernels to hold in memory at once; None for all of them, as training needs.
            has_context: for crops in training. The outer REACH pixels of both frames are there for the kernels to reach
                into, and neither seen by the network nor part of the result; what is left is aligned to 32 pixels.

        Returns:
            (N, C, H, W), float32, not clamped.
        """
        margin, alignment = PADDINGS[padding], ALIGNMENT
        if has_context:
            reachable, alignment = (one, two), STRIDE
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
        op_dtype = torch.float16 if one.is_cuda and precision.itemsize == 2 else one.dtype
        frames = reachable if has_context else (F.pad(frame, [REACH] * 4, mode="replicate") for frame in (one, two))
        one, two = (frame.to(op_dtype) for frame in frames)

        # No kernels are made for what was only padded: this is where the padding is undone.
        columns = slice(margin, margin + width)
        rows = height if band_pixels is None else max(1, band_pixels // (batch * width))
        bands = []
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            kernels = [
                _as_taps(_kernel_rows(head, half, margin + top, margin + bottom)[..., columns], op_dtype)
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
            out = divide(out, sums[0] * sums[1] + sums[2] * sums[3])
        return out


def divide(values, weights):
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
