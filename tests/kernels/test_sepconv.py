"""The op, step by step: plain loops, the reference, the CPU kernels, gradients, registration, refusals."""

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from helpers.kernels import LAYOUTS, SIZES, TOLERANCE, arguments, check_against_reference, deviation, laid_out
from helpers.threads import assert_same_for_any_threads

from sepconv import sepconv, sepconv_func, sepconv_reference, sepconv_reference_backward

ROOT = Path(__file__).parent.parent.parent
PATHS = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}

# --- The formula ---


def test_reference_is_the_formula():
    frame, vertical, horizontal, _ = arguments((2, 2, 3, 4, 3), torch.float64)
    out = sepconv_reference(frame, vertical, horizontal)
    for n, c, y, x in itertools.product(range(2), range(2), range(3), range(4)):
        total = 0.0
        for i, j in itertools.product(range(3), range(3)):
            total += frame[n, c, y + i, x + j] * vertical[n, i, y, x] * horizontal[n, j, y, x]
        assert out[n, c, y, x].item() == pytest.approx(total.item(), rel=1e-12)


def test_reference_backward_is_the_derivative_of_the_reference():
    *inputs, grad_out = arguments((2, 3, 4, 5, 4), torch.float64)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    expected = torch.autograd.grad(sepconv_reference(*leaves), leaves, grad_out)
    for gradient, exact in zip(sepconv_reference_backward(grad_out, *inputs), expected, strict=True):
        assert deviation(gradient.detach(), exact) < 1e-13


# --- The kernels ---


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_cpu_against_reference(size, dtype, layout):
    check_against_reference(size, dtype, layout)


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 8])
def test_any_number_of_channels(channels):
    check_against_reference((1, channels, 8, 19, 6), torch.float32, "contiguous")


def test_layouts_may_be_mixed():
    frame, vertical, horizontal, _ = arguments((1, 3, 10, 40, 17))
    expected = sepconv(frame, vertical, horizontal)
    for layouts in itertools.permutations(("contiguous", "channels_last", "sliced")):
        mixed = [laid_out(t, layout) for t, layout in zip((frame, vertical, horizontal), layouts, strict=True)]
        assert torch.equal(sepconv(*mixed), expected)


def test_16_bit_results_round_to_nearest():
    """A sum of one product is exact in float32, so one rounding remains: to even, as in PyTorch."""
    values = torch.linspace(-70000, 70000, 4001)
    for dtype in (torch.float16, torch.bfloat16):
        frame = values.to(dtype).view(1, 1, 1, -1)
        factor = torch.full_like(frame, 1.1)
        expected = (frame.float() * factor.float()).to(dtype)
        assert torch.equal(sepconv(frame, factor, torch.ones_like(frame)), expected)


def test_nan_is_propagated():
    for dtype in TOLERANCE:
        frame = torch.full((1, 3, 4, 4), float("nan"), dtype=dtype)
        ones = torch.ones(1, 1, 4, 4, dtype=dtype)
        assert sepconv(frame, ones, ones).isnan().all()


@pytest.mark.parametrize("size", [(0, 3, 4, 4, 3), (2, 0, 4, 4, 3), (2, 3, 0, 4, 3), (2, 3, 4, 0, 3)], ids=str)
def test_empty(size):
    *inputs, grad_out = arguments(size)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    out = sepconv(*leaves)
    assert out.shape == grad_out.shape
    for gradient, leaf in zip(torch.autograd.grad(out, leaves, grad_out), leaves, strict=True):
        assert torch.equal(gradient, torch.zeros_like(leaf))


def test_same_bits_for_any_number_of_threads():
    *inputs, grad_out = arguments((2, 3, 31, 77, 51))

    def program():
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        out = sepconv(*leaves)
        return torch.cat([tensor.flatten() for tensor in (out, *torch.autograd.grad(out, leaves, grad_out))])

    assert_same_for_any_threads(program)


