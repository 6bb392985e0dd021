"""The losses of training, and the networks whose features they compare."""

import pytest
import torch
import torch.nn.functional as F

from vfi.errors import DataError
from vfi.training.losses import LITE, FeatureDistance, weighted_l1


@pytest.fixture(scope="session")
def vgg(tmp_path_factory):
    """A file like torchvision's VGG-19: random convolutions with its names, and an unused tensor; path and state."""
    generator = torch.Generator().manual_seed(0)
    widths = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256, 19: 512, 21: 512, 23: 512, 25: 512}
    state, channels = {"classifier.6.bias": torch.zeros(1000)}, 3
    for index, width in (widths | {28: 512}).items():
        scale = (2 / (9 * channels)) ** 0.5
        state[f"features.{index}.weight"] = scale * torch.randn((width, channels, 3, 3), generator=generator)
        state[f"features.{index}.bias"] = 0.1 * torch.randn(width, generator=generator)
        channels = width
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path, state


@pytest.fixture
def frames(noise):
    one, two = (torch.from_numpy(noise(64, 64, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2))
    return one, two


def test_vgg_features_are_relu4_4(vgg, frames):
    """The definition: RGB, ImageNet's mean and standard deviation, pooling after conv1_2, conv2_2 and conv3_4."""
    path, state = vgg

    def features(x):
        x = x[:, [2, 1, 0]] - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        x = x / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        for index in (0, 2, "pool", 5, 7, "pool", 10, 12, 14, 16, "pool", 19, 21, 23, 25):
            if index == "pool":
                x = F.max_pool2d(x, 2)
            else:
                x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1).relu()
        assert x.shape == (1, 512, 8, 8)
        return x

    one, two = frames
    expected = (features(one) - features(two)).square().mean()
    assert torch.allclose(FeatureDistance(path)(one, two), expected, rtol=1e-4)


def test_lite_features_penalise_blur_more_than_brightness(frames):
    """Both changes have the same L1 distance. A package brings the weights of EfficientNet-Lite0."""
    distance = FeatureDistance(LITE)
    truth = frames[0].clone().requires_grad_()
    blurred = F.avg_pool2d(F.pad(truth, [1] * 4, mode="replicate"), 3, stride=1)
    brighter = truth + (blurred - truth).abs().mean()
    assert distance(truth, truth) == 0
    assert distance(blurred, truth) > 3 * distance(brighter, truth) > 0
    distance(blurred, frames[1]).backward()
    assert truth.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    assert not distance.training


def test_bad_feature_files_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"--features .*none\.pth: no such file or directory"):
        FeatureDistance(tmp_path / "none.pth")
    for name in ("text.pth", "other.pth"):
        with pytest.raises(DataError, match=f"--features .*{name} is not torchvision's VGG-19"):
            FeatureDistance(tmp_path / name)


def test_hard_samples_keep_the_least_weight():
    truth, average = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    average[1] = 100 / 255
    out = torch.full_like(truth, 1 / 255)
    for least in (0, 0.3, 1):
        loss, _, _ = weighted_l1(out, truth, average, 4, least)
        hard = least + (1 - least) * 4 / 104
        assert 255 * loss.item() == pytest.approx((1 + hard) / 2, rel=1e-4)


def test_hard_samples_weigh_less():
    truth = torch.zeros(2, 3, 4, 4)
    average = torch.stack([torch.full((3, 4, 4), level / 255) for level in (0.0, 12.0)])
    out = torch.full((2, 3, 4, 4), 2 / 255).requires_grad_()
    loss, error, simple = weighted_l1(out, truth, average, balance=4)
    assert 255 * loss.item() == pytest.approx((2 * 4 / 4 + 2 * 4 / 16) / 2)
    assert (error.item(), simple.item()) == (pytest.approx(2), pytest.approx(6))
    assert not error.requires_grad
    assert 255 * weighted_l1(out, truth, average, balance=1e9)[0].item() == pytest.approx(2, rel=1e-4)
