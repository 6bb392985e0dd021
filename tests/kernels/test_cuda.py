"""The CUDA kernels: compiled for every generation of cards, emulated on the CPU, and run on a GPU if there is one."""

import platform
import shutil
import subprocess
import sys

import pytest
import torch
from helpers.definition import interpolate
from helpers.emulation import Emulator, Guarded
from helpers.kernels import LAYOUTS, SIZES, TOLERANCE, arguments, deviation, laid_out

import sepconv as sepconv_module
from sepconv import sepconv, sepconv_reference, sepconv_reference_backward
from tools import speed_cuda
from vfi.interpolator import Interpolator
from vfi.kernels import cuda as sepconv_cuda

has_cupy = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")  # by requirements.txt
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")

HOPPER, TURING = (9, 0), (7, 5)

# Sizes in addition to the CPU's tests: several tiles in each direction, single pixels, alpha.
CUDA_SIZES = [*SIZES, (2, 3, 13, 50, 51), (1, 4, 9, 70, 51), (1, 3, 1, 1, 51), (1, 4, 8, 48, 51)]


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    return Emulator(tmp_path_factory.mktemp("emulation"))


# --- Compiled ---


@pytest.mark.skipif(not has_cupy, reason="CuPy is for Linux on x86_64 and aarch64")
@pytest.mark.parametrize("architecture", [75, 80, 90, 100])
def test_compiles_without_spills(architecture):
    names = sepconv_cuda.kernel_names(architecture)
    assert any("tensor" in name for name in names) == (architecture >= 80)
    for name, (registers, spilled, shared) in sepconv_cuda.resources(names, architecture).items():
        assert registers > 0, name
        assert spilled == 0, f"{name} spills {spilled} bytes"
        assert shared <= 48 * 1024, name
    naive = [f"naive<{kind}, {compensated}>" for kind in ("float", "Half") for compensated in ("false", "true")]
    assert len(sepconv_cuda.resources(naive, architecture, (sepconv_cuda.SOURCE, speed_cuda.NAIVE))) == 4


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
def test_compiles_with_nvcc(tmp_path):
    source = tmp_path / "all.cu"
    lines = [f'#include "{sepconv_cuda.SOURCE}"']
    fast = (
        "forward<float, 3>",
        "forward_tensor_cores<Half, 3>",
        "backward_kernels<float, 4>",
        "backward_frame<Half, 3>",
    )
    for name in (*fast, "backward_kernels_any<double>"):
        kind = name.partition("<")[2].rstrip(">").partition(",")[0]
        lines.append(f"template __global__ void {name}(const Arguments<{kind}>);")
    source.write_text("\n".join(lines))
    command = ["nvcc", *sepconv_cuda.OPTIONS, "-arch=sm_80", "-cubin", "-o", tmp_path / "all.cubin", source]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


@pytest.mark.skipif(not has_cupy, reason="CuPy is for Linux on x86_64 and aarch64")
def test_compile_errors_are_reported(tmp_path):
    broken = tmp_path / "broken.cu"
    broken.write_text("template <int N> __global__ void kernel() { nonsense; }")
    with pytest.raises(RuntimeError, match="nonsense"):
        sepconv_cuda.resources(["kernel<1>"], 90, (broken,))


@pytest.mark.skipif(torch.cuda.is_available(), reason="all is there")
def test_missing_packages_are_named(monkeypatch):
    sepconv_cuda.problem.cache_clear()
    assert "PyTorch built for CUDA" in sepconv_cuda.problem() or torch.version.cuda
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    sepconv_cuda.problem.cache_clear()
    assert 'pip install "cupy-cuda13x>=14" "cuda-toolkit[nvrtc,cudart]==13.*"' in sepconv_cuda.problem()
    sepconv_cuda.problem.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="all is there")
def test_without_cuda_kernels_the_reference_is_used(caplog):
    """Without CuPy, tensors on a GPU get the correct result and one warning (tested with tensors on the CPU)."""
    *inputs, grad_out = arguments((1, 3, 4, 5, 3))
    sepconv_module._has_cuda_kernels.cache_clear()
    assert torch.equal(sepconv_module._forward_cuda(*inputs), sepconv_reference(*inputs))
    gradients = sepconv_module._backward_cuda(grad_out, *inputs, [True, False, True])
    assert torch.equal(gradients[0], sepconv_reference_backward(grad_out, *inputs)[0])
    assert gradients[1].numel() == 0
    (record,) = caplog.records
    assert "PyTorch built for CUDA" in record.message


