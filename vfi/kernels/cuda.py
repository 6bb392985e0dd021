"""The op on NVIDIA GPUs: plans which kernels of sepconv.cu to launch, compiles them by CuPy, and launches them.

CuPy compiles a kernel for the card when it is first launched there, and keeps it on disk (~/.cupy/kernel_cache). Sizes
and strides are arguments of the kernels: a new resolution compiles nothing. Launches go to PyTorch's current stream on
the tensors' device, and nothing waits for them.

Shapes and names are those of sepconv.py. Planning needs no GPU, so that the tests can run the same launches elsewhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("sepconv.cu")
OPTIONS = ("--std=c++17",)
CUPY_OPTIONS = ("-ftz=true",)  # what CuPy adds: the smallest float32 numbers become zero

TYPES = {torch.float16: "Half", torch.bfloat16: "BFloat16", torch.float32: "float", torch.float64: "double"}

CHANNELS = (3, 4)  # numbers of channels with fast kernels
TENSOR_CAPABILITY = (8, 0)  # the first cards with mma.m16n8k16


def _read_constants(source: Path) -> dict[str, int]:
    """The numbers that a CUDA source defines by `constexpr int NAME = EXPRESSION;`: each stands in one place only."""
    constants: dict[str, int] = {}
    for name, expression in re.findall(r"^constexpr int (\w+) = (.*?);", source.read_text(), re.MULTILINE):
        constants[name] = eval(expression.replace("/", "//"), {"__builtins__": {}}, constants)
    return constants


_CU = _read_constants(SOURCE)
TAPS, LANES, WARPS, TENSOR_WARPS = (_CU[name] for name in ("TAPS", "LANES", "WARPS", "TENSOR_WARPS"))
FORWARD_TILE = (LANES, _CU["FORWARD_ROWS"])  # pixels, rows
GRADIENT_TILE = (LANES, _CU["GRADIENT_ROWS"])
FRAME_TILE = (LANES, _CU["FRAME_ROWS"])
TENSOR_TILE = (_CU["TENSOR_COLUMNS"], _CU["TENSOR_ROWS"])
ANY_THREADS = 256  # of a block of the kernels for any number of taps
MOST_BLOCKS = 2**16 - 1  # along the second and third dimension of a grid

_TENSORS = ("frame", "vertical", "horizontal", "out", "grad_out", "grad_frame", "grad_vertical", "grad_horizontal")
_SIZES = ("batch", "channels", "taps", "height", "width")
_TENSOR = np.dtype([("data", np.uint64), ("stride", np.int64, 4)])
_ARGUMENTS = np.dtype([(name, _TENSOR) for name in _TENSORS] + [(name, np.int32) for name in _SIZES], align=True)


Arguments = np.ndarray[Any, Any]
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    Attributes:
        kernel: its name with template arguments.
        grid, block: three sizes each.
        shared: bytes of dynamic shared memory.
        arguments: `Arguments` of sepconv.cu, an array of one element.
    """

    kernel: str
    grid: Grid
    block: Grid
    shared: int
    arguments: Arguments


# --- Planning --------------------------------------------------------------------------------------------------


def plan_forward(
    out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor, capability: tuple[int, int]
) -> list[Launch]:
    """The launches that fill `out`, on a card of this compute capability (major, minor)."""
    if not out.numel():
        return []
    sizes = _sizes(frame, vertical)
    arguments = _arguments(sizes, frame=frame, vertical=vertical, horizontal=horizontal, out=out)
    kind, channels = TYPES[frame.dtype], frame.shape[1]
    if frame.dtype in (torch.float16, torch.bfloat16) and capability >= TENSOR_CAPABILITY:
        grid = _tiles(frame, sizes, sizes[3:], TENSOR_TILE)
        if grid:
            name = f"forward_tensor_cores<{kind}, {channels}>"
            return [Launch(name, grid, (LANES, TENSOR_WARPS, 1), tensor_memory(channels), arguments)]
    grid = _tiles(frame, sizes, sizes[3:], FORWARD_TILE)
    if grid:
        return [Launch(f"forward<{kind}, {channels}>", grid, (LANES, WARPS, 1), 0, arguments)]
    return [plan_any(f"forward_any<{kind}>", out.numel(), arguments)]


