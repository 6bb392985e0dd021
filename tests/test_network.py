"""The network against its definition, which is written a second time in helpers/definition.py."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import definition

from vfi import network
from vfi.interpolator import Interpolator
from vfi.network import REACH, Network
from vfi.weights import load_network


def test_size():
    parameters = sum(parameter.numel() for parameter in Network().parameters())
    assert round(parameters / 1e6, 1) == 21.7


@pytest.mark.parametrize("padding", network.PADDINGS)
@pytest.mark.parametrize("normalized", [False, True])
def test_network_is_its_definition(published_state, make_weights, pair, padding, normalized):
    flag = str(normalized).lower()
    net = load_network(weights=make_weights(kernel_normalization=flag, input_normalization=flag))
    double = {name: tensor.double() for name, tensor in published_state.items()}
    exact = definition.interpolate(double, *(frame.double() for frame in pair), padding, normalized, normalized)
    assert 0.05 < exact.std() < 10  # a picture of one colour would test little
    with torch.inference_mode():
        for band_pixels in (None, 2000):
            out = net(*pair, padding=padding, band_pixels=band_pixels)
            assert (out - exact).abs().max() < 2e-5  # float32; half a grey level is 2e-3


def test_interpolator_stays_within_half_a_level(published_file, published_state, noise):
    """`Interpolator`, with RGB and rounding, is exact to half a grey level and float32's error."""
    one, two = ((255 * noise(75, 90, seed=seed)).round().astype(np.uint8) for seed in (3, 4))
    for padding in network.PADDINGS:
        frames = (torch.from_numpy(a[..., ::-1] / 255.0).permute(2, 0, 1)[None] for a in (one, two))
        double = {name: tensor.double() for name, tensor in published_state.items()}
        exact = 255 * definition.interpolate(double, *frames, padding).clamp(0, 1)[0].permute(1, 2, 0).flip(2).numpy()
        interpolator = Interpolator(weights=published_file, device="cpu", precision="float32", padding=padding)
        assert np.abs(interpolator(one, two) - exact).max() < 0.51


@pytest.mark.parametrize("band_pixels", [1, 131, 1000, 131 * 67])
@pytest.mark.parametrize("size", [(67, 131), (128, 256)], ids=str)
def test_bands_give_the_same_picture(published_file, noise, size, band_pixels):
    """A whole frame of the second size, which needs no padding, is upsampled by PyTorch itself."""
    pair = [torch.from_numpy(noise(*size, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2)]
    net = load_network(weights=published_file)
    with torch.inference_mode():
        whole = net(*pair)
        assert (net(*pair, band_pixels=band_pixels) - whole).abs().max() < 1e-5


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_padded_channels_change_nothing(published_file, noise, monkeypatch, precision):
    """Neither for whole frames nor in bands; frames of 40 x 50 pixels are padded."""
    between = load_network("l1", published_file).to(precision, memory_format=torch.channels_last)
    frames = [torch.from_numpy(noise(40, 50, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2)]
    with torch.inference_mode():
        expected = between(*frames)
        monkeypatch.setattr(network, "_on_tensor_cores", lambda frames: True)
        seen = []
        for head in (between.vertical1, between.horizontal2):
            head[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
        for band_pixels in (None, 1000):
            assert torch.allclose(between(*frames, band_pixels=band_pixels), expected, atol=1e-6)
    assert set(seen) == {56}


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 2), (37, 64)], ids=str)
def test_the_gathered_gradient_of_upsampling(size):
    frames = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(2, 3, *(2 * side for side in size), dtype=torch.float64)
    expected, gathered = (
        torch.autograd.grad(double(frames), frames, gradient)[0]
        for double in (network._upsample_by_two, network._GatheringUpsampling.apply)
    )
    assert (gathered - expected).abs().max() < 1e-4  # its weights are computed in float32


def test_compiled_as_one_graph(published_file, pair):
    """Compiled by the front end only; the code for the processor is PyTorch's own matter."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph.code)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    plain = load_network("l1", published_file).requires_grad_(True)
    frames = [F.pad(frame[..., :32, :32].float(), [REACH] * 4) for frame in pair]
    gradients = []
    for between in (plain, torch.compile(plain, backend=backend, fullgraph=True)):
        plain.zero_grad()
        between(*frames, has_context=True).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in plain.parameters()])
    (code,) = graphs
    assert code.count("autograd_function_apply(") == 8  # the gradients of all upsamplings are gathered
    for gradient, expected in zip(*reversed(gradients), strict=True):
        assert (gradient - expected).norm() < 1e-3 * expected.norm()


def test_exported_for_any_size():
    """One program for all batches and all sizes that are multiples of 128; the network's results, but for rounding."""
    network = load_network("l1").eval()
    height, width = (128 * torch.export.Dim(name, max=64) for name in ("rows", "columns"))
    sizes = {0: torch.export.Dim("batch", max=16), 2: height, 3: width}
    example = tuple(torch.rand(2, 2, 3, 256, 256).unbind())
    program = torch.export.export(network, example, dynamic_shapes={"one": sizes, "two": sizes}).module()
    for size in ((1, 128, 128), (3, 128, 256), (1, 384, 128)):
        pair = torch.rand(2, size[0], 3, *size[1:]).unbind()
        with torch.inference_mode():
            assert torch.allclose(program(*pair), network(*pair), atol=1e-5)


def test_compiled_once_for_all_sizes():
    """By the part of the compiler that traces; the code for a processor is PyTorch's matter."""
    network = load_network("l1").eval()
    programs = []

    def keep(program, inputs):
        programs.append(program)
        return program.forward

    torch._dynamo.reset()
    compiled = torch.compile(network, dynamic=True, fullgraph=True, backend=keep)
    for size in ((1, 256, 384), (1, 384, 256)):
        pair = torch.rand(2, size[0], 3, *size[1:]).unbind()
        with torch.no_grad():
            assert torch.allclose(compiled(*pair), network(*pair), atol=1e-5)
    assert len(programs) == 1


def test_a_batch_gives_the_results_of_single_pairs(published_file, pair):
    net = load_network(weights=published_file)
    with torch.inference_mode():
        one, two = (torch.cat([frame, 1 - frame]) for frame in pair)
        out = net(one, two, band_pixels=5000)
        for index in range(2):
            single = net(one[index : index + 1], two[index : index + 1])
            assert (out[index : index + 1] - single).abs().max() < 1e-5


def test_gradients_reach_every_parameter(published_file, pair):
    net = load_network(weights=published_file).requires_grad_(True)
    net(*pair).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())