# --- Emulated ---


def emulate(emulator, inputs, grad_out, capability=HOPPER, mask=(True, True, True), backwards=False):
    """`out` and the three gradients by the emulated kernels, and the names of these; all tensors have guards."""
    guarded = Guarded()
    inputs, grad_out = [guarded.copy(tensor) for tensor in inputs], guarded.copy(grad_out)
    out = guarded.empty_like(torch.empty(grad_out.shape, dtype=grad_out.dtype))
    gradients = [guarded.empty_like(torch.empty_like(tensor)) for tensor in inputs]
    launches = sepconv_cuda.plan_forward(out, *inputs, capability)
    launches += sepconv_cuda.plan_backward(gradients, grad_out, *inputs, list(mask))
    emulator.run(launches, backwards)
    guarded.check()
    return [out, *gradients], [launch.kernel.partition("<")[0] for launch in launches]


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", CUDA_SIZES, ids=str)
def test_emulated_against_reference(emulator, size, dtype, layout):
    *inputs, grad_out = arguments(size, dtype, layout)
    exact_inputs = [tensor.double() for tensor in inputs]
    exact = [sepconv_reference(*exact_inputs), *sepconv_reference_backward(grad_out.double(), *exact_inputs)]
    results, kernels = emulate(emulator, inputs, grad_out)
    for result, expected in zip(results, exact, strict=True):
        assert deviation(result, expected) < TOLERANCE[dtype]
    fast = size[4] == 51 and size[1] in (3, 4) and dtype != torch.float64
    forward = "forward_tensor_cores" if dtype.itemsize == 2 else "forward"
    names = [forward, "backward_frame", "backward_kernels"]
    assert kernels == (names if fast else ["forward_any", "backward_frame_any", "backward_kernels_any"])


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_emulated_without_tensor_cores(emulator, dtype):
    *inputs, grad_out = arguments((1, 3, 13, 50, 51), dtype, "channels_last")
    (out, *_), kernels = emulate(emulator, inputs, grad_out, TURING)
    assert kernels[0] == "forward"
    assert deviation(out, sepconv_reference(*(tensor.double() for tensor in inputs))) < TOLERANCE[dtype]


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_order_of_threads_does_not_matter(emulator, dtype):
    """Threads run in ascending or descending order: if a barrier were missing, one order would fail."""
    *inputs, grad_out = arguments((1, 3, 13, 50, 51), dtype, "channels_last")
    forwards, _ = emulate(emulator, inputs, grad_out)
    backwards, _ = emulate(emulator, inputs, grad_out, backwards=True)
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))


@needs_compiler
@pytest.mark.parametrize("taps", [51, 4])
@pytest.mark.parametrize("mask", [(True, False, False), (False, True, False), (False, False, True)], ids=str)
def test_emulated_gradients_only_on_request(emulator, mask, taps):
    *inputs, grad_out = arguments((1, 3, 6, 18, taps))
    exact = sepconv_reference_backward(grad_out.double(), *(tensor.double() for tensor in inputs))
    (_, *gradients), _ = emulate(emulator, inputs, grad_out, mask=mask)
    for gradient, expected, wanted in zip(gradients, exact, mask, strict=True):
        if wanted:
            assert deviation(gradient, expected) < TOLERANCE[torch.float32]
        else:
            assert gradient.isnan().all()  # untouched


