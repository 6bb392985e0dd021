"""Parts of a video that are made by workers, in any order, against the same video made by one process."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from helpers.films import Film, make, moving
from helpers.parts import ShuffledWorkers
from helpers.videos import mean, scenes_of

from vfi import pictures
from vfi.errors import UsageError, VideoError
from vfi.video.job import Job
from vfi.video.options import VideoOptions
from vfi.video.part import PartMaker, PartPlan
from vfi.video.plan import Plan
from vfi.video.source import open_source

PART_FRAMES = 7  # no multiple of a factor, so that parts begin between two frames of the source


def make_by_parts(path, target, shared=False, resume=False, middle=mean, part_frames=PART_FRAMES, **wishes):
    """Returns the notes, the progress, and the numbers of the parts in the order in which they were made."""
    notes, progress = [], []
    options = VideoOptions(**wishes)
    job = Job(path, target, options, notes.append, part_frames)
    plan = PartPlan(Path(path), Path(target), options, part_frames)
    workers = ShuffledWorkers(plan, middle, work=job.work if shared else None)
    job.run_on(workers, resume, progress=lambda done, expected: progress.append(done))
    assert not list(Path().rglob("*.part*"))
    return notes, progress, workers.made


def make_whole(path, target, part_frames=PART_FRAMES, **wishes):
    notes = []
    Job(path, target, VideoOptions(**wishes), notes.append, part_frames).run(mean)
    return notes


def vary(name):
    """A video whose frames are shown for different times."""
    times = [40 * number + 7 * (number % 3) for number in range(60)]
    return make(name, moving(60, step=1), times=times, time_base=Fraction(1, 1000), sound=["flac"])


def assert_same_films():
    """All packets of out.mkv and whole.mkv; the files have random numbers in them, too."""
    one, two = Film("out.mkv"), Film("whole.mkv")
    for name in ("packets", "starts", "times", "streams", "rate", "metadata"):
        assert getattr(one, name) == getattr(two, name), name


SOURCES = {
    "even": lambda: make("in.mkv", scenes_of((1, 2), 40), 24, options={"g": "12"}, sound=["flac"]),
    "long": lambda: make("in.mkv", moving(150, step=1), 24, "libx264", options={"g": "24", "bf": "2"}),
    "varying": lambda: vary("in.mkv"),
}


@pytest.mark.parametrize("shared", [False, True], ids=["sent", "shared"])
@pytest.mark.parametrize(
    ("source", "wishes"),
    [
        ("even", {}),
        ("even", {"factor": 4, "scene_threshold": None}),
        ("even", {"rate": Fraction(60)}),
        ("even", {"rate": Fraction(30000, 1001), "start": Fraction(1), "end": Fraction(5, 2)}),
        ("even", {"duplicates": "redistribute"}),
        ("even", {"slow_motion": True}),
        ("long", {"start": Fraction(3)}),
        ("varying", {}),
        ("varying", {"end": Fraction(1)}),
    ],
    ids=str,
)
def test_parts_together_are_what_one_process_makes(source, wishes, shared):
    path = SOURCES[source]()
    said = make_whole(path, "whole.mkv", **wishes)
    notes, progress, made = make_by_parts(path, "out.mkv", shared, **wishes)
    assert notes == said
    assert_same_films()
    assert made != sorted(made)
    assert progress == sorted(progress)
    assert max(progress) >= Film("whole.mkv").count


def test_the_last_part_may_be_full():
    path = make("in.mkv", moving(21))
    make_whole(path, "whole.mkv")
    make_by_parts(path, "out.mkv")
    assert Film("whole.mkv").count == 42
    assert_same_films()


def test_pictures_are_made_in_parts(folder):
    make_whole(folder(), "whole")
    make_by_parts("frames", "more")
    names = sorted(file.name for file in Path("whole").iterdir())
    assert sorted(file.name for file in Path("more").iterdir()) == names
    assert len(names) == 22
    for name in names:
        assert (pictures.read(Path("more") / name).pixels == pictures.read(Path("whole") / name).pixels).all()


@pytest.mark.parametrize("by_parts", [False, True], ids=["one process", "parts"])
def test_what_is_missing_is_made_after_an_interruption(by_parts):
    """Parts behind a gap are kept by workers; one process makes them again. The result is the same."""
    path = make("in.mkv", moving(40))
    make_whole(path, "whole.mkv")
    calls = []

    def interrupting(one, two):
        calls.append(1)
        if len(calls) > 14:
            raise KeyboardInterrupt
        return mean(one, two)

    with pytest.raises(KeyboardInterrupt):
        make_by_parts(path, "out.mkv", middle=interrupting)
    kept = sorted(file.name for file in Path("out.mkv.partial").glob("*.part"))
    assert kept
    if by_parts:
        _, _, made = make_by_parts(path, "out.mkv", resume=True)
        assert {int(name[:6]) for name in kept}.isdisjoint(made)
    else:
        Job(path, "out.mkv", note=lambda phrase: None, part_frames=PART_FRAMES).run(mean, resume=True)
    assert_same_films()


def test_lost_frames_are_counted_once():
    """Two within the video, and three at its end."""
    with (
        av.open(make("whole.avi", moving(60), codec="mjpeg", pixel_format="yuvj420p")) as old,
        av.open("in.avi", "w") as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            lost = av.Packet(b"\xff" * 5 if number in (10, 30, 57, 58, 59) else bytes(packet))
            lost.pts, lost.dts, lost.time_base = packet.pts, packet.dts, packet.time_base
            lost.is_keyframe, lost.stream = True, stream
            new.mux(lost)
    said = make_whole("in.avi", "whole.mkv")
    assert said == ["in.avi is damaged: 5 of 60 frames were lost"]
    notes, _, _ = make_by_parts("in.avi", "out.mkv")
    assert notes == said
    assert_same_films()


def test_what_cannot_be_made_is_refused():
    path = make("in.mkv", moving(5))
    with pytest.raises(VideoError, match=r"in.mkv has no frame between the start and the end"):
        make_by_parts(path, "out.mkv", start=Fraction(5))
    with pytest.raises(UsageError, match=r"out.webp is an animated picture, which one machine makes"):
        make_by_parts(path, "out.webp")
    assert [file.name for file in Path().iterdir()] == ["in.mkv"]


def test_a_part_deep_in_a_long_video_is_made_without_the_parts_before_it():
    path = make("in.mkv", moving(600, step=1), 25, options={"g": "25"})
    maker = PartMaker(PartPlan(path, Path("out.mkv"), VideoOptions(), 96), mean)
    read = []
    frames = maker.source.frames
    maker.source.frames = lambda start: (read.append(frame) or frame for frame in frames(start))
    assert maker.make(10).frames == 96
    maker.close()
    assert len(read) < 200


@pytest.mark.parametrize("wishes", [{"factor": 8}, {"rate": Fraction(50)}, {"start": Fraction(3, 7)}], ids=str)
def test_the_time_of_a_number(wishes):
    plan = Plan(open_source(make("in.mkv", moving(30), 24)), VideoOptions(**wishes))
    assert all(plan.time_of(number) == instant.time for number, instant in plan.instants())
    assert plan.time_of(0) == plan.start
