"""Videos with more frames: decoding, the stream of new frames, encoding.

    from vfi.network import Interpolator
    from vfi.video.job import VideoOptions, interpolate
    network = Interpolator(model="lf")
    interpolate("in.mp4", "out.mp4", network.middle, network.device, VideoOptions(factor=2))

Decoding, the network and encoding work at the same time, in streams of frames with short queues between them: memory
does not grow with the length of the video. This file ties together what the others do:

    decoding -> timing (with scenes) -> Renderer (with colour) -> encoding -> joining
"""

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vfi import cuts as scenes
from vfi.errors import DataError, PictureError, UsageError, VideoError, reason
from vfi.files import atomic_write, check_folder, locked, new_folder
from vfi.video import codecs as encoding
from vfi.video import muxing as joining
from vfi.video import timing
from vfi.video.background import Behind, ahead
from vfi.video.reader import open_source

DUPLICATES = ("keep", "redistribute")
# In the folder of the parts, besides those:
STATE = "state.json"  # what they are parts of
JOINED = "joined"  # the new video, until it is whole
SHOWN = "shown"  # says that the file for looking at is one of ours
LARGEST = 2**31 - 1  # that FFmpeg's fractions hold
QUEUE = 4  # frames that are decoded, or wait to be encoded, beyond the one at hand


@dataclass(frozen=True)
class VideoOptions:
    """What is wanted of a new video.

    Attributes:
        factor: 2, 4, 8 or 16 frames for each one of the source.
        rate: instead, frames per second, as a Fraction.
        slow_motion: keep the source's rate; the video becomes `factor` times as long, without sound.
        start, end: the piece of the source to take, in seconds from its first frame, as Fractions. A frame belongs to
            the piece in which the frame of the source is shown that it follows.
        scene_threshold: what score is a cut, across which nothing is morphed; None for no cut at all.
        duplicates: "keep", or "redistribute" to spread motion over runs of up to three copies of a frame.
        deinterlace: whether to make whole frames of interlaced ones.
        input_rate: frames per second of pictures.
        codec, crf, preset, pixel_format: of the encoder; None for what suits the target.
    """

    factor: int = 2
    rate: Fraction | None = None
    slow_motion: bool = False
    start: Fraction | None = None
    end: Fraction | None = None
    scene_threshold: float | None = scenes.THRESHOLD
    duplicates: str = "keep"
    deinterlace: bool = True
    input_rate: Fraction | None = None
    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pixel_format: str | None = None

    def __post_init__(self):
        if self.factor not in timing.FACTORS:
            raise UsageError(f"factor is {self.factor}, expected one of {', '.join(map(str, timing.FACTORS))}")
        if self.duplicates not in DUPLICATES:
            raise UsageError(f"duplicates is {self.duplicates!r}, expected one of {', '.join(DUPLICATES)}")


def interpolate(
    path, target, between, device="cpu", wishes=VideoOptions(), resume=False, recipe="", note=print, progress=None,
    part_frames=encoding.PART_FRAMES,
):  # fmt: skip
    """Makes a video with more frames.

    Args:
        path: a video file, a folder of pictures, or a pattern such as frames/%05d.png.
        target: likewise; replaced if it is a file, whole or not at all.
        between: makes the frame halfway between two: tensors (1, 3 or 4, H, W), float32, RGB, range [0, 1], on
            `device`, to the same. `Interpolator.middle` is one.
        resume: go on where an earlier call with the same arguments was broken off.
        recipe: what `between` is, in words; a run that is resumed must have the same.
        note: called with a phrase that the user should know.
        progress: called with (frames of the new video so far, about how many there will be) for each that is made now.
        part_frames: in each part; see encoding.py.

    Raises:
        VideoError, PictureError: the source or the target is not to be had. What was finished is kept beside the
            target, in a folder with .partial in its name.
        UsageError: something is wished for that is not to be had.
        KeyboardInterrupt: likewise; and if there is something to look at, in a file with .partial in its name.
    """
    Job(path, target, wishes, note, part_frames).run(between, device, resume, recipe, progress)


