"""Weights files to a `Network`: the bundled ones, the authors' (downloaded on request), or any file in their format."""

import hashlib
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from vfi.download import FAILURES, fetch, why
from vfi.errors import UsageError, WeightsError, reason
from vfi.files import atomic_write
from vfi.network import Network

Progress = Callable[[int, int | None], None]

MODELS = ("l1", "lf")
FOLDER = Path(__file__).parent
PUBLISHED = "http://content.sniklaus.com/sepconv/network-{model}.pytorch"
CHECKSUM = ".sha256"  # what follows the name of a downloaded file in the name of the file with its SHA-256

# SHA-256 of the bundled files
BUNDLED = {
    "l1": "25b2f148de9b45f73935f86c4b9d8a4a71e75d1de53820c1f56adc93afd0bb48",
    "lf": "d0eb5780101d4eaac07d6ad69cec533128d342827b1d6466a593e649c6a35636",
}

_WEIGHT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_network(
    model: str = "lf", weights: str | os.PathLike[str] = "bundled", progress: Progress | None = None
) -> Network:
    """A `Network` with its weights, on the CPU in float32.

    Args:
        model: "l1" (trained for exact colours) or "lf" (for sharpness); chooses among bundled or published weights.
        weights: "bundled" (beside this file), "published" (the authors', downloaded once into the user's cache; for
            academic use only) or the path of a file: safetensors, or a state dict in the format of the published ones.
        progress: called with (bytes so far, bytes in all or None) while downloading.

    Raises:
        WeightsError: the file cannot be found, downloaded or read, is damaged, or does not fit the network.
        UsageError: the model is not known.
    """
    if model not in MODELS:
        raise UsageError(f"model {model!r} is not known: choose one of {', '.join(MODELS)}")
    if weights == "bundled":
        path = FOLDER / f"{model}.safetensors"
        _check_sum(path, BUNDLED[model], "install the package again")
        return _network_from(path)
    if weights == "published":
        return _network_from(_published(model, progress))
    return _network_from(Path(weights))


def published_name(name: str) -> str:
    """The name of a tensor of `Network` in weights files: conv1.0.weight -> moduleConv1.0.weight."""
    return f"module{name[0].upper()}{name[1:]}"


def _own_name(name: str) -> str | None:
    """The inverse of `published_name`; the authors' later code has `net` instead of `module`."""
    match = re.fullmatch(r"(?:module|net)([A-Z])(.*)", name)
    return match[1].lower() + match[2] if match else None


def _network_from(path: Path) -> Network:
    state, metadata = _read_weights(path)
    if metadata.get("format_version", "1") != "1":
        raise WeightsError(f"weights {path} are in format {metadata['format_version']}; this version reads format 1")
    network = Network(
        kernel_normalization=_flag(path, metadata, "kernel_normalization"),
        input_normalization=_flag(path, metadata, "input_normalization"),
    )
    expected = network.state_dict()
    given: dict[str | None, str] = {}  # our name -> the file's
    for name in state:
        given.setdefault(_own_name(name), name)
    lacking = [published_name(name) for name in expected if name not in given]
    strange = [name for name in state if name not in given.values() or _own_name(name) not in expected]
    for what, names in (("lack", lacking), ("hold, unknown to the network,", strange)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise WeightsError(f"weights {path} {what} {', '.join(names[:3])}{more}")
    for name, tensor in expected.items():
        found = state[given[name]]
        if found.shape != tensor.shape:
            raise WeightsError(
                f"weights {path}: {given[name]} has shape {tuple(found.shape)}, expected {tuple(tensor.shape)}"
            )
        if found.dtype not in _WEIGHT_TYPES or found.layout != torch.strided or found.device.type != "cpu":
            raise WeightsError(
                f"weights {path}: {given[name]} is not a plain tensor of 16, 32 or 64-bit floating-point numbers"
            )
        if not found.float().isfinite().all():
            raise WeightsError(f"weights {path}: {given[name]} has values that are not finite in float32")
    network.load_state_dict({name: state[given[name]].float() for name in expected})
    network.metadata = metadata
    return network.eval().requires_grad_(False)


def _flag(path: Path, metadata: dict[str, str], name: str) -> bool:
    value = metadata.get(name, "false")
    if value not in ("true", "false"):
        raise WeightsError(f"weights {path}: {name} is {value!r}, expected true or false")
    return value == "true"


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, and its metadata. Only tensors are ever built from a file: it cannot run code."""
    try:
        with open(path, "rb") as file:
            is_torch = file.read(2) in (b"PK", b"\x80\x02")  # by torch.save of today, and of 2017
    except (OSError, ValueError) as error:
        raise WeightsError(f"weights {path}: {reason(error)}; give bundled, published or a file") from error
    try:
        if is_torch:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or not all(
                isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
            ):
                raise WeightsError(f"weights {path} are not a state dict (a tensor for each name)")
            return state, {}
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights {path} are damaged, or hold more than tensors, which could run code: they were not loaded"
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise WeightsError(f"weights {path} cannot be read: neither safetensors nor a PyTorch state dict") from error


def _cache_folder() -> Path:
    """The user's folder for downloads."""
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # for example in a container whose user has no account
        raise WeightsError(
            "the published weights are kept in the home folder, but this user has none: set HOME"
        ) from error
    return Path(base) / "sepconv"


def _published(model: str, progress: Progress | None) -> Path:
    """The path of the authors' weights in the user's cache; downloads them first if they are not there.

    The authors publish no checksums, and the address is not encrypted: the download is checked by what it holds. Its
    SHA-256 is kept beside it, and finds damage that happens later.
    """
    address = PUBLISHED.format(model=model)
    path = _cache_folder() / address.rsplit("/", 1)[1]
    checksum = path.with_name(path.name + CHECKSUM)
    if path.exists():
        if checksum.exists():
            _check_sum(path, checksum.read_text().strip(), "remove it, to download it again")
        return path
    logging.getLogger(__name__).warning("downloading %s: the authors' weights, for academic use only", address)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            fetch(address, part, progress)
            _check_download(part)
            checksum.write_text(_sha256(part) + "\n")
    except FAILURES as error:
        raise WeightsError(
            f"the published weights could not be downloaded from {address} ({why(error)}); "
            f"put the file at {path} yourself, or use --weights bundled"
        ) from error
    return path


def _check_download(path: Path) -> None:
    try:
        _network_from(path)
    except WeightsError as error:
        raise OSError("the file there is not the network's weights") from error


def _check_sum(path: Path, expected: str, remedy: str) -> None:
    try:
        found = _sha256(path)
    except OSError as error:
        raise WeightsError(f"weights {path}: {reason(error)}: {remedy}") from error
    if found != expected:
        raise WeightsError(f"weights {path} are damaged (their SHA-256 is not the expected one): {remedy}")


def checksum(network: Network) -> str:
    """SHA-256 of the weights of a network, the same for the same weights in any file."""
    total = hashlib.sha256()
    for tensor in network.state_dict().values():
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
