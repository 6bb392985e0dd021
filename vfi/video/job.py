"""A video with more frames: from the source to the finished target.

    from vfi import Interpolator
    from vfi.video.job import interpolate
    from vfi.video.options import VideoOptions
    interpolator = Interpolator(model="lf")
    interpolate("in.mp4", "out.mp4", interpolator.middle, interpolator.device, VideoOptions(factor=2))

Decoding, the network and encoding work at the same time, in streams of frames with short queues between them: memory
does not grow with the length of the video. The data go one way:

    source (reader or sequence) -> plan (timing, which asks cuts) -> render -> targets: writer and muxing, or pictures

One process does all of it (rendering.py), or many workers make parts of the video (part.py), which one process gathers
(gathering.py).
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from vfi.errors import DataError, PictureError, UsageError, VideoError, counted, reason
from vfi.files import atomic_write, check_folder, locked, new_folder
from vfi.video.codecs import PART_FRAMES
from vfi.video.gathering import Gathering, Workers
from vfi.video.options import VideoOptions
from vfi.video.render import Middle, Renderer
from vfi.video.rendering import Rendering
from vfi.video.sequence import is_pattern
from vfi.video.source import open_source
from vfi.video.targets import JOINED, STATE, Piece, check_target, is_animation, open_target, partial_name

TELECINED = (Fraction(30000, 1001), Fraction(30))  # rates in which film of 24 frames per second is shown

DEFAULTS = VideoOptions()

Note = Callable[[str], None]
Progress = Callable[[int, int], None]


def interpolate(
    path: str | Path,
    target: str | Path,
    middle: Middle,
    device: str | torch.device = "cpu",
    options: VideoOptions = DEFAULTS,
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
        options: VideoOptions = DEFAULTS,
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
        self.target = open_target(target, self.source, options, note, part_frames)

    def run(
        self,
        middle: Middle,
        device: str | torch.device = "cpu",
        resume: bool = False,
        recipe: str = "",
        progress: Progress | None = None,
    ) -> None:
        """Makes the video; see `interpolate`."""
        self._run(Rendering(self, Renderer(self.source, self.target.layout, middle, device), progress), resume, recipe)

    def run_on(
        self, workers: Workers, resume: bool = False, recipe: str = "", progress: Progress | None = None
    ) -> None:
        """Makes the same video by many workers; see `interpolate` and `gathering.Workers`."""
        if is_animation(self.path):
            raise UsageError(f"{self.path} is an animated picture, which one machine makes: leave out the workers")
        self._run(Gathering(self, workers, progress), resume, recipe)

    def _run(self, making: Rendering | Gathering, resume: bool, recipe: str) -> None:
        with self._locked():
            self._claim(self._state(recipe), resume)
            self.target.begin(self.work)
            if resume:
                self.note(f"{self.target.done or 'no'} frames of {self.path} were finished before")
            try:
                making.run()
            except KeyboardInterrupt:
                if making.reached is not None:
                    self.target.show(Piece(making.plan.start, making.reached))
                raise
            except Exception:
                self._remove_if_useless()
                raise
            self._note_interlaced()
            self._note_damage()
            with self.writing():
                self.target.finish(Piece(making.plan.start, making.plan.end))
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

    def empty(self) -> VideoError:
        return VideoError(f"{self.source.path} has no frame between the start and the end that were asked for")

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
