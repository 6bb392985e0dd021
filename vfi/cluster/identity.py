"""What has to be the same on all machines, so that the result does not depend on which of them made what."""

import hashlib
import platform
from functools import cache
from pathlib import Path

import av
import torch

import vfi
from vfi.weights import checksum, load_network

PACKAGE = Path(vfi.__file__).parent

Identity = dict[str, str]


def identity(model: str, weights: str) -> Identity:
    """{what: which}: of the programs on this machine, and of the weights that they load."""
    return {
        "Python": platform.python_version(),
        "PyTorch": torch.__version__.partition("+")[0],
        "PyAV": av.__version__,
        "version of vfi": f"{vfi.__version__} ({_code()})",
        "weights": checksum(load_network(model, weights))[:12],
    }


@cache
def _code() -> str:
    """A checksum of the source code."""
    total = hashlib.sha256()
    files = [path for pattern in ("*.py", "*.cu") for path in PACKAGE.rglob(pattern)]
    for path in sorted(files, key=lambda path: path.relative_to(PACKAGE).as_posix()):
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def difference(other: Identity, own: Identity) -> str | None:
    """What is different there, as the end of a sentence; None if nothing is."""
    for name, value in own.items():
        if other.get(name) != value:
            return f"its {name} is {other.get(name)}, here {value}"
    return None
