"""The layout of the project: which file may import which, what stands at the top, and how long files are."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = ("run", "benchmark", "train")
MOST_LINES = 500

# What each part of the project may import, besides itself. The op imports its kernels on first use. BOTTOM is what
# every part but the op, its kernels and the network may import.
BOTTOM = ["vfi", "vfi.errors", "vfi.files"]
NETWORK = [*BOTTOM, "sepconv", "vfi.network"]
WEIGHTS = [*NETWORK, "vfi.download", "vfi.weights"]
LIBRARY = [
    *WEIGHTS,
    "vfi.cpu_network",
    "vfi.interpolator",
    "vfi.picture_kinds",
    "vfi.pictures",
    "vfi.metrics",
    "vfi.cuts",
]
ROOMS = ["vfi.video", "vfi.benchmarks", "vfi.training", "vfi.cluster", "vfi.moviepy_effect", "vfi.command_line"]
ALLOWED = {
    "sepconv": ["vfi.kernels"],
    "vfi.kernels": [],
    "vfi.errors": [],
    "vfi.files": ["vfi.errors"],
    "vfi.download": BOTTOM,
    "vfi.network": ["sepconv"],
    "vfi.cpu_network": ["vfi.network", "vfi.kernels"],
    "vfi.weights": WEIGHTS,
    "vfi.interpolator": [*WEIGHTS, "vfi.cpu_network"],
    "vfi.picture_kinds": [],
    "vfi.pictures": [*BOTTOM, "vfi.picture_kinds"],
    "vfi.metrics": BOTTOM,
    "vfi.cuts": BOTTOM,
    "vfi.command_line": [*LIBRARY, "vfi.cluster.machines"],
    "vfi.video": LIBRARY,
    "vfi.benchmarks": LIBRARY,
    "vfi.training": [*LIBRARY, "vfi.video.reader"],  # one decoder for all
    "vfi.cluster": [*LIBRARY, "vfi.video", "vfi.benchmarks"],  # it has their work done elsewhere
    "vfi.moviepy_effect": [*LIBRARY, "vfi.video.timing", "vfi.video.render"],
    "vfi": ["vfi.interpolator", "vfi.weights"],  # on first use
    "tools": [*LIBRARY, *ROOMS, "vfi.kernels"],
    **{program: [*LIBRARY, *ROOMS] for program in PROGRAMS},
}


def sources(*folders):
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [*sorted(ROOT.glob("*.py")), *found]


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sources("vfi", "tools")}


def imports(path):
    """The modules that a file imports, anywhere in it; names from this project's packages as modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def is_within(module, part):
    """Whether a module belongs to a part of the project; the part "vfi" is only vfi/__init__.py."""
    return module == part or (part != "vfi" and module.startswith(f"{part}."))


def part_of(module):
    return max((part for part in ALLOWED if is_within(module, part)), key=len)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    part = part_of(module)
    for name in imports(MODULES[module]):
        if name.partition(".")[0] in ("vfi", "tools", "sepconv", *PROGRAMS):
            assert any(is_within(name, allowed) for allowed in [part, *ALLOWED[part]]), f"{module} imports {name}"


def test_only_the_kernels_know_numba_and_cupy():
    for module, path in MODULES.items():
        if not is_within(module, "vfi.kernels"):
            names = {name.partition(".")[0] for name in imports(path)}
            assert names.isdisjoint({"numba", "llvmlite", "cupy"}), module


def test_timing_is_pure():
    names = {name.partition(".")[0] for name in imports(MODULES["vfi.video.timing"])}
    assert names.isdisjoint({"av", "torch", "numpy"})


def test_only_downloads_touch_the_internet():
    for module, path in MODULES.items():
        if module not in ("vfi.download", "vfi.cluster.machines"):  # which asks whether a cluster is there
            names = {name.partition(".")[0] for name in imports(path)}
            assert names.isdisjoint({"urllib", "http", "socket", "requests"}), module


def test_the_top_level_has_only_the_programs_and_the_op():
    assert sorted(path.stem for path in ROOT.glob("*.py")) == sorted([*PROGRAMS, "sepconv"])


def test_every_file_has_a_docstring():
    for path in sources("vfi", "tools", "tests"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_file_is_long():
    for path in sources("vfi", "tools", "tests"):
        lines = len(path.read_text().splitlines())
        assert lines <= MOST_LINES, f"{path} has {lines} lines"


def test_no_test_imports_a_test():
    for path in (ROOT / "tests").rglob("*.py"):
        names = [name.rpartition(".")[2] for name in imports(path)]
        assert not [name for name in names if name.startswith("test_") or name == "conftest"], path


def test_importing_the_package_is_fast():
    """It loads neither PyTorch nor PyAV, and takes less than 50 ms."""
    code = "import sys, vfi; assert not {'torch', 'av', 'numpy'} & sys.modules.keys()"
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    microseconds = int(re.search(r"\| +(\d+) \| vfi$", result.stderr, re.MULTILINE)[1])
    assert microseconds < 50_000


def test_importing_has_no_effect():
    """No file parses arguments, prints, or changes global switches of PyTorch."""
    names = ", ".join(module for module in MODULES if module not in ("vfi.moviepy_effect", *PROGRAMS))
    code = (
        "import sys, signal, torch; sys.argv.append('--nonsense')\n"
        "def state():\n"
        "    return (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(),\n"
        "            torch.backends.cudnn.benchmark, signal.getsignal(signal.SIGINT))\n"
        f"before = state()\nimport {names}\nassert state() == before"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