def odd_arguments(start, padding, device="cpu"):
    """float16 inputs that begin at a column of wider tensors; the kernels channels_last, of more than 51 channels."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(1, 3, 56, 74, generator=generator).half().to(device)
    kernels = [torch.randn(1, 51 + padding, 6, 22, generator=generator).half().to(device) for _ in range(2)]
    kernels = [tensor.to(memory_format=torch.channels_last)[:, :51, :, start : start + 21] for tensor in kernels]
    return wide[..., start : start + 71], *kernels


ODD = pytest.mark.parametrize(("start", "padding"), [(0, 0), (1, 0), (0, 4), (1, 4), (0, 5), (1, 5)])


@needs_compiler
@ODD
def test_emulated_odd_alignments(emulator, start, padding):
    """The tensor-core kernel copies pairs of values where the alignment allows it."""
    inputs = odd_arguments(start, padding)
    out = torch.empty(1, 3, 6, 21, dtype=torch.float16)
    emulator.run(sepconv_cuda.plan_forward(out, *inputs, HOPPER))
    assert deviation(out, sepconv_reference(*(tensor.double() for tensor in inputs))) < TOLERANCE[torch.float16]


@needs_compiler
@pytest.mark.parametrize("compensated", ["false", "true"])
def test_emulated_naive_kernels(emulator, compensated):
    *inputs, grad_out = arguments((1, 3, 5, 7, 51))
    (launch,) = sepconv_cuda.plan_forward(grad_out, *inputs, HOPPER)
    emulator.run([sepconv_cuda.plan_any(f"naive<float, {compensated}>", grad_out.numel(), launch.arguments)])
    assert deviation(grad_out, sepconv_reference(*(tensor.double() for tensor in inputs))) < 2e-6


def test_empty_work_launches_nothing():
    *inputs, grad_out = arguments((1, 3, 0, 4, 51))
    assert sepconv_cuda.plan_forward(grad_out, *inputs, HOPPER) == []


def test_grids_within_their_limits():
    """If there are more rows of tiles or samples than a grid can hold, the kernels for any size are used."""
    frame = torch.empty(1, 3, 1, 1).expand(1, 3, 400_050, 51)
    kernels = torch.empty(1, 1, 1, 1).expand(1, 51, 400_000, 1)
    (launch,) = sepconv_cuda.plan_forward(torch.empty(1, 3, 400_000, 1), frame, kernels, kernels, HOPPER)
    assert launch.kernel == "forward_any<float>"
    assert launch.grid == (-(-3 * 400_000 // 256), 1, 1)


# --- On a GPU ---


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", CUDA_SIZES, ids=str)
def test_gpu_against_reference(size, dtype, layout):
    *inputs, grad_out = (laid_out(tensor.cuda(), layout) for tensor in arguments(size, dtype))
    exact_inputs = [tensor.double() for tensor in inputs]
    exact = [sepconv_reference(*exact_inputs), *sepconv_reference_backward(grad_out.double(), *exact_inputs)]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    results = []
    for _ in range(2):
        out = sepconv(*leaves)
        results.append([out.detach(), *torch.autograd.grad(out, leaves, grad_out)])
    for result, again, expected in zip(*results, exact, strict=True):
        assert deviation(result, expected) < TOLERANCE[dtype]
        assert torch.equal(result, again)


@pytest.mark.cuda
@needs_gpu
@ODD
def test_gpu_odd_alignments(start, padding):
    inputs = odd_arguments(start, padding, "cuda")
    exact = sepconv_reference(*(tensor.double() for tensor in inputs))
    assert deviation(sepconv(*inputs), exact) < TOLERANCE[torch.float16]


@pytest.mark.cuda
@needs_gpu
def test_gpu_stream_and_graph():
    """Launches go to the current stream, and can be captured."""
    inputs = [tensor.cuda() for tensor in arguments((1, 3, 32, 64, 51))[:3]]
    expected = sepconv(*inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # earlier work on the stream: a launch on another stream would overtake it
        moved = [tensor + 1 for tensor in inputs]
        result = sepconv(*(tensor - 1 for tensor in moved))
    stream.synchronize()
    assert deviation(result, expected.double()) < 1e-5

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = sepconv(*inputs)
    for tensor in inputs:
        tensor.mul_(2)
    graph.replay()
    assert deviation(captured, 8 * expected.double()) < TOLERANCE[torch.float32]


@pytest.mark.cuda
@needs_gpu
def test_gpu_gradcheck_opcheck_compile():
    inputs = [tensor.cuda().requires_grad_() for tensor in arguments((1, 2, 3, 4, 3), torch.float64)[:3]]
    assert torch.autograd.gradcheck(sepconv, inputs)
    inputs = [tensor.cuda().requires_grad_() for tensor in arguments((1, 3, 6, 18, 51))[:3]]
    torch.library.opcheck(torch.ops.sepconv.sepconv.default, inputs)
    compiled = torch.compile(sepconv, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*inputs), sepconv(*inputs))


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize(("precision", "levels"), [("float32", 0.05), ("float16", 2), ("bfloat16", 8)])
def test_gpu_network(published_state, published_file, noise, precision, levels):
    """Convolutions may compute in TF32 or 16 bits; the picture stays close."""
    one, two = noise(70, 90), noise(70, 90, seed=1)
    exact = {name: tensor.double() for name, tensor in published_state.items()}
    pair = [torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)[None].double() for frame in (one, two)]
    expected = interpolate(exact, *pair)[0].permute(1, 2, 0).numpy()[..., ::-1].clip(0, 1)
    between = Interpolator(weights=published_file, device="cuda", precision=precision)
    assert abs(between(one, two) - expected).max() * 255 < levels