def test_many_callers_at_once():
    sets = [arguments((1, 3, 20, 50, 21), seed=seed)[:3] for seed in range(8)]
    expected = [sepconv(*inputs) for inputs in sets]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda inputs: sepconv(*inputs), sets * 3))
    assert all(torch.equal(a, b) for a, b in zip(results, expected * 3, strict=True))


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | PATHS | environment, capture_output=True, text=True
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_after_a_fork():
    """A forked process, such as a DataLoader's worker, does not inherit threads."""
    code = """
import os, torch
from sepconv import sepconv
inputs = torch.rand(1, 3, 40, 40), torch.rand(1, 9, 32, 32), torch.rand(1, 9, 32, 32)
expected = sepconv(*inputs)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(sepconv(*inputs), expected) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(code).stdout.split() == ["0"]


@pytest.mark.skipif(
    "avx512" not in torch.backends.cpu.get_cpu_capability().lower(), reason="needs AVX-512 to switch off"
)
@pytest.mark.parametrize("features", ["+avx,+avx2,+fma,+f16c", "+sse2", ""])
def test_processors_with_fewer_registers(features, tmp_path):
    code = """
import torch
from helpers.kernels import check_against_reference
from vfi.kernels import cpu_tiles, cpu_vectors
assert cpu_tiles.ROWS == 4 and cpu_vectors.VECTOR_BYTES == 32
check_against_reference((1, 3, 9, 37, 21), torch.float32, "channels_last")
check_against_reference((1, 3, 9, 37, 21), torch.bfloat16, "contiguous")
check_against_reference((1, 3, 9, 37, 21), torch.float16, "sliced")
print("passed")
"""
    result = run_python(code, NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=str(tmp_path))
    assert result.stdout.split() == ["passed"], result.stderr


def test_second_start_does_not_compile(tmp_path):
    code = """
import torch, numba
from sepconv import sepconv
from numba.core.event import install_recorder
with install_recorder("numba:compile") as compilations:
    sepconv(torch.rand(1, 3, 8, 8), torch.rand(1, 5, 4, 4), torch.rand(1, 5, 4, 4))
print(len(compilations.buffer))
"""
    first, second = (int(run_python(code, NUMBA_CACHE_DIR=str(tmp_path)).stdout) for _ in range(2))
    assert first > 0
    assert second == 0


def test_works_without_a_cache_folder(tmp_path):
    """If Numba finds no folder for its cache, it compiles in every process."""
    code = """
import numba, torch
from numba.core import caching
caching.CacheImpl._locator_classes = []
import sepconv
print(sepconv.sepconv(torch.ones(1, 3, 8, 8), torch.ones(1, 5, 4, 4), torch.ones(1, 5, 4, 4)).unique().tolist())
"""
    result = run_python(code)
    assert result.stdout.strip() == "[25.0]", result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no limit of file sizes on this system")
def test_works_when_the_cache_is_full(tmp_path):
    """The cache folder exists, but files in it cannot grow."""
    code = """
