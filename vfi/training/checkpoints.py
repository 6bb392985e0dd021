"""The files of a training run: checkpoints, from which it goes on, and weights for everybody else."""

import datetime
import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from vfi.errors import DataError, reason
from vfi.files import atomic_write
from vfi.weights import published_name

FORMAT = 2  # of checkpoints


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    data = io.BytesIO()  # PyTorch hides errors of files, such as a full disk
    torch.save({"format": FORMAT, **content}, data)
    with atomic_write(path) as part:
        part.write_bytes(data.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what `write_checkpoint` wrote.

    Raises:
        DataError: the file cannot be read, is damaged, or is not a checkpoint of this format.
    """
    remedy = "name another --out, or remove it to begin anew"
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip():  # PyTorch does not check the checksums
                raise ValueError
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version = checkpoint["format"]
    except OSError as error:
        raise DataError(f"{path}: {reason(error)}") from error
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(f"{path} is damaged, or is not a checkpoint of a training run: {remedy}") from error
    if version != FORMAT:
        raise DataError(f"{path} is in format {version}; this version reads format {FORMAT}: {remedy}")
    return checkpoint


def write_weights(path: Path, network: nn.Module, metadata: dict[str, str]) -> None:
    """Writes the weights of a `Network` as safetensors in float16, with the metadata that `load_network` needs.

    Raises:
        OSError: the file cannot be written.
    """
    state = network.state_dict().items()
    tensors = {published_name(name): tensor.half().cpu().contiguous() for name, tensor in state}
    metadata = metadata | {
        "kernel_normalization": "true",
        "input_normalization": "true",
        "format_version": "1",
        "date": datetime.date.today().isoformat(),
    }
    # Names of folders may hold bytes that are not UTF-8, which safetensors refuses.
    metadata = {name: text.encode(errors="backslashreplace").decode() for name, text in metadata.items()}
    with atomic_write(path) as part:
        part.write_bytes(save(tensors, metadata))