class Job:
    """A new video to be made: what is wanted, from what, where it goes, and how far it has come.

    `interpolate` in two steps, for those to whom `between` is expensive: what can be refused is refused by the first.
    """

    def __init__(self, path, target, wishes=VideoOptions(), note=print, part_frames=encoding.PART_FRAMES):
        path, target = Path(path), Path(target)
        if target.name in ("", ".."):
            target = Path(os.path.abspath(target))
        self.target = target
        self.work = target.with_name(f"{target.name}.partial")
        self.partial = target.with_name(f"{target.stem}.partial{target.suffix}")
        self.wishes = wishes
        self.note = note
        self.part_frames = part_frames
        self.to_pictures = encoding.is_pictures(target)
        self.stretch = wishes.factor if wishes.slow_motion else 1
        self._check_target(path)
        self.source = open_source(path, wishes.input_rate, wishes.deinterlace)
        self._noted_interlaced = False
        self._note_interlaced()
        self.began = self.ended = self.reached = None  # in seconds from the source's first frame, once that is known
        if self.to_pictures:
            self.layout = self.encoding = encoding.picture_layout(target, self.source)
        else:
            self.encoding = self._encoding()
            self.layout = self.encoding.layout
        self.parts = None

    def run(self, between, device="cpu", resume=False, recipe="", progress=None):
        """Makes it; see `interpolate`."""
        with self._held():
            self._begin(resume, recipe)
            try:
                self._render(Renderer(self.source, self.layout, between, device), progress)
            except KeyboardInterrupt:
                self._show()
                raise
            except Exception:
                self._leave()
                raise
            self._finish()

    def _check_target(self, path):
        """Says early what would keep the target from being written."""
        target = self.target
        folder = target.absolute().parent
        if self.to_pictures and not target.is_dir() and encoding.is_pattern(target) and not folder.exists():
            folder = folder.parent
        check_folder(target, folder)
        if target.exists() and path.exists() and os.path.samefile(path, target):
            raise UsageError(f"{target} is the input: it would be lost")
        if self.partial.exists() and path.exists() and os.path.samefile(path, self.partial):
            raise UsageError(f"{path} has the name of what a broken-off run leaves of {target}: rename it")
        if encoding.is_pattern(target) and target.parent.is_dir() and encoding.present(target):
            raise VideoError(f"there are pictures that match {target}: remove them, or choose another name")
        if target.exists() and not target.is_dir() and (self.to_pictures or not target.is_file()):
            raise VideoError(f"{target} is there, and neither a folder nor a video: choose another name")
        if target.is_dir() and any(target.iterdir()):
            raise VideoError(f"{target} is a folder that is not empty: choose another name")
        if self.to_pictures and any(
            wish is not None
            for wish in (self.wishes.codec, self.wishes.crf, self.wishes.preset, self.wishes.pixel_format)
        ):
            raise UsageError(f"{target} is for pictures, which have no codec")

    @property
    def rate(self):
        """Frames per second of the new video; None if they vary."""
        if self.wishes.rate or self.source.rate is None:
            return self.wishes.rate
        return self.source.rate * self.wishes.factor / self.stretch

    @property
    def expected(self):
        """About how many frames the new video has."""
        length = self.source.length
        share = (min(self.wishes.end or length, length) - min(self.wishes.start or 0, length)) / length
        if self.wishes.rate:
            return round(length * share * self.wishes.rate)
        return round(self.source.count * self.wishes.factor * share)

    @contextlib.contextmanager
    def _held(self):
        """The folder of the parts is there, and nobody else works in it."""
        in_the_way = VideoError(f"{self.work} is in the way: it was not made by an unfinished run")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(new_folder(self.work))
            except FileExistsError as error:
                raise in_the_way from error
            except OSError as error:
                raise VideoError(f"{self.target} cannot be written: {reason(error)}") from error
            try:
                stack.enter_context(locked(self.work))
            except (BlockingIOError, FileNotFoundError) as error:
                raise VideoError(f"another run is making {self.target} at this moment: wait for it") from error
            others = [
                file for file in self.work.iterdir() if not file.match(".*.part")
            ]  # that is a state, half written
            if others and not (self.work / STATE).exists():
                raise in_the_way
            yield

    def _begin(self, resume, recipe):
        """Finds what an earlier run left.

        Raises:
            VideoError: it was another one.
        """
        path = self.source.path
        files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self.source.files]
        self._claim(
            {
                "source": str(path.resolve()),
                "content of the source": hashlib.sha256(repr(files).encode(errors="surrogateescape")).hexdigest(),
                "wishes": {name: str(value) for name, value in asdict(self.wishes).items()},
                "encoding": repr(self.encoding),
                "length of parts": self.part_frames,
                "network": recipe,
            },
            resume,
        )
        if self.to_pictures:
            self.parts = encoding.PictureFolder(self.work, self.target, self.source.icc_profile, self.note)
        else:
            self.parts = encoding.Parts(self.work, self.encoding, self.part_frames)
        if resume:
            self.note(f"{self.parts.done or 'no'} frames of {self.target} were finished before")

    def _encoding(self):
        wishes, source, rate = self.wishes, self.source, self.rate
        if rate is None and self.target.suffix.lower() == ".avi":
            raise VideoError(f"{source.path} has a rate that varies, which avi cannot hold: use mp4 or mkv, or --fps")
        time_base = 1 / rate if rate else source.time_base * self.stretch / wishes.factor
        if time_base.denominator > LARGEST:
            time_base = Fraction(1, 1_000_000)
        average = source.count * wishes.factor / (source.length * self.stretch)
        chosen, notes = encoding.choose(
            self.target, source, time_base, rate or average.limit_denominator(1001),
            wishes.codec, wishes.crf, wishes.preset, wishes.pixel_format,
        )  # fmt: skip
        notes += joining.check(source, chosen, self._span(), sound=not wishes.slow_motion)
        for phrase in notes:
            self.note(phrase)
        return chosen

    def _claim(self, state, resume):
        """Clears the folder of the parts, or takes what an earlier run left there."""
        file = self.work / STATE
        (self.work / JOINED).unlink(missing_ok=True)  # a kill may have left it
        if resume and file.exists():
            try:
                earlier = json.loads(file.read_text())
                other = [name for name, value in state["wishes"].items() if earlier["wishes"][name] != value]
                other += [name for name in state if name != "wishes" and earlier[name] != state[name]]
            except (ValueError, KeyError, TypeError) as error:
                raise VideoError(f"{file} is damaged: start over without --resume") from error
            if other:
                raise VideoError(
                    f"the unfinished run in {self.work} differs in {', '.join(other)}: start over without --resume"
                )
            return
        if (self.work / SHOWN).exists():
            self.partial.unlink(missing_ok=True)
        left = [other for other in self.work.iterdir() if other != file]
        for other in left:
            other.unlink()
        if any(other.name[0] != "." and other.name != SHOWN for other in left):
            self.note(f"what an earlier run had finished of {self.target} was dropped: --resume would have kept it")
        try:
            with atomic_write(file) as beside:
                beside.write_text(json.dumps(state, indent=1))
        except OSError as error:
            self._leave()
            raise VideoError(f"{self.target} cannot be written: {reason(error)}") from error

    def _render(self, renderer, progress=None):
        """Computes and encodes every frame that is not there yet."""
        wishes, source = self.wishes, self.source
        start = wishes.start or Fraction(0)
        frames = ahead(_looked_at(source.frames(start), wishes.scene_threshold), QUEUE)
        copies = None if wishes.duplicates == "keep" else lambda one, two: two.is_copy_of(one)
        pairs = timing.pairs(frames, source.last, self._is_cut, copies)
        plan = timing.resampled(pairs, wishes.rate) if wishes.rate else timing.multiplied(pairs, wishes.factor)
        number = 0
        with contextlib.closing(frames), Behind(self._write, QUEUE) as encoder:
            for instant in plan:
                if instant.base < start:
                    continue
                if wishes.end is not None and instant.base >= wishes.end:
                    self.ended = instant.time  # where the next piece begins
                    break
                if self.began is None:
                    self.began = instant.time
                if number < self.parts.done:
                    self.reached = instant.time
                else:
                    encoder.put(renderer.planes(instant), instant.time)
                    if progress:
                        progress(number + 1, self.expected)
                number += 1
        if not number:
            raise VideoError(f"{source.path} has no frame between the start and the end that were asked for")
        with self._writing():
            self.parts.close()
        if source.count == 1:
            self.note(f"{source.path} has one frame: there is nothing between")
        self._note_interlaced()
        if source.lost:
            self.note(f"{source.path} is damaged: {source.lost} of {source.count} frames were lost")

    def _note_interlaced(self):
        """In some files only later frames are."""
        if self.source.interlaced and not self._noted_interlaced:
            doing = "its frames are deinterlaced" if self.wishes.deinterlace else "its frames are taken as they are"
            self.note(f"{self.source.path} is interlaced: {doing}")
            self._noted_interlaced = True

    def _is_cut(self, around):
        if self.wishes.scene_threshold is None:
            return False
        return scenes.cut_score([frame and frame.thumbnail for frame in around]) > self.wishes.scene_threshold

    def _write(self, planes, time):
        planes = planes.arrays() if isinstance(planes, _OnItsWay) else planes
        with self._writing():
            self.parts.write(planes, None if self.to_pictures else self._tick(time))
        self.reached = time

    @contextlib.contextmanager
    def _writing(self):
        """What goes wrong with the target, as on a full disk, is said of it, and what is left for --resume."""
        try:
            yield
        except (DataError, OSError) as error:
            self._leave()
            kept = f"; what is finished stays in {self.work} for --resume" if self.parts.done else ""
            cause = (
                error.__cause__ if isinstance(error, PictureError) else error
            )  # else the name would stand there twice
            raise VideoError(f"{self.target} cannot be written: {reason(cause)}{kept}") from error

    def _tick(self, time):
        return round((time - self.began) * self.stretch / self.encoding.time_base)

    def _span(self):
        """The piece of the source that is in the new video, as joining.py wants it."""
        source = self.source
        if not self.began:  # None before anything is rendered, 0 at the source's beginning
            shift = -max(Fraction(0), source.start) * self.stretch
            return joining.Span(None, self._end(), shift, self.stretch, source.origin * self.stretch + shift)
        start = source.origin + self.began
        return joining.Span(start, self._end(), -start * self.stretch, self.stretch, Fraction(0))

    def _end(self):
        return None if self.ended is None else self.source.origin + self.ended

    def _show(self):
        """Makes what is finished something to look at, under a name of its own."""
        if self.reached is None:
            return
        if self.to_pictures:
            self.note(f"{self.parts.done} pictures are in {self.work}; --resume goes on from there")
            return
        done = self.parts.done
        goes_on = f"--resume goes on after {done} frames" if done else "too little for --resume, which begins anew"
        if self.partial.exists() and not (self.work / SHOWN).exists():
            self.note(f"{self.partial} is there, and not ours: what is finished is not shown; {goes_on}")
            return
        self.ended = self.reached
        try:
            (self.work / SHOWN).touch()
            self.parts.close()
            self._join(self.partial)
        except (VideoError, OSError) as error:
            self.note(f"{self.partial} cannot be written: {reason(error)}; {goes_on}")
            return
        self.note(f"what is finished can be seen in {self.partial}; {goes_on}")

    def _leave(self):
        """After an error: nothing stays behind that is of no use to a later run."""
        if not (self.parts and self.parts.done):
            shutil.rmtree(self.work, ignore_errors=True)

    def _finish(self):
        """Puts the target in its place."""
        with self._writing():
            if self.to_pictures:
                self.parts.move(self.target)
            else:
                self._join(self.target)
                if (self.work / SHOWN).exists():
                    self.partial.unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def _join(self, path):
        ended = self.source.length if self.ended is None else self.ended
        sound = not self.wishes.slow_motion
        beside = None if path.is_symlink() else self.work / JOINED  # a link may lead to another disk
        joining.join(path, self.source, self.encoding, self.parts, self._tick(ended), self._span(), sound, beside)


