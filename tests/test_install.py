"""The installed package: the wheel is built, installed into a new environment, and used from another folder."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import vfi

ROOT = Path(__file__).parent.parent
PROGRAM = """
import numpy as np
import torch
import sepconv, vfi
from vfi import Interpolator
from vfi.kernels import cuda

one, two = np.full((2, 40, 50, 3), 60, np.uint8)
two[:, 20:] = 90
middle = Interpolator(model="lf", device="cpu")(one, two)
assert middle.shape == one.shape and 60 <= middle.mean() <= 90
frame, kernel = torch.ones(1, 3, 8, 8), torch.ones(1, 3, 6, 6)
assert torch.equal(sepconv.sepconv_func.apply(frame, kernel, kernel), torch.full((1, 3, 6, 6), 9.0))
assert cuda.SOURCE.exists()
print(vfi.__version__, vfi.__file__, sepconv.__file__)
"""


def python(*arguments, cwd):
    result = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built by what is installed: no test needs the internet."""
    folder = tmp_path_factory.mktemp("wheel")
    python(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
        "--wheel-dir", folder, ROOT, cwd=folder,
    )  # fmt: skip
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    package = [name for name in names if ".dist-info/" not in name]
    assert {name.partition("/")[0] for name in package} == {"sepconv.py", "vfi"}
    assert {
        "vfi/py.typed",
        "vfi/weights/l1.safetensors",
        "vfi/weights/lf.safetensors",
        "vfi/kernels/sepconv.cu",
        "vfi/benchmarks/report.html",
        "vfi/benchmarks/middlebury.sha256",
    } <= set(package)
    assert not [name for name in package if "__pycache__" in name]


def test_another_program_uses_the_installed_package(wheel, tmp_path):
    """It runs in a new environment, which borrows the dependencies of this one."""
    environment = tmp_path / "environment"
    venv.create(environment)
    places = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=places))
    scripts = Path(sysconfig.get_path("scripts", "venv", vars=places))
    python(
        sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--quiet", "--no-deps", "--no-index",
        wheel, cwd=tmp_path,
    )  # fmt: skip
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    version, *files = python(scripts / "python", "-c", PROGRAM, cwd=tmp_path).split()
    assert version == vfi.__version__
    assert [Path(file).is_relative_to(packages) for file in files] == [True, True]
