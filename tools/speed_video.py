"""What speed.py measures of a video: making twice the frames of it, and each part of that by itself.

The video is the clip in videos/, forwards and backwards, enlarged. All goes on at once, so that what takes longest by
itself is what limits.
"""

import collections
import itertools
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import torch

from vfi.interpolator import Interpolator
from vfi.video import job as video
from vfi.video.codecs import choose
from vfi.video.reader import open_source
from vfi.video.writer import Parts

CLIP = Path(__file__).parent.parent / "videos" / "bunny.mp4"
RATE = 25
FRAMES = {"cpu": 25, "cuda": 241}


def print_video(options):
    network = Interpolator(options.model, precision=options.precision)
    with tempfile.TemporaryDirectory() as folder:
        programs = _programs(Path(folder), options.video, network)
        times = collections.defaultdict(list)
        for run in range(options.runs + 1):
            for name, program in programs.items():
                start = time.perf_counter()
                program()
                if run:  # the first is to warm up
                    times[name].append(time.perf_counter() - start)
    count = FRAMES[network.device.type]
    size = "x".join(map(str, options.video))
    print(f"\n{count} frames of {size} to {2 * count}, convolutions in {network.precision} on {network.device}")
    print(f"{'':36} {'median':>9} {'frames/s':>13}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:36} {median:7.2f} s {2 * count / median:13.1f}")
    together, alone = times["all together"], times["the network"]
    more = statistics.median(one / other - 1 for one, other in zip(together, alone, strict=True))
    print(f"all together takes {more:.1%} more than the network by itself")


def _programs(folder, size, network):
    """What is to be timed: {name: function}."""
    device, count = network.device, FRAMES[network.device.type]
    path, target = folder / "in.mp4", folder / "out.mp4"
    _make(path, *size, count)

    def interpolate(between):
        video.interpolate(path, target, between, device, note=lambda phrase: None)

    interpolate(network.middle)
    source, result = open_source(path), open_source(target)
    chosen, _ = choose(target, source, 1 / result.rate, result.rate)
    written = [frame.planes for frame in result.frames()]
    pair = [
        source.layout.to_rgb([torch.from_numpy(plane).to(device) for plane in frame.planes])
        for frame in itertools.islice(source.frames(), 2)
    ]

    def run_network():
        for _ in range(count - 1):
            network.middle(*pair)
        if device.type == "cuda":
            torch.cuda.synchronize()

    def encode():
        with tempfile.TemporaryDirectory(dir=folder) as parts:
            encoder = Parts(Path(parts), chosen)
            for number, planes in enumerate(written):
                encoder.write(planes, number)
            encoder.close()

    return {
        "decoding": lambda: collections.deque(source.frames(), maxlen=0),
        "encoding": encode,
        "all but the network": lambda: interpolate(lambda one, two: (one + two) / 2),
        "the network": run_network,
        "all together": lambda: interpolate(network.middle),
    }


def _make(path, width, height, count):
    with av.open(str(CLIP)) as clip:
        frames = [frame.reformat(width, height) for frame in clip.decode(video=0)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(itertools.islice(itertools.cycle(frames + frames[-2:0:-1]), count)):
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