import resource, signal, torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
import sepconv
print(sepconv.sepconv(torch.ones(1, 3, 8, 8), torch.ones(1, 5, 4, 4), torch.ones(1, 5, 4, 4)).unique().tolist())
"""
    result = run_python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert result.stdout.strip() == "[25.0]", result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- Gradients and registration ---


@pytest.mark.parametrize("wanted", [m for m in itertools.product((False, True), repeat=3) if any(m)], ids=str)
def test_each_gradient_is_computed_only_on_request(wanted):
    *inputs, grad_out = arguments((1, 3, 6, 18, 5))
    everything = sepconv_reference_backward(grad_out.double(), *(t.double() for t in inputs))
    for tensor, asked in zip(inputs, wanted, strict=True):
        tensor.requires_grad_(asked)
    sepconv(*inputs).backward(grad_out)
    for tensor, asked, exact in zip(inputs, wanted, everything, strict=True):
        assert (tensor.grad is not None) == asked
        if asked:
            assert deviation(tensor.grad, exact) < TOLERANCE[torch.float32]
    results = torch.ops.sepconv.sepconv_backward(grad_out, *(t.detach() for t in inputs), list(wanted))
    assert [result.numel() > 0 for result in results] == list(wanted)


def test_gradients_have_the_layout_of_their_inputs():
    *inputs, grad_out = arguments((1, 3, 6, 18, 5), layout="channels_last")
    for gradient in torch.ops.sepconv.sepconv_backward(grad_out, *inputs, [True, True, True]):
        assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(1, 2, 3, 4, 3), (2, 5, 2, 3, 2)], ids=str)
def test_gradcheck(size):
    *inputs, _ = arguments(size, torch.float64)
    assert torch.autograd.gradcheck(sepconv, [tensor.requires_grad_() for tensor in inputs])


def test_second_derivatives_are_refused():
    *inputs, _ = arguments((1, 2, 3, 4, 3), torch.float64)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    (gradient,) = torch.autograd.grad(sepconv(*leaves).sum(), leaves[:1], create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        gradient.sum().backward()


def test_opcheck():
    *inputs, grad_out = arguments((2, 3, 4, 6, 3), layout="channels_last")
    torch.library.opcheck(torch.ops.sepconv.sepconv.default, [tensor.requires_grad_() for tensor in inputs])
    inputs = [tensor.detach() for tensor in inputs]
    for mask in ([True, True, True], [False, True, False]):
        torch.library.opcheck(torch.ops.sepconv.sepconv_backward.default, (grad_out, *inputs, mask))


def test_compile_and_export_see_one_op():
    class Module(torch.nn.Module):
        def forward(self, frame, vertical, horizontal):
            return 2 * sepconv(frame, vertical, horizontal)

    *inputs, _ = arguments((1, 3, 5, 7, 3))
    expected = Module()(*inputs)
    compiled = torch.compile(Module(), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*inputs), expected)
    exported = torch.export.export(Module(), tuple(inputs))
    assert torch.equal(exported.module()(*inputs), expected)
    targets = [str(node.target) for node in exported.graph.nodes]
    assert targets.count("sepconv.sepconv.default") == 1


def test_autocast_computes_in_float32():
    frame, vertical, horizontal, _ = arguments((1, 3, 5, 7, 3))
    with torch.autocast("cpu", torch.bfloat16):
        out = sepconv(frame, vertical.bfloat16(), horizontal)
    assert out.dtype == torch.float32
    assert torch.equal(out, sepconv(frame, vertical.bfloat16().float(), horizontal))


def test_the_public_alias():
    *inputs, _ = arguments((1, 3, 5, 7, 3))
    assert torch.equal(sepconv_func.apply(*inputs), sepconv(*inputs))


# --- Refusals ---


def shapes(frame=(1, 3, 7, 8), vertical=(1, 4, 4, 5), horizontal=(1, 4, 4, 5)):
    return [torch.zeros(shape) for shape in (frame, vertical, horizontal)]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (shapes(frame=(3, 7, 8)), r"frame has shape \(3, 7, 8\), expected four dimensions"),
        (shapes(vertical=(1, 4, 4)), r"vertical has shape \(1, 4, 4\), expected four dimensions"),
        (shapes(horizontal=(1, 4, 4, 6)), r"horizontal has shape \(1, 4, 4, 6\), expected \(1, 4, 4, 5\)"),
        (shapes(frame=(1, 3, 7, 9)), r"frame has shape \(1, 3, 7, 9\), expected \(1, 3, 7, 8\): 4 taps reach 3 pixels"),
        (shapes(frame=(2, 3, 7, 8)), r"frame has shape \(2, 3, 7, 8\), expected \(1, 3, 7, 8\)"),
        (shapes((1, 3, 3, 4), (1, 0, 4, 5), (1, 0, 4, 5)), r"vertical has shape \(1, 0, 4, 5\), expected at least one"),
        ([t.int() for t in shapes()], r"frame is torch.int32, expected float16, bfloat16, float32 or float64"),
        (
            [t.to(d) for t, d in zip(shapes(), (torch.float32, torch.float64, torch.float32), strict=True)],
            r"vertical has dtype torch.float64, expected torch.float32, that of frame",
        ),
        (
            [t.to(d) for t, d in zip(shapes(), ("cpu", "cpu", "meta"), strict=True)],
            r"horizontal has device meta, expected cpu, that of frame",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        sepconv(*inputs)


def test_arguments_that_are_not_tensors_are_named():
    frame, vertical, horizontal = shapes()
    with pytest.raises(TypeError, match=r"vertical is a ndarray, expected a torch.Tensor"):
        sepconv(frame, vertical.numpy(), horizontal)


@pytest.mark.parametrize(
    ("grad_out", "mask", "message"),
    [
        (torch.zeros(1, 3, 4, 6), [True] * 3, r"grad_out is \(1, 3, 4, 6\)"),
        (torch.zeros(1, 3, 4, 5).double(), [True] * 3, r"grad_out is \(1, 3, 4, 5\), torch.float64"),
        (torch.zeros(1, 3, 4, 5), [True] * 2, "output_mask has 2 values"),
    ],
)
def test_backward_checks_its_arguments(grad_out, mask, message):
    with pytest.raises(ValueError, match=message):
        torch.ops.sepconv.sepconv_backward(grad_out, *shapes(), mask)
