"""Video frame interpolation: all that the programs are made of.

    network.py           THE NETWORK: one nn.Module and nothing else
    cpu_network.py       the same for inference on a CPU, faster
    weights/             weights files to a Network; the bundled ones, with their model card
    interpolator.py      Interpolator: arrays or tensors in and out; device, precision, alpha
    pictures.py          image files to arrays and back; picture_kinds.py names those that cannot be read
    metrics.py           PSNR, SSIM, interpolation error, LPIPS
    cuts.py              where the scene changes; repeated frames
    errors.py            the errors that are shown to users
    files.py             files that are written whole or not at all, locks, checks of a target
    download.py          downloads that go on where they broke off
    command_line.py      what the programs share
    moviepy_effect.py    the effect for moviepy
    kernels/             the op, computed: Numba on CPUs, CUDA on NVIDIA GPUs
    video/               a video with more frames
    benchmarks/          quality on frames that are known
    training/            training the network from any folder of videos
    cluster/             work shared out to many processes and machines

`Interpolator` and `load_network` are imported on first use, because PyTorch takes seconds to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfi.interpolator import Interpolator
    from vfi.weights import load_network

__all__ = ["Interpolator", "__version__", "load_network"]
__version__ = "1.0.0.dev0"


def __getattr__(name: str) -> Any:
    if name == "Interpolator":
        from vfi.interpolator import Interpolator

        return Interpolator
    if name == "load_network":
        from vfi.weights import load_network

        return load_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
