"""The network against its definition, weights files good and bad, and pictures of every kind."""

import http.server
import pickle
import platform
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import definition
from safetensors import safe_open
from safetensors.torch import save_file

from vfi import network, pictures, weights
from vfi.errors import DataError, UsageError, WeightsError
from vfi.interpolator import Interpolator
from vfi.network import REACH, Network
from vfi.weights import load_network

ROOT = Path(__file__).parent.parent


@pytest.fixture
def pair(noise):
    """Two float32 frames (1, 3, H, W) of a size that is no multiple of 128, nor even."""
    return [torch.from_numpy(noise(67, 131, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2)]


@pytest.fixture(scope="session")
def published(published_file):
    return Interpolator(weights=published_file, device="cpu", precision="float32")


# --- The definition ---


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
    assert 0.05 < exact.std() < 10  # the test would see little in a picture of one colour
    with torch.inference_mode():
        for band_pixels in (None, 2000):
            out = net(*pair, padding=padding, band_pixels=band_pixels)
            assert (out - exact).abs().max() < 2e-5  # float32; half a grey level is 2e-3


def test_whole_way_stays_within_half_a_level(published_file, published_state, noise):
    """Through the whole of `Interpolator`, RGB and rounding included: half a grey level, and float32's error."""
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
    """Only what needs no padding (the second size) is upsampled by PyTorch itself when it is whole."""
    pair = [torch.from_numpy(noise(*size, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2)]
    net = load_network(weights=published_file)
    with torch.inference_mode():
        whole = net(*pair)
        assert (net(*pair, band_pixels=band_pixels) - whole).abs().max() < 1e-5


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_channels_of_tensor_cores_change_nothing(published_file, noise, monkeypatch, precision):
    """Neither at once nor in bands; 40 x 50 pixels are aligned by what is beyond the edge of the picture."""
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
def test_the_gathered_gradient_of_doubling(size):
    frames = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(2, 3, *(2 * side for side in size), dtype=torch.float64)
    expected, gathered = (
        torch.autograd.grad(double(frames), frames, gradient)[0]
        for double in (network._double, network._Doubling.apply)
    )
    assert (gathered - expected).abs().max() < 1e-4  # its weights are computed in float32


def test_compiled_as_one_graph(published_file, pair):
    """By the part of the compiler that knows PyTorch; what it hands to a processor's is a matter of PyTorch's."""
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


def test_batches_are_single_pairs(published_file, pair):
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


# --- Weights ---


@pytest.mark.parametrize("model", weights.MODELS)
def test_bundled_weights_beat_averaging(model):
    """A known motion: the same picture moved by eight pixels, the truth by four."""
    scene = pictures.read(ROOT / "images" / "one.png").pixels[100:228, 200:360]
    one, truth, two = (scene[:, start : start + 144] for start in (0, 4, 8))

    def error(picture):
        return np.abs(picture.astype(float) - truth)[:, 16:-16].mean()

    average = (one.astype(float) + two) / 2
    assert error(Interpolator(model)(one, two)) < 0.5 * error(average)


def test_names_of_the_later_code_load_too(published_state, published_file, tmp_path, pair):
    path = tmp_path / "later.pytorch"
    torch.save({name.replace("module", "net", 1): tensor for name, tensor in published_state.items()}, path)
    nets = [load_network(weights=file) for file in (published_file, path)]
    assert torch.equal(nets[0](*pair), nets[1](*pair))


def test_files_of_2017_load_too(published_state, published_file, tmp_path):
    path = tmp_path / "old.pytorch"
    torch.save(published_state, path, _use_new_zipfile_serialization=False)
    expected, found = (load_network(weights=file).state_dict() for file in (published_file, path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("model", weights.MODELS)
def test_bundled_files_say_what_they_are(model):
    with safe_open(ROOT / "vfi" / "weights" / f"{model}.safetensors", framework="pt") as file:
        metadata = file.metadata()
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert metadata["model"] == model
    assert metadata["format_version"] == "1"
    assert metadata["kernel_normalization"] == metadata["input_normalization"] == "true"
    assert {"license", "training_data", "date"} < metadata.keys()


def without(*names):
    return lambda state: [state.pop(name) for name in names]


def with_value(name, value):
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        (without("moduleConv1.0.bias"), {}, "lack moduleConv1.0.bias$"),
        (without(*(f"moduleConv{i}.0.bias" for i in range(1, 6))), {}, r"moduleConv3.0.bias and 2 more$"),
        (with_value("moduleConv6.0.bias", torch.zeros(3)), {}, "hold, unknown to the network, moduleConv6.0.bias$"),
        (
            with_value("moduleConv1.0.bias", torch.zeros(3)),
            {},
            r"moduleConv1.0.bias has shape \(3,\), expected \(32,\)",
        ),
        (with_value("moduleConv1.0.bias", torch.full((32,), float("nan"))), {}, "moduleConv1.0.bias has values"),
        (
            with_value("moduleConv1.0.bias", torch.full((32,), 1e40, dtype=torch.float64)),
            {},
            "moduleConv1.0.bias has values",
        ),
        (with_value("moduleConv1.0.bias", torch.zeros(32, dtype=torch.int32)), {}, "moduleConv1.0.bias is no plain"),
        (with_value("moduleConv1.0.bias", torch.zeros(32).to(torch.float8_e4m3fn)), {}, "Conv1.0.bias is no plain"),
        (with_value("netConv1.0.bias", torch.zeros(32)), {}, "hold, unknown to the network, (net|module)Conv1.0.bias$"),
        (with_value("conv1.0.bias", torch.zeros(32)), {}, "hold, unknown to the network, conv1.0.bias$"),
        (None, {"kernel_normalization": "yes"}, "kernel_normalization is 'yes', expected true or false"),
        (None, {"format_version": "2"}, "are in format 2; this version reads format 1"),
    ],
)
def test_weights_that_do_not_fit_are_named(make_weights, change, metadata, message):
    with pytest.raises(WeightsError, match=message):
        load_network(weights=make_weights(change, **metadata))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"<html>not found</html>", "cannot be read"),
        (b"PK\x03\x04 but no archive", "cannot be read"),
        (b"\x80\x02 but no pickle", "cannot be read|hold more than tensors"),
        (pickle.dumps({"a": print}, protocol=2), "hold more than tensors"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, message):
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_network(weights=path)


def test_state_dicts_hold_tensors(tmp_path):
    torch.save({"moduleConv1.0.bias": [1, 2, 3]}, tmp_path / "list.pytorch")
    with pytest.raises(WeightsError, match="not a state dict"):
        load_network(weights=tmp_path / "list.pytorch")


def test_missing_weights(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        load_network(weights=tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="is a directory"):
        load_network(weights=tmp_path)
    with pytest.raises(UsageError, match="model 'l2' is not known: choose one of l1, lf"):
        load_network("l2")


def test_a_pickle_is_never_run(tmp_path):
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    torch.save({"moduleConv1.0.weight": Evil()}, tmp_path / "evil.pytorch")
    with pytest.raises(WeightsError, match="hold more than tensors, which could run code: they were not loaded"):
        load_network(weights=tmp_path / "evil.pytorch")
    assert not marker.exists()


@pytest.fixture
def server(published_file, tmp_path, monkeypatch):
    """The authors' site on the loopback address: `answer` says what it sends, `requests` what was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            site.requests.append(self.path)
            if site.answer is None:
                self.wfile.write(b"garbage\r\n\r\n")
                return
            status, body, size = site.answer
            self.send_response(status)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    body = published_file.read_bytes()
    site.answer, site.requests = (200, body, len(body)), []
    threading.Thread(target=site.serve_forever, daemon=True).start()
    monkeypatch.setattr(weights, "PUBLISHED", f"http://127.0.0.1:{site.server_port}/sepconv/network-{{model}}.pytorch")
    monkeypatch.setattr(weights, "_cache_folder", lambda: tmp_path / "cache" / "sepconv")
    yield site
    site.shutdown()
    site.server_close()


def test_published_weights_are_downloaded_once(server, published_state, tmp_path, caplog):
    seen = []
    for _ in range(2):
        net = load_network("l1", "published", progress=lambda done, total: seen.append((done, total)))
        assert torch.equal(net.conv1[0].bias, published_state["moduleConv1.0.bias"])
    assert server.requests == ["/sepconv/network-l1.pytorch"]
    assert [path.name for path in (tmp_path / "cache" / "sepconv").iterdir()] == ["network-l1.pytorch"]
    assert seen[-1][0] == seen[-1][1] == server.answer[2]
    assert caplog.text.count("academic use only") == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, b"", 0), "Not Found"),
        ((200, b"<html>log in first</html>", 25), "what came is not the network's weights"),
        (None, "garbage"),
        ((200, b"PK\x03\x04", 1000), "the connection broke off after 4 of 1000 bytes"),
    ],
)
def test_failed_downloads_leave_nothing(server, tmp_path, answer, message):
    server.answer = answer
    with pytest.raises(WeightsError, match=f"could not be had from http://127.*{message}.*put the file at"):
        load_network("lf", "published")
    assert list((tmp_path / "cache" / "sepconv").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the cache lies elsewhere there")
def test_no_home(monkeypatch):
    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does for a user without an account
    with pytest.raises(WeightsError, match="home folder, and there is none: set HOME"):
        load_network("lf", "published")


def test_no_connection(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsError, match="could not be had from http://127"):
        load_network("lf", "published")


# --- Pictures in and out ---


def scaled(picture, dtype):
    """A picture in [0, 1] in the range of a dtype."""
    white = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    return np.round(white * picture).astype(dtype) if white > 1 else picture.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2", np.float16, np.float32, np.float64], ids=str)
def test_arrays_come_back_as_they_came(published, noise, dtype):
    dtype = np.dtype(dtype)
    one, two = (scaled(noise(20, 30, seed=seed), dtype) for seed in (1, 2))
    between = published(one, two)
    assert between.dtype == dtype
    assert between.shape == one.shape
    expected = published(*(scaled(noise(20, 30, seed=seed), np.float64) for seed in (1, 2)))
    white = np.iinfo(dtype).max if dtype.kind == "u" else 1
    # Rounding of both pictures and of the result; the kernels amplify nothing.
    assert np.abs(between.astype(float) / white - expected).max() < {1: 1.2 / 255, 2: 1e-3}.get(dtype.itemsize, 1e-6)


def test_tensors_come_back_as_they_came(published, noise):
    one, two = (torch.from_numpy(noise(20, 30, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2))
    expected = published(*(frame[0].permute(1, 2, 0).numpy() for frame in (one, two)))
    between = published(one.clone().requires_grad_(), two)
    assert between.dtype == torch.float32
    assert not between.requires_grad
    assert not between.is_inference()
    assert np.array_equal(between[0].permute(1, 2, 0).numpy(), expected)
    channels_last = published(*(f.mul(255).round().byte().to(memory_format=torch.channels_last) for f in (one, two)))
    assert channels_last.dtype == torch.uint8


def test_identical_frames_never_reach_the_network(published, noise, monkeypatch):
    one, two = (scaled(noise(20, 30, seed=seed), np.uint16) for seed in (1, 2))
    frames = [torch.from_numpy(frame.copy()).permute(2, 0, 1) for frame in (one, two)]
    calls = []
    monkeypatch.setattr(
        published.network, "forward", lambda one, *rest: calls.append(len(one)) or torch.zeros_like(one)
    )
    same = published(one, one.copy())
    assert np.array_equal(same, one)
    assert same is not one
    assert calls == []
    mixed = published(torch.stack([frames[0]] * 3), torch.stack([frames[0], frames[1], frames[0]]))
    assert calls == [1]
    assert [torch.equal(frame, frames[0]) for frame in mixed] == [True, False, True]


def test_grey_is_three_equal_channels(published, noise):
    one, two = (noise(20, 30, 1, seed=seed) for seed in (1, 2))
    expected = published(*(np.repeat(frame, 3, axis=2) for frame in (one, two)))
    assert np.array_equal(published(one, two), expected[..., :1])
    assert np.array_equal(published(one[..., 0], two[..., 0]), expected[..., 0])


def test_opaque_pictures_are_those_without_alpha(published, noise):
    one, two = (scaled(noise(20, 30, seed=seed), np.uint8) for seed in (1, 2))
    opaque = [np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)]) for frame in (one, two)]
    between = published(*opaque)
    assert (between[..., 3] == 255).all()
    assert np.array_equal(between[..., :3], published(one, two))
    grey = published(*(frame[..., [0, 3]] for frame in opaque))
    assert (grey[..., 1] == 255).all()
    assert np.array_equal(grey[..., 0], published(one[..., 0], two[..., 0]))


def test_what_cannot_be_seen_does_not_bleed(published, noise):
    """Colours under full transparency make no difference."""
    pictures = [noise(20, 30, 4, seed=seed) for seed in (1, 2)]
    for picture in pictures:
        picture[:, :15, 3] = 0
    painted = [picture.copy() for picture in pictures]
    for picture in painted:
        picture[:, :15, :3] = 1
    assert np.allclose(published(*pictures), published(*painted), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (129, 2)], ids=str)
def test_any_size(published, noise, size):
    one, two = (noise(*size, seed=seed) for seed in (1, 2))
    between = published(one, two)
    assert between.shape == one.shape
    assert np.isfinite(between).all()


def test_results_are_clamped(published):
    black, white = np.zeros((8, 8, 3)), np.ones((8, 8, 3))
    between = published(black, white * 1000)
    assert between.min() >= 0
    assert between.max() <= 1


def test_padding_makes_a_difference(published_file, published, noise):
    paper = Interpolator(weights=published_file, device="cpu", precision="float32", padding="paper")
    one, two = (noise(40, 50, seed=seed) for seed in (1, 2))
    assert np.abs(paper(one, two) - published(one, two)).max() > 1e-3


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_16_bit_convolutions_stay_close(published_file, published, noise, precision):
    rough = Interpolator(weights=published_file, device="cpu", precision=precision)
    one, two = (scaled(noise(64, 64, seed=seed), np.uint8) for seed in (1, 2))
    difference = np.abs(rough(one, two).astype(float) - published(one, two))
    assert 0 < difference.mean() < 1


def test_auto_is_careful(published_file):
    """Without kernel normalization nobody has measured what 16 bits do to the picture."""
    assert Interpolator(weights=published_file, device="cpu").precision == "float32"
    expected = "bfloat16" if torch.cpu.get_capabilities().get("avx512_bf16") else "float32"
    if platform.machine() == "x86_64":
        assert Interpolator(device="cpu").precision == expected


def test_several_live_side_by_side(published_file, published, noise):
    one, two = (noise(20, 30, seed=seed) for seed in (1, 2))
    expected = published(one, two)
    Interpolator(device="cpu", precision="bfloat16", padding="paper")(one, two)
    assert np.array_equal(published(one, two), expected)


ARRAY = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("one", "two", "error", "message"),
    [
        (ARRAY, torch.zeros(1, 3, 4, 4), TypeError, "one is a ndarray and two a Tensor"),
        ("one.png", "two.png", TypeError, "one is a str and two a str, expected two arrays or two tensors"),
        (ARRAY, ARRAY[1:], ValueError, r"one has shape \(4, 4, 3\), two has \(3, 4, 3\)"),
        (ARRAY, ARRAY / 255, ValueError, "one has dtype uint8, two has float64"),
        (ARRAY.astype(int), ARRAY.astype(int), ValueError, "one is int64, expected uint8, uint16 or floating"),
        (torch.zeros(1, 3, 4, 4).int(), torch.zeros(1, 3, 4, 4).int(), ValueError, "one is torch.int32"),
        (np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4, 5), np.uint8), ValueError, "expected 1 to 4 channels"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), ValueError, "at least one pixel"),
        (np.zeros(4, np.uint8), np.zeros(4, np.uint8), ValueError, r"expected \(H, W\) or \(H, W, C\)"),
        (torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), ValueError, "expected 1 to 4 channels"),
        (ARRAY / 255, ARRAY * np.nan, ValueError, "two has values that are not finite"),
        (
            torch.full((1, 3, 4, 4), torch.inf),
            torch.zeros(1, 3, 4, 4),
            ValueError,
            "one has values that are not finite",
        ),
    ],
)
def test_what_is_no_pair_is_named(published, one, two, error, message):
    with pytest.raises(error, match=message):
        published(one, two)


def test_devices_and_precisions_are_checked():
    with pytest.raises(UsageError, match="device 'tpu9' is not known"):
        Interpolator(device="tpu9")
    with pytest.raises(UsageError, match="device 'mps' is not supported"):
        Interpolator(device="mps")
    with pytest.raises(DataError, match=r"device 'cuda:99' is not there: PyTorch sees \d+ NVIDIA GPUs here"):
        Interpolator(device="cuda:99")
    with pytest.raises(UsageError, match="precision 'float8' is not known"):
        Interpolator(device="cpu", precision="float8")
    with pytest.raises(UsageError, match="padding 'none' is not known"):
        Interpolator(padding="none")


def test_memory_of_a_large_pair():
    """What the README promises: less than 2.5 GiB at its peak for 1920x1080 in float32."""
    result = subprocess.run(
        [sys.executable, "-m", "tools.speed", "--memory", "1920x1080"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(result.stdout.split("peak memory ")[1].split(" GiB")[0]) < 2.5


def test_metadata_switches_normalization_on(make_weights, tmp_path, published_state):
    save_file(published_state, tmp_path / "plain.safetensors")
    plain = load_network(weights=tmp_path / "plain.safetensors")
    assert (plain.kernel_normalization, plain.input_normalization) == (False, False)
    net = load_network(weights=make_weights(kernel_normalization="true", input_normalization="false"))
    assert (net.kernel_normalization, net.input_normalization) == (True, False)