def plan_backward(
    gradients: Sequence[Tensor],
    grad_out: Tensor,
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    output_mask: Sequence[bool],
) -> list[Launch]:
    """The launches that fill those of the three `gradients` that `output_mask` asks for; `grad_out` is not empty."""
    sizes = _sizes(frame, vertical)
    kind, channels = TYPES[frame.dtype], frame.shape[1]
    grad_frame, *grad_kernels = (
        tensor if wanted else None for tensor, wanted in zip(gradients, output_mask, strict=True)
    )
    launches = []
    if output_mask[0]:
        arguments = _arguments(
            sizes, grad_out=grad_out, vertical=vertical, horizontal=horizontal, grad_frame=grad_frame
        )
        grid = _tiles(frame, sizes, frame.shape[2:], FRAME_TILE)
        if grid:
            launches.append(Launch(f"backward_frame<{kind}, {channels}>", grid, (LANES, WARPS, 1), 0, arguments))
        else:
            launches.append(plan_any(f"backward_frame_any<{kind}>", frame.numel(), arguments))
    if any(output_mask[1:]):
        arguments = _arguments(
            sizes,
            grad_out=grad_out,
            frame=frame,
            vertical=vertical,
            horizontal=horizontal,
            grad_vertical=grad_kernels[0],
            grad_horizontal=grad_kernels[1],
        )
        grid = _tiles(frame, sizes, sizes[3:], GRADIENT_TILE)
        if grid:
            launches.append(Launch(f"backward_kernels<{kind}, {channels}>", grid, (LANES, WARPS, 1), 0, arguments))
        else:
            launches.append(plan_any(f"backward_kernels_any<{kind}>", vertical.numel(), arguments))
    return launches


def _sizes(frame: Tensor, vertical: Tensor) -> tuple[int, int, int, int, int]:
    """batch, channels, taps, height, width"""
    batch, taps, height, width = vertical.shape
    return batch, frame.shape[1], taps, height, width


def _arguments(sizes: Sequence[int], **tensors: Tensor | None) -> Arguments:
    arguments = np.zeros(1, _ARGUMENTS)
    for name, tensor in tensors.items():
        if tensor is not None:
            arguments[name] = (tensor.data_ptr(), tensor.stride())
    for name, size in zip(_SIZES, sizes, strict=True):
        arguments[name] = size
    return arguments


