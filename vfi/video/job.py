"""A video with more frames: from the source to the finished target.

    from vfi import Interpolator
    from vfi.video.job import VideoOptions, interpolate
    interpolator = Interpolator(model="lf")
    interpolate("in.mp4", "out.mp4", interpolator.middle, interpolator.device, VideoOptions(factor=2))

Decoding, the network and encoding work at the same time, in streams of frames with short queues between them: memory
does not grow with the length of the video. The data go one way:

    source (reader or sequence) -> timing, which asks cuts -> render -> targets: writer and muxing, or pictures
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from vfi import cuts
from vfi.errors import DataError, PictureError, UsageError, VideoError, counted, reason
from vfi.files import atomic_write, check_folder, locked, new_folder
from vfi.video import timing
from vfi.video.background import WriteBehind, prefetch
from vfi.video.codecs import PART_FRAMES, EncoderOptions
from vfi.video.render import Middle, Renderer
from vfi.video.sequence import is_pattern
from vfi.video.source import open_source
from vfi.video.targets import (
    JOINED,
    STATE,
    AnimationTarget,
    PictureTarget,
    Piece,
    Speed,
    VideoTarget,
    check_target,
    is_animation,
    is_pictures,
    partial_name,
)

DUPLICATES = ("keep", "redistribute")
TELECINED = (Fraction(30000, 1001), Fraction(30))  # rates in which film of 24 frames per second is shown
QUEUE = 4  # frames that are decoded ahead, and that wait to be encoded

Note = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VideoOptions:
    """What the user asks of a new video.

    Attributes:
        factor: 2, 4, 8 or 16 frames for each frame of the source.
        rate: frames per second, instead of a factor.
        slow_motion: keep the source's rate; the video becomes `factor` times as long, without sound.
        start, end: the piece of the source to take, in seconds from its first frame. A new frame belongs to the piece
            in which the frame of the source before it is shown.
        scene_threshold: score above which two frames are a cut, across which nothing is interpolated; None for no cuts.
        duplicates: "keep", or "redistribute" to spread motion over runs of up to three copies of a frame.
        deinterlace: whether to deinterlace interlaced frames.
        detelecine: whether to restore the frames of a telecined film: 24 frames per second of 30.
        input_rate: frames per second of a sequence of pictures.
        codec, crf, preset, pixel_format: of the encoder; None for what suits the target.

    Raises:
        UsageError: `factor` or `duplicates` has another value.
    """

    factor: int = 2
    rate: Fraction | None = None
    slow_motion: bool = False
    start: Fraction | None = None
    end: Fraction | None = None
    scene_threshold: float | None = cuts.THRESHOLD
    duplicates: str = "keep"
    deinterlace: bool = True
    detelecine: bool = False
    input_rate: Fraction | None = None
    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pixel_format: str | None = None

    def __post_init__(self) -> None:
        if self.factor not in timing.FACTORS:
            raise UsageError(f"factor is {self.factor}, expected one of {', '.join(map(str, timing.FACTORS))}")
        if self.duplicates not in DUPLICATES:
            raise UsageError(f"duplicates is {self.duplicates!r}, expected one of {', '.join(DUPLICATES)}")

    @property
    def encoder(self) -> EncoderOptions:
        return EncoderOptions(self.codec, self.crf, self.preset, self.pixel_format)


def interpolate(
    path: str | Path,
    target: str | Path,
    middle: Middle,
    device: str | torch.device = "cpu",
    options: VideoOptions = VideoOptions(),
    resume: bool = False,
    recipe: str = "",
    note: Note = print,
    progress: Progress | None = None,
    part_frames: int = PART_FRAMES,
) -> None:
    """Makes a video with more frames.

    Args:
        path: a video file, a folder of pictures, or a pattern such as frames/%05d.png.
        target: likewise; a file is replaced, whole or not at all.
        middle: computes the frame halfway between two: tensors (1, 3 or 4, H, W), float32, RGB, range [0, 1], on
            `device`, to the same. `Interpolator.middle` is such a function.
        resume: go on where an earlier call with the same arguments was interrupted.
        recipe: describes `middle`; a run that is resumed must have the same.
        note: called with a phrase that the user should know.
        progress: called with (frames of the new video so far, about how many there will be) for each new frame.
        part_frames: frames in a part; see writer.py.

    Raises:
        VideoError, PictureError, DataError: the source cannot be read, or the target cannot be written. What was
            finished stays beside the target, in a folder with .partial in its name.
        UsageError: the options do not fit the source or the target.
        KeyboardInterrupt: likewise; and a file with .partial in its name shows what was finished.
    """
    Job(path, target, options, note, part_frames).run(middle, device, resume, recipe, progress)


class Job:
    """A new video to be made: `interpolate` in two steps.

    The first step, the constructor, refuses everything that can be refused early, before a network is loaded.
    """

    def __init__(
        self,
        path: str | Path,
        target: str | Path,
        options: VideoOptions = VideoOptions(),
        note: Note = print,
        part_frames: int = PART_FRAMES,
    ) -> None:
        path, target = Path(path), Path(target)
        if target.name in ("", ".."):
            target = Path(os.path.abspath(target))
        self.path = target
        self.work = target.with_name(f"{target.name}.partial")
        self.options = options
        self.note = note
        self.part_frames = part_frames
        self._check(path)
        self.source = open_source(path, options.input_rate, options.deinterlace, options.detelecine)
        self._has_noted_interlaced = False
        self._note_interlaced()
        for phrase in self.source.notes:
            note(f"{path}: {phrase}")
        if self.source.film_rate and not options.detelecine:
            note(
                f"{path} is film in video: its frames are shown for two and three fields in turn; --detelecine shows "
                f"them evenly, {float(self.source.film_rate):.3f} per second"
            )
        self.stretch = options.factor if options.slow_motion else 1
        self.target = self._open_target()

    def run(
        self,
        middle: Middle,
        device: str | torch.device = "cpu",
        resume: bool = False,
        recipe: str = "",
        progress: Progress | None = None,
    ) -> None:
        """Makes the video; see `interpolate`."""
        with self._locked():
            self._claim(self._state(recipe), resume)
            self.target.begin(self.work)
            if resume:
                self.note(f"{self.target.done or 'no'} frames of {self.path} were finished before")
            rendering = _Rendering(self, Renderer(self.source, self.target.layout, middle, device), progress)
            try:
                rendering.run()
            except KeyboardInterrupt:
                if rendering.reached is not None:
                    self.target.show(Piece(rendering.start, rendering.reached))
                raise
            except Exception:
                self._remove_if_useless()
                raise
            self._note_interlaced()
            self._note_damage()
            with self.writing():
                self.target.finish(rendering.piece)
            shutil.rmtree(self.work, ignore_errors=True)

    def _check(self, source: Path) -> None:
        """Finds out early what would keep the target from being written."""
        folder = self.path.absolute().parent
        if not self.path.is_dir() and is_pattern(self.path) and not folder.exists():
            folder = folder.parent
        check_folder(self.path, folder)
        partial = partial_name(self.path)
        if self.path.exists() and source.exists() and os.path.samefile(source, self.path):
            raise UsageError(f"{self.path} is the input, which it would replace: name another file")
        if partial.exists() and source.exists() and os.path.samefile(source, partial):
            raise UsageError(f"{source} has the name of what an interrupted run leaves of {self.path}: rename it")
        check_target(self.path, self.options.encoder)

    def _open_target(self) -> VideoTarget | PictureTarget:
        if is_pictures(self.path):
            return PictureTarget(self.path, self.source, self.note)
        if is_animation(self.path):
            return AnimationTarget(self.path, self.source, self.note, self.stretch)
        speed = Speed(self.options.factor, self.rate, self.stretch)
        return VideoTarget(self.path, self.source, speed, self.options.encoder, self.note, self.part_frames)

    @property
    def rate(self) -> Fraction | None:
        """Frames per second of the new video; None if they vary."""
        if self.options.rate or self.source.rate is None:
            return self.options.rate
        return self.source.rate * self.options.factor / self.stretch

    @property
    def expected(self) -> int:
        """About how many frames the new video has."""
        options, length = self.options, self.source.length
        share = (min(options.end or length, length) - min(options.start or 0, length)) / length
        if options.rate:
            return round(length * share * options.rate)
        return round(self.source.count * options.factor * share)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Makes the folder of work, and keeps other runs out of it."""
        in_the_way = VideoError(f"{self.work} is in the way: it was not made by an unfinished run; rename or remove it")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(new_folder(self.work))
            except FileExistsError as error:
                raise in_the_way from error
            except OSError as error:
                raise VideoError(f"{self.path} cannot be written: {reason(error)}") from error
            try:
                stack.enter_context(locked(self.work))
            except (BlockingIOError, FileNotFoundError) as error:
                raise VideoError(f"another run is making {self.path} at this moment: wait for it") from error
            others = [file for file in self.work.iterdir() if not file.match(".*.part")]  # those are unfinished states
            if others and not (self.work / STATE).exists():
                raise in_the_way
            yield

    def _state(self, recipe: str) -> dict[str, Any]:
        """All that the frames of the new video depend on."""
        files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self.source.files]
        return {
            "source": str(self.source.path.resolve()),
            "content of the source": hashlib.sha256(repr(files).encode(errors="surrogateescape")).hexdigest(),
            "options": {name: str(value) for name, value in asdict(self.options).items()},
            "encoding": self.target.settings,
            "length of parts": self.part_frames,
            "network": recipe,
        }

    def _claim(self, state: dict[str, Any], resume: bool) -> None:
        """Clears the folder of work, or takes over what an earlier run left there.

        Raises:
            VideoError: the earlier run differs from this one.
        """
        file = self.work / STATE
        (self.work / JOINED).unlink(missing_ok=True)  # a killed run may have left it
        if resume and file.exists():
            try:
                earlier = json.loads(file.read_text())
                other = [name for name, value in state["options"].items() if earlier["options"][name] != value]
                other += [name for name in state if name != "options" and earlier[name] != state[name]]
            except (ValueError, KeyError, TypeError) as error:
                raise VideoError(f"{file} is damaged, or of another version: start over without --resume") from error
            if other:
                raise VideoError(
                    f"the unfinished run in {self.work} differs in {', '.join(other)}: start over without --resume"
                )
            return
        if self.target.discard(self.work):
            self.note(f"what an earlier run had finished of {self.path} was dropped: --resume would have kept it")
        try:
            with atomic_write(file) as beside:
                beside.write_text(json.dumps(state, indent=1))
        except OSError as error:
            self._remove_if_useless()
            raise VideoError(f"{self.path} cannot be written: {reason(error)}") from error

    def _note_interlaced(self) -> None:
        """Some files have interlaced frames only later on: then this is said at the end."""
        source = self.source
        if source.interlaced and not self._has_noted_interlaced and not self.options.detelecine:
            doing = "deinterlaced" if self.options.deinterlace else "taken as they are"
            film = "; if it is film, --detelecine restores its frames" if source.rate in TELECINED else ""
            self.note(f"{source.path} is interlaced: its frames are {doing}{film}")
            self._has_noted_interlaced = True

    def _note_damage(self) -> None:
        source = self.source
        if source.count == 1:
            self.note(f"{source.path} has only one frame: there is nothing to interpolate")
        if source.lost:
            self.note(f"{source.path} is damaged: {source.lost} of {source.count} frames were lost")
        if source.repeated:
            what = counted(source.repeated, "frame")
            self.note(f"{source.path}: {what} with the time of the frame before could not be placed: left out")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A block that writes the target: errors, such as a full disk, name it and say what is left for --resume."""
        try:
            yield
        except (DataError, OSError) as error:
            self._remove_if_useless()
            kept = f"; what is finished stays in {self.work} for --resume" if self.target.done else ""
            cause = error.__cause__ if isinstance(error, PictureError) else error  # otherwise two names in one line
            raise VideoError(f"{self.path} cannot be written: {reason(cause or error)}{kept}") from error

    def _remove_if_useless(self) -> None:
        """After an error: removes the folder of work, unless a later run can go on with it."""
        if not self.target.done:
            shutil.rmtree(self.work, ignore_errors=True)


class _Rendering:
    """Computes and writes all frames that are not finished yet.

    Attributes:
        start: the time of the first new frame, in seconds from the source's first frame; None before that is known.
        end: where the next piece begins, if the options end this one; None for the end of the source.
        reached: the time of the last frame that is written.
    """

    def __init__(self, job: Job, renderer: Renderer, progress: Progress | None) -> None:
        self.job, self.renderer, self.progress = job, renderer, progress
        self.start: Fraction | None = None
        self.end: Fraction | None = None
        self.reached: Fraction | None = None

    @property
    def piece(self) -> Piece:
        return Piece(self.start, self.end)

    def run(self) -> None:
        job, options, source = self.job, self.job.options, self.job.source
        start = options.start or Fraction(0)
        finder = cuts.CutFinder(options.scene_threshold)
        frames = prefetch(finder.watch(source.frames(start)), QUEUE)
        pairs = timing.pairs(frames, source.last, finder.is_cut, None if options.duplicates == "keep" else cuts.is_copy)
        plan = timing.resampled(pairs, options.rate) if options.rate else timing.multiplied(pairs, options.factor)
        number = 0
        with contextlib.closing(frames), WriteBehind(self._write, QUEUE) as encoder:
            for instant in plan:
                if instant.base < start:
                    continue
                if options.end is not None and instant.base >= options.end:
                    self.end = instant.time
                    break
                if self.start is None:
                    self.start = instant.time
                if number < job.target.done:
                    self.reached = instant.time
                else:
                    encoder.put(self.renderer.planes(instant), instant.time)
                    if self.progress:
                        self.progress(number + 1, job.expected)
                number += 1
        if not number:
            raise VideoError(f"{source.path} has no frame between the start and the end that were asked for")
        with job.writing():
            job.target.close()

    def _write(self, planes: Any, time: Fraction) -> None:
        with self.job.writing():
            self.job.target.write(planes.arrays(), time - (self.start or 0))
        self.reached = time
