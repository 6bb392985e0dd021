"""The network on a CPU against its definition, and against the plain network in the same precision."""

import pytest
import torch
from helpers import definition
from helpers.threads import assert_same_for_any_threads

from vfi import cpu_network
from vfi.cpu_network import CpuNetwork
from vfi.network import PADDINGS
from vfi.weights import load_network


@pytest.fixture(params=[True, False], ids=["fused", "plain"])
def fuses(request, monkeypatch):
    """With oneDNN's convolution, if this PyTorch has it, and with the one that all have."""
    if request.param and not cpu_network._can_fuse(torch.float32):
        pytest.skip("this PyTorch has no fused convolution")
    if not request.param:
        monkeypatch.setattr(cpu_network, "_can_fuse", lambda dtype: False)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("normalized", [False, True])
def test_it_is_the_definition(published_state, make_weights, pair, padding, normalized, fuses):
    flag = str(normalized).lower()
    network = CpuNetwork(load_network(weights=make_weights(kernel_normalization=flag, input_normalization=flag)))
    double = {name: tensor.double() for name, tensor in published_state.items()}
    exact = definition.interpolate(double, *(frame.double() for frame in pair), padding, normalized, normalized)
    assert 0.05 < exact.std() < 10  # a picture of one colour would test little
    assert (network(*pair, padding) - exact).abs().max() < 2e-5  # half a grey level is 2e-3


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_16_bits_are_as_exact_as_those_of_the_plain_network(noise, precision):
    """Upsampled features and finished kernels are not rounded, but products are."""
    exact = load_network("l1").double()
    plain = load_network("l1").to(precision, memory_format=torch.channels_last)
    frames = [torch.from_numpy(noise(67, 131, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2)]
    with torch.inference_mode():
        expected = exact(*(frame.double() for frame in frames))
        error, allowed = (
            (network(*frames) - expected).square().mean().sqrt() for network in (CpuNetwork(plain), plain)
        )
    assert error < 1.1 * allowed


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("band", "products"), [(1, 1), (2**19, 2**17)])
def test_bands_give_the_same_picture(noise, monkeypatch, precision, band, products):
    """Convolutions that lack a neighbouring row, or products of other rows, would show."""
    network = CpuNetwork(load_network("l1").to(precision, memory_format=torch.channels_last))
    frames = [torch.from_numpy(noise(140, 150, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2)]
    whole = [network(*frames, padding) for padding in PADDINGS]
    monkeypatch.setattr(cpu_network, "BAND_BYTES", band)
    monkeypatch.setattr(cpu_network, "PRODUCT_BYTES", products)
    for padding, expected in zip(PADDINGS, whole, strict=True):
        assert (network(*frames, padding) - expected).abs().max() < (1e-5 if precision == torch.float32 else 0.01)


def test_any_channels_and_batches(noise):
    """Channels beyond the third are filtered by the same kernels; each pair of a batch is interpolated by itself."""
    plain = load_network("l1")
    network = CpuNetwork(plain)
    one, two = (
        torch.stack([torch.from_numpy(noise(40, 50, 5, seed=seed + index)).permute(2, 0, 1) for index in (0, 7)])
        for seed in (1, 2)
    )
    with torch.inference_mode():
        expected = plain(one, two)
    assert expected.shape == (2, 5, 40, 50)
    assert (network(one, two) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_results_do_not_depend_on_threads(pair, precision):
    network = CpuNetwork(load_network("l1").to(precision, memory_format=torch.channels_last))
    assert_same_for_any_threads(lambda: network(*pair))


@pytest.mark.parametrize("fault", ["missing", "changed", "wrong"])
def test_a_pytorch_without_the_fused_convolution(monkeypatch, fault):
    """Its calls are private: another version may have none, others, or such as do something else."""

    def convolve(*arguments):
        if fault == "missing":
            raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")
        if fault == "changed":
            raise RuntimeError("mkldnn::_convolution_pointwise() is missing value for argument 'algorithm'")
        return torch.zeros(1, 16, 4, 4)

    cpu_network._can_fuse.cache_clear()
    monkeypatch.setattr(cpu_network, "_convolve_fused", convolve)
    try:
        assert not cpu_network._can_fuse(torch.float32)
    finally:
        cpu_network._can_fuse.cache_clear()
