"""Videos on a GPU: frames are complete, and the CPU does not wait for each."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("av")

from vfi.interpolator import Interpolator
from vfi.video import job as video
from vfi.video import timing
from vfi.video.colour import Layout, Pixels
from vfi.video.render import Renderer

ROOT = Path(__file__).parent.parent.parent
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]


@pytest.mark.parametrize(
    "layout",
    [
        Layout("yuv", 8, chroma=(2, 2)),
        Layout("yuv", 10, alpha=True, chroma=(2, 1)),
        Layout("rgb", 8),
        Pixels(colour=True, alpha=True, deep=True),
        Pixels(colour=False, alpha=False, deep=False),
    ],
    ids=str,
)
def test_the_cpu_does_not_wait_for_the_gpu(published_file, layout):
    """If it waited, the GPU would idle while the CPU prepares the next frame. 1100 rows are more than one band."""
    between = Interpolator(weights=published_file, device="cuda", precision="float16").middle
    if isinstance(layout, Pixels):
        sizes = [(1100, 1000, 4) if layout.alpha else (1100, 1000)]
    else:
        sizes = layout.plane_sizes(1100, 1000)
    dtype = torch.uint8 if layout.bits == 8 else torch.uint16
    one, two = ([torch.full(size, value, device="cuda").to(dtype) for size in sizes] for value in (60.0, 90.0))

    def middle():
        return layout.from_rgb(between(layout.to_rgb(one), layout.to_rgb(two)), 1100, 1000)

    expected = middle()  # compiles the kernels, and selects the method
    torch.cuda.set_sync_debug_mode("error")
    try:
        planes = middle()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for plane, same in zip(planes, expected, strict=True):
        assert torch.equal(plane.cpu(), same.cpu())


def test_frames_of_a_video():
    """All frames equal those of the CPU within one level, although transfers and computation overlap."""
    job = video.Job(ROOT / "videos" / "bunny.mp4", "out.mp4", note=print)
    frames = list(job.source.frames())
    results = []
    for device in ("cpu", "cuda"):
        renderer = Renderer(job.source, job.target.layout, lambda one, two: (one + two) / 2, device)
        pairs = timing.pairs(iter(frames), job.source.last)
        results.append([renderer.planes(instant) for instant in timing.multiplied(pairs, 4)])
    for one, two in zip(*results, strict=True):
        planes = zip(one.arrays(), two.arrays(), strict=True)
        assert all(abs(plane.astype(int) - same).max() <= 1 for plane, same in planes)
