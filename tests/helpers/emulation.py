"""Runs the launches that vfi/kernels/cuda.py plans on the CPU: sepconv.cu is compiled by emulation.cpp, with checks."""

import ctypes
import subprocess
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
FLAGS = (
    *("-std=c++17", "-O1", "-shared", "-fPIC", "-fno-strict-aliasing"),  # as CUDA's compilers: types may alias
    *("-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"),  # an index outside of an array ends the process
    *("-Wall", "-Wno-unknown-pragmas"),
)
GUARD = 256  # values before and behind each tensor, and between its rows and samples


class Emulator:
    """Compiles the emulation into a folder; raises CalledProcessError if that fails."""

    def __init__(self, folder):
        library = Path(folder) / "emulation.so"
        subprocess.run(["g++", *FLAGS, "-o", library, FOLDER / "emulation.cpp"], check=True)
        self._launch = ctypes.CDLL(str(library)).launch
        self._launch.restype = ctypes.c_char_p

    def run(self, launches, backwards=False):
        """Runs launches of vfi/kernels/cuda.py on CPU tensors; in reverse order of threads if asked to."""
        for launch in launches:
            failure = self._launch(
                launch.kernel.encode(),
                (ctypes.c_uint * 3)(*launch.grid),
                (ctypes.c_uint * 3)(*launch.block),
                ctypes.c_uint(launch.shared),
                launch.arguments.ctypes.data_as(ctypes.c_void_p),
                int(backwards),
            )
            if failure:
                raise RuntimeError(f"{launch.kernel}: {failure.decode()}")


class Guarded:
    """Tensors surrounded by guard values, which no kernel may overwrite and which would spoil every sum."""

    def __init__(self):
        self._rooms = []

    def copy(self, tensor):
        """The same values in the same order of dimensions in memory, with guards around."""
        if tensor.stride(3) == 0 and tensor.shape[3] > 1:  # expanded
            return self.copy(tensor[..., :1]).expand(tensor.shape)
        guarded = self.empty_like(tensor)
        guarded.copy_(tensor)
        return guarded

    def empty_like(self, tensor):
        strides = tensor.stride()
        extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, strides, strict=True))
        room = torch.full((GUARD + extent + GUARD,), float("nan"), dtype=tensor.dtype)
        view = room.as_strided(tensor.shape, strides, GUARD)
        self._rooms.append((room, view))
        return view

    def check(self):
        """Raises where something beside the tensors was written."""
        for room, view in self._rooms:
            kept = view.clone()
            view.fill_(float("nan"))
            if not room.isnan().all():
                raise AssertionError("a kernel wrote beside a tensor")
            view.copy_(kept)
