"""Loading weights: bundled, published and other files, valid and invalid; downloads."""

import http.server
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vfi import pictures, weights
from vfi.errors import UsageError, WeightsError
from vfi.interpolator import Interpolator
from vfi.weights import load_network

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("model", weights.MODELS)
def test_bundled_weights_beat_averaging(model):
    """The motion is known: the second frame is the first moved by eight pixels, the truth by four."""
    scene = pictures.read(ROOT / "images" / "one.png").pixels[100:228, 200:360]
    one, truth, two = (scene[:, start : start + 144] for start in (0, 4, 8))

    def error(picture):
        return np.abs(picture.astype(float) - truth)[:, 16:-16].mean()

    average = (one.astype(float) + two) / 2
    assert error(Interpolator(model)(one, two)) < 0.5 * error(average)


def test_names_of_the_later_public_code_load(published_state, published_file, tmp_path, pair):
    path = tmp_path / "later.pytorch"
    torch.save({name.replace("module", "net", 1): tensor for name, tensor in published_state.items()}, path)
    nets = [load_network(weights=file) for file in (published_file, path)]
    assert torch.equal(nets[0](*pair), nets[1](*pair))


def test_files_of_2017_load(published_state, published_file, tmp_path):
    path = tmp_path / "old.pytorch"
    torch.save(published_state, path, _use_new_zipfile_serialization=False)
    expected, found = (load_network(weights=file).state_dict() for file in (published_file, path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("model", weights.MODELS)
def test_bundled_files_have_metadata(model):
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
        (with_value("moduleConv1.0.bias", torch.zeros(32, dtype=torch.int32)), {}, "moduleConv1.0.bias is not a plain"),
        (with_value("moduleConv1.0.bias", torch.zeros(32).to(torch.float8_e4m3fn)), {}, "Conv1.0.bias is not a plain"),
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
def test_files_that_are_not_weights(tmp_path, content, message):
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
    """The authors' site on the loopback address: it sends `answer`, and keeps the `requests` it received."""

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
    assert [path.name for path in (tmp_path / "cache" / "sepconv").iterdir()] == [
        "network-l1.pytorch",
        "network-l1.pytorch.sha256",
    ]
    assert seen[-1][0] == seen[-1][1] == server.answer[2]
    assert caplog.text.count("academic use only") == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, b"", 0), "Not Found"),
        ((200, b"<html>log in first</html>", 25), "the file there is not the network's weights"),
        (None, "garbage"),
        ((200, b"PK\x03\x04", 1000), "the connection broke off after 4 of 1000 bytes"),
    ],
)
def test_failed_downloads_leave_nothing(server, tmp_path, answer, message):
    server.answer = answer
    with pytest.raises(WeightsError, match=f"could not be downloaded from http://127.*{message}.*put the file at"):
        load_network("lf", "published")
    assert list((tmp_path / "cache" / "sepconv").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the cache lies elsewhere there")
def test_no_home(monkeypatch):
    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user without an account
    with pytest.raises(WeightsError, match="home folder, but this user has none: set HOME"):
        load_network("lf", "published")


def test_no_connection(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsError, match="could not be downloaded from http://127"):
        load_network("lf", "published")


def test_metadata_switches_normalization_on(make_weights, tmp_path, published_state):
    save_file(published_state, tmp_path / "plain.safetensors")
    plain = load_network(weights=tmp_path / "plain.safetensors")
    assert (plain.kernel_normalization, plain.input_normalization) == (False, False)
    net = load_network(weights=make_weights(kernel_normalization="true", input_normalization="false"))
    assert (net.kernel_normalization, net.input_normalization) == (True, False)


def test_the_checksum_finds_damage(tmp_path, monkeypatch):
    """For a bundled file, and for one that was downloaded before."""
    for model in weights.MODELS:
        content = bytearray((weights.FOLDER / f"{model}.safetensors").read_bytes())
        content[-1] ^= 1
        (tmp_path / f"{model}.safetensors").write_bytes(content)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    for model in weights.MODELS:
        with pytest.raises(WeightsError, match=rf"{model}.safetensors are damaged .*: install the package again"):
            load_network(model)


def test_the_checksum_finds_damage_of_a_download(server, tmp_path):
    load_network("l1", "published")
    (path,) = (tmp_path / "cache" / "sepconv").glob("*.pytorch")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"are damaged .*: remove it, to download it again"):
        load_network("l1", "published")
