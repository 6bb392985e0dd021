"""The speed of making twice the frames of a video, and of each part of that work by itself.

The video is the sample clip, forwards and backwards, enlarged. All parts run at once, so that the part which takes
longest by itself is the limit.
"""

import collections
import itertools
import statistics
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import torch
from torch import Tensor

from tools.stopwatch import Program, seconds, times_sign
from vfi.interpolator import Interpolator
from vfi.video import job
from vfi.video.codecs import choose
from vfi.video.render import Middle
from vfi.video.source import open_source
from vfi.video.writer import Parts

CLIP = Path(__file__).parent.parent / "videos" / "bunny.mp4"
RATE = 25
FRAMES = {"cpu": 25, "cuda": 241}


def print_video(model: str, precision: str, size: tuple[int, int], runs: int) -> None:
    """Prints seconds and frames per second, and how much longer a video takes than the network by itself."""
    interpolator = Interpolator(model, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        times = collections.defaultdict(list)
        programs = _programs(Path(folder), size, interpolator)
        for run in range(runs + 1):
            for name, program in programs.items():
                spent = seconds(program)
                if run:  # the first run is to warm up
                    times[name].append(spent)
    count = FRAMES[interpolator.device.type]
    print(
        f"\n{count} frames of {times_sign(size)} to {2 * count}, "
        f"convolutions in {interpolator.precision} on {interpolator.device}"
    )
    print(f"{'':36} {'median':>9} {'frames/s':>13}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:36} {median:7.2f} s {2 * count / median:13.1f}")
    together, alone = times["all together"], times["the network"]
    more = statistics.median(one / other - 1 for one, other in zip(together, alone, strict=True))
    print(f"all together takes {more:.1%} more than the network by itself")


def _programs(folder: Path, size: tuple[int, int], interpolator: Interpolator) -> Mapping[str, Program]:
    """What is timed, by name."""
    device, count = interpolator.device, FRAMES[interpolator.device.type]
    path, target = folder / "in.mp4", folder / "out.mp4"
    _make(path, *size, count)

    def interpolate(middle: Middle) -> None:
        job.interpolate(path, target, middle, device, note=lambda phrase: None)

    interpolate(interpolator.middle)
    source, result = open_source(path), open_source(target)
    chosen, _ = choose(target, source, Fraction(1, 2 * RATE), Fraction(2 * RATE))
    written = [frame.planes for frame in result.frames()]
    pair = [
        source.layout.to_rgb([torch.from_numpy(plane).to(device) for plane in frame.planes])
        for frame in itertools.islice(source.frames(), 2)
    ]

    def run_network() -> None:
        for _ in range(count - 1):
            interpolator.middle(*pair)
        if device.type == "cuda":
            torch.cuda.synchronize()

    def encode() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as parts:
            encoder = Parts(Path(parts), chosen)
            for number, planes in enumerate(written):
                encoder.write(planes, number)
            encoder.close()

    def average(one: Tensor, two: Tensor) -> Tensor:
        return (one + two) / 2

    return {
        "decoding": lambda: collections.deque(source.frames(), maxlen=0),
        "encoding": encode,
        "all but the network": lambda: interpolate(average),
        "the network": run_network,
        "all together": lambda: interpolate(interpolator.middle),
    }


def _make(path: Path, width: int, height: int, count: int) -> None:
    with av.open(str(CLIP)) as clip:
        frames = [frame.reformat(width, height) for frame in clip.decode(video=0)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(itertools.islice(itertools.cycle(frames + frames[-2:0:-1]), count)):
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
