"""Weights files to a `Network`: the bundled ones, the authors' (downloaded on request), or any file in their format."""

import logging
import os
import pickle
import re
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from vfi.download import FAILURES, fetch, why
from vfi.errors import UsageError, WeightsError
from vfi.files import atomic_write
from vfi.network import Network

MODELS = ("l1", "lf")
FOLDER = Path(__file__).parent
PUBLISHED = "http://content.sniklaus.com/sepconv/network-{model}.pytorch"

_WEIGHT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_network(model="lf", weights="bundled", progress=None):
    """A `Network` with its weights, on the CPU in float32.

    Args:
        model: "l1" (trained for exact colours) or "lf" (for sharpness); chooses among bundled or published weights.
        weights: "bundled" (in weights/, beside this file), "published" (the authors', downloaded once into the user's
            cache; academic use only) or the path of a file: safetensors, or a state dict as the published ones are.
        progress: called with (bytes so far, bytes in all or None) while downloading.

    Raises:
        WeightsError: the file cannot be had, read, or does not fit the network.
        UsageError: an unknown model.
    """
    if model not in MODELS:
        raise UsageError(f"model {model!r} is not known: choose one of {', '.join(MODELS)}")
    if weights == "bundled":
        return _network_from(FOLDER / f"{model}.safetensors")
    if weights == "published":
        return _network_from(_published(model, progress))
    return _network_from(Path(weights))


def published_name(name):
    """What weights files call a tensor of `Network`: conv1.0.weight -> moduleConv1.0.weight."""
    return f"module{name[0].upper()}{name[1:]}"


def _own_name(name):
    """The inverse of `published_name`; `net` is what the authors' later code says for `module`."""
    match = re.fullmatch(r"(?:module|net)([A-Z])(.*)", name)
    return match[1].lower() + match[2] if match else None


def _network_from(path):
    state, metadata = _read_weights(path)
    if metadata.get("format_version", "1") != "1":
        raise WeightsError(f"weights {path} are in format {metadata['format_version']}; this version reads format 1")
    network = Network(
        kernel_normalization=_flag(path, metadata, "kernel_normalization"),
        input_normalization=_flag(path, metadata, "input_normalization"),
    )
    expected = network.state_dict()
    given = {}  # our name -> the file's
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
            raise WeightsError(f"weights {path}: {given[name]} is no plain tensor of 16, 32 or 64-bit floating point")
        if not found.float().isfinite().all():
            raise WeightsError(f"weights {path}: {given[name]} has values that are not finite in float32")
    network.load_state_dict({name: state[given[name]].float() for name in expected})
    network.metadata = metadata
    return network.eval().requires_grad_(False)


def _flag(path, metadata, name):
    value = metadata.get(name, "false")
    if value not in ("true", "false"):
        raise WeightsError(f"weights {path}: {name} is {value!r}, expected true or false")
    return value == "true"


def _read_weights(path):
    """The tensors of a file by name, and its metadata; nothing but tensors is ever built from it."""
    try:
        with open(path, "rb") as file:
            is_torch = file.read(2) in (b"PK", b"\x80\x02")  # what torch.save writes today, and wrote in 2017
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WeightsError(f"weights {path}: {reason.lower()}; give bundled, published or a file") from error
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
    except Exception as error:  # what a damaged pickle raises has no end
        raise WeightsError(f"weights {path} cannot be read: neither safetensors nor a PyTorch state dict") from error


def _cache_folder():
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # as in a container whose user has no account
        raise WeightsError(
            "the published weights are kept in the user's home folder, and there is none: set HOME"
        ) from error
    return Path(base) / "sepconv"


def _published(model, progress):
    """The path of the authors' weights: from the user's cache, else downloaded into it, whole or not at all."""
    address = PUBLISHED.format(model=model)
    path = _cache_folder() / address.rsplit("/", 1)[1]
    if path.exists():
        return path
    logging.getLogger(__name__).warning(
        "downloading %s: the authors' weights, which they give for academic use only", address
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            fetch(address, part, progress)
            _check_download(part)
    except FAILURES as error:
        raise WeightsError(
            f"the published weights could not be had from {address} ({why(error)}); "
            f"put the file at {path} by hand, or use --weights bundled"
        ) from error
    return path


def _check_download(path):
    try:
        _network_from(path)
    except WeightsError as error:
        raise OSError("what came is not the network's weights") from error
