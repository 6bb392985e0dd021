"""A second, plain definition of the network, against which `vfi/network.py` is tested.

Plain functions on a state dict in the published naming, the whole frame at once, the paper's formula for the kernels.
"""

import torch
import torch.nn.functional as F

from sepconv import sepconv_reference


def interpolate(state, one, two, padding="improved", kernel_normalization=False, input_normalization=False):
    """one, two: (N, 3, H, W), BGR, [0, 1], in the dtype of the state dict's tensors."""
    height, width = one.shape[2:]
    begin = 25 if padding == "paper" else 0
    target = [-(-(size + 2 * begin) // 128) * 128 for size in (height, width)]
    grow = [begin, target[1] - width - begin, begin, target[0] - height - begin]
    aligned = [F.pad(frame, grow, mode="replicate") for frame in (one, two)]

    seen = aligned
    if input_normalization:
        both = torch.cat([one, two], dim=1).flatten(1)
        mean, std = both.mean(1).view(-1, 1, 1, 1), both.std(1).view(-1, 1, 1, 1)
        seen = [(frame - mean) / (std + 1e-3) for frame in aligned]

    def conv(x, name, index):
        return F.conv2d(x, state[f"module{name}.{index}.weight"], state[f"module{name}.{index}.bias"], padding=1)

    def basic(x, name):
        for index in (0, 2, 4):
            x = conv(x, name, index).relu()
        return x

    def double(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    def head(x, name):
        return conv(double(basic(x, name)), name, 7)

    skips = []
    x = torch.cat(seen, dim=1)
    for level in range(1, 6):
        x = basic(x, f"Conv{level}")
        skips.append(x)
        x = F.avg_pool2d(x, 2)
    for level in range(5, 1, -1):
        x = conv(double(basic(x, f"Deconv{level}")), f"Upsample{level}", 1).relu() + skips[level - 1]

    kernels = [[head(x, f"{kind}{number}") for kind in ("Vertical", "Horizontal")] for number in (1, 2)]
    out = sum(
        sepconv_reference(F.pad(frame, [25] * 4, mode="replicate"), *pair)
        for frame, pair in zip(aligned, kernels, strict=True)
    )
    if kernel_normalization:
        weight = sum(
            vertical.sum(1, keepdim=True) * horizontal.sum(1, keepdim=True) for vertical, horizontal in kernels
        )
        out = torch.where(weight.abs() < 0.01, out, out / weight)
    return out[:, :, begin : begin + height, begin : begin + width]