def _looked_at(frames, scene_threshold):
    """The same frames; what is found out about each is found out here, beside the work of the network."""
    for frame in frames:
        if scene_threshold is not None:
            _ = frame.thumbnail  # which is kept
        yield frame


class Renderer:
    """Makes the planes of new frames.

    Args:
        source: as decoding.py gives it.
        layout: what planes are to be made, a `Layout` or `Pixels`.
        between, device: see `interpolate`.
    """

    def __init__(self, source, layout, between, device):
        self.source = source
        self.layout = layout
        self.between = between
        self.device = torch.device(device)
        # A stream for each way: a frame that comes must not wait for one that goes, which waits for the network.
        on_gpu = self.device.type == "cuda"
        self._up, self._down = (torch.cuda.Stream(self.device) if on_gpu else None for _ in range(2))
        self._rgb = {}  # of the frames of the pair at hand: each is converted once
        self._pair = None

    def planes(self, instant):
        """The planes of an `Instant`, as arrays or `_OnItsWay` from a GPU."""
        one, two, share = instant.one, instant.two, instant.share
        self._rgb = {frame: rgb for frame, rgb in self._rgb.items() if frame in (one, two)}
        if share == 0 or one.same_as(two):
            return self._original(one)
        if share == 1:
            return self._original(two)
        if self._pair != (one, two):
            self._pair, self._known = (one, two), {}
        frames = timing.between(self._to_rgb(one), self._to_rgb(two), share, self._halfway, self._known)
        return self._from_rgb(frames)

    def _original(self, frame):
        if self.layout == self.source.layout:
            return frame.planes
        return self._from_rgb(self._to_rgb(frame))

    def _halfway(self, one, two):
        """What RGB cannot hold, such as brighter than white, is beyond the network: it is averaged."""
        seen = [frames.clamp(0, 1) for frames in (one, two)]
        return self.between(*seen) + (one - seen[0] + two - seen[1]) / 2

    def _to_rgb(self, frame):
        if frame not in self._rgb:
            self._rgb[frame] = self.source.layout.to_rgb([self._upload(plane) for plane in frame.planes])
        return self._rgb[frame]

    def _from_rgb(self, frames):
        if frames.shape[1] == 4 and not self.layout.alpha:
            alpha = frames[:, 3:]
            frames = frames[:, :3] * alpha + (1 - alpha)  # on white, as pictures are put
        planes = self.layout.from_rgb(frames, self.source.height, self.source.width)
        return _OnItsWay(planes, self._down) if self._down else [plane.numpy() for plane in planes]

    def _upload(self, plane):
        plane = torch.from_numpy(np.ascontiguousarray(plane))
        if not self._up:
            return plane
        with torch.cuda.stream(self._up):
            there = plane.pin_memory().to(self.device, non_blocking=True)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self._up)
        there.record_stream(now)
        return there


class _OnItsWay:
    """Planes that are being copied from a GPU, while it goes on with the next."""

    def __init__(self, planes, copies):
        copies.wait_stream(torch.cuda.current_stream(planes[0].device))
        with torch.cuda.stream(copies):
            self._planes = [torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True) for plane in planes]
            for plane, there in zip(self._planes, planes, strict=True):
                plane.copy_(there, non_blocking=True)
                there.record_stream(copies)
            self._arrived = copies.record_event()

    def arrays(self):
        self._arrived.synchronize()
        return [plane.numpy() for plane in self._planes]