def _tiles(frame: Tensor, sizes: Sequence[int], area: Sequence[int], tile: tuple[int, int]) -> Grid | None:
    """The grid of tiles over an area (height, width); None if only the kernels for any sizes can be used."""
    batch, channels, taps = sizes[:3]
    across, down = -(-area[1] // tile[0]), -(-area[0] // tile[1])
    fast = taps == TAPS and channels in CHANNELS and frame.dtype != torch.float64
    return (across, down, batch) if fast and max(down, batch) <= MOST_BLOCKS else None


def tensor_memory(channels: int) -> int:
    """Bytes of shared memory: what a tile sees of the frame, and the kernels of a patch for each warp."""
    frame = channels * _CU["TENSOR_FRAME_ROWS"] * _CU["TENSOR_FRAME_PITCH"]
    return 2 * (frame + TENSOR_WARPS * _CU["PATCH_VALUES"])


def plan_any(name: str, results: int, arguments: Arguments) -> Launch:
    """A launch of a kernel with a thread for each of its `results`."""
    return Launch(name, (-(-results // ANY_THREADS), 1, 1), (ANY_THREADS, 1, 1), 0, arguments)


# --- Compiling elsewhere ---------------------------------------------------------------------------------------


def kernel_names(architecture: int) -> list[str]:
    """The names of all kernels that there are for an architecture such as 90 (sm_90), with template arguments."""
    names = [
        f"{kernel}_any<{kind}>"
        for kernel in ("forward", "backward_kernels", "backward_frame")
        for kind in TYPES.values()
    ]
    for kind in ("float", "Half", "BFloat16"):
        for channels in CHANNELS:
            names += [f"{kernel}<{kind}, {channels}>" for kernel in ("forward", "backward_kernels", "backward_frame")]
            if kind != "float" and divmod(architecture, 10) >= TENSOR_CAPABILITY:
                names.append(f"forward_tensor_cores<{kind}, {channels}>")
    return names


def resources(
    names: Sequence[str], architecture: int, sources: Sequence[Path] = (SOURCE,)
) -> dict[str, tuple[int, ...]]:
    """The resources that kernels take on a GPU, as NVRTC compiles them; no GPU is needed.

    Args:
        names: as `kernel_names` has them.
        architecture: 90 for sm_90, and so on.

    Returns:
        For each name (registers of a thread, bytes that it spills, static shared memory of a block in bytes).

    Raises:
        RuntimeError: the source does not compile; the message is the compiler's.
    """
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(_code(sources), sources[-1].name, (), ())
    try:
        for name in names:
            nvrtc.addNameExpression(program, name)
        try:
            nvrtc.compileProgram(program, (*OPTIONS, *CUPY_OPTIONS, f"-arch=sm_{architecture}", "--ptxas-options=-v"))
        except nvrtc.NVRTCError as error:
            raise RuntimeError(nvrtc.getProgramLog(program)) from error
        log = nvrtc.getProgramLog(program)
        found = {}
        for name in names:
            report = log.partition(f"function '{nvrtc.getLoweredName(program, name)}'")[2].partition("Compiling")[0]
            patterns = (r"Used (\d+) registers", r"(\d+) bytes spill stores", r"(\d+) bytes smem")
            matches = [re.search(pattern, report) for pattern in patterns]
            found[name] = tuple(int(match[1]) if match else 0 for match in matches)
        return found
    finally:
        nvrtc.destroyProgram(program)


def _code(sources: Sequence[Path]) -> str:
    return "".join(source.read_text() for source in sources)


# --- Launching -------------------------------------------------------------------------------------------------


def forward(out: Tensor, frame: Tensor, vertical: Tensor, horizontal: Tensor) -> None:
    """Fills `out`; all are checked tensors on one GPU."""
    capability = torch.cuda.get_device_capability(frame.device)
    run(plan_forward(out, frame, vertical, horizontal, capability), frame.device)


def backward(
    gradients: Sequence[Tensor],
    grad_out: Tensor,
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    output_mask: Sequence[bool],
) -> None:
    """Fills those of the three `gradients` that `output_mask` asks for; all are checked tensors on one GPU."""
    if not grad_out.numel():
        for gradient in gradients:
            gradient.zero_()
        return
    run(plan_backward(gradients, grad_out, frame, vertical, horizontal, output_mask), frame.device)


def run(launches: Sequence[Launch], device: torch.device, sources: Sequence[Path] = (SOURCE,)) -> None:
    """Launches kernels of the sources, taken together, on PyTorch's current stream of the device."""
    import cupy  # here: the tests plan launches where there is no CuPy

    stream = _stream(torch.cuda.current_stream(device).cuda_stream, device.index)
    with cupy.cuda.Device(device.index), stream:
        for launch in launches:
            kernel = _kernel(launch.kernel, launch.shared, device.index, sources)
            kernel(launch.grid, launch.block, (launch.arguments,), shared_mem=launch.shared)


@lru_cache
def _kernel(name: str, shared: int, device: int, sources: tuple[Path, ...]) -> Any:
    """The kernel, compiled at its first call; `device` must be the current device now, and at every call."""
    import cupy

    module = cupy.RawModule(code=_code(sources), options=OPTIONS, name_expressions=(name,))
    kernel = module.get_function(name)
    if shared:  # more than 48 KiB must be requested
        kernel.max_dynamic_shared_size_bytes = shared
    return kernel


class _Borrowed:
    """A stream of PyTorch's, in the protocol by which CuPy takes streams of others."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer  # version of the protocol, stream


@lru_cache
def _stream(pointer: int, device: int) -> Any:
    import cupy

    return cupy.cuda.Stream.from_external(_Borrowed(pointer))


@lru_cache
def problem() -> str | None:
    """Why the kernels cannot run on this machine's GPUs, and what to install: a sentence, or None if they can."""
    major = (torch.version.cuda or "").partition(".")[0]
    if not major:
        return "the CUDA kernels need a PyTorch built for CUDA"
    try:
        import cupy
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
        cupy.RawModule(code='extern "C" __global__ void nothing() {}').compile()
        reason = None if hasattr(cupy.cuda.Stream, "from_external") else f"CuPy {cupy.__version__} is too old"
    except Exception as error:  # CuPy, NVRTC or the driver is missing, or does not fit
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if reason:
        return (
            f"the CUDA kernels cannot be compiled ({reason}): "
            f'pip install "cupy-cuda{major}x>=14" "cuda-toolkit[nvrtc,cudart]=={major}.*"'
        )
    return None
