"""Footage for training: the videos of any folders, decoded once and cut into scenes.

    footage = Footage(["holiday", "films"], cache="weights/frames")
    footage.pixels  # (P, 3), uint8, RGB: every pixel of every frame of every scene
    footage.scenes  # where they lie, and how much moves in them

The frames are kept in a file that is mapped into memory. All processes of a machine share it, and a later run finds it
ready. If the videos change, a new file is made. Such files may be deleted; they are made again when they are needed.
"""

import hashlib
import json
import os
import secrets
import threading
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vfi.cuts import THRESHOLD, cut_scores, thumbnail
from vfi.errors import ClipError, VideoError
from vfi.files import atomic_write, locked, new_folder
from vfi.video.reader import VideoFile

Frame = NDArray[np.uint8]  # (H, W, 3), RGB
Frames = NDArray[np.uint8]  # (T, H, W, 3), RGB

SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
SHORT_SIDE = 360  # pixels: frames with a longer short side are reduced to it
CHUNK = 240  # frames in memory at once; also the longest scene: longer scenes are divided
CELL = 16  # pixels: side of the squares in which motion is measured
FORMAT = 3  # of the cache
PART = ".frames-{}.part"  # name of a file of the cache that is not whole yet


@dataclass(frozen=True)
class Scene:
    """Frames of a clip that show one continuous motion.

    Attributes:
        clip: index of its clip in `Footage.clips`.
        start: index of its first pixel in `Footage.pixels`; frames, rows and pixels follow without gaps.
        frames, height, width: its size.
        rate: frames per second.
        motion: (frames - 1, height // CELL, width // CELL), float16: by how many grey levels each cell changes from
            one frame to the next. The paper chooses by optical flow and by texture. The change is, to first order,
            their product; it needs no flow, and it is what averaging gets wrong. Flashes and fades, which it mistakes
            for motion, change much at once; `Batches` makes them less likely.
    """

    clip: int
    start: int
    frames: int
    height: int
    width: int
    rate: float
    motion: NDArray[np.float16]


class Footage:
    """The scenes of all videos in some folders (and in those within).

    Args:
        folders: paths of folders, or of single videos.
        cache: folder for the decoded frames; made if it does not exist. Three bytes for each pixel.
        progress: called with (clips done, clips in all) before and while decoding.

    Attributes:
        clips: the paths of the videos, in order.
        skipped: a line for each clip of which something could not be used.
        pixels, scenes: see above.
        path: of the file with the pixels.

    Raises:
        ClipError: a folder does not exist or holds no video, or no clip could be decoded.
        OSError: the cache cannot be written.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        cache: str | Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.clips = find_clips(folders)
        name = f"frames-{_fingerprint(self.clips)}"
        self.path, index = (Path(cache) / f"{name}.{suffix}" for suffix in ("rgb", "npz"))
        saved = _load(index, self.path)
        if not saved:
            with new_folder(self.path.parent):
                if progress:
                    progress(0, len(self.clips))
                with locked(self.path.parent, wait=True) as is_locked:
                    saved = _load(index, self.path)  # another run may just have decoded them
                    if not saved:
                        index.unlink(missing_ok=True)  # never an old index with new pixels
                        for part in self.path.parent.glob(PART.format("*")) if is_locked else ():  # of killed runs
                            part.unlink(missing_ok=True)
                        _decode_all(self.clips, self.path, index, progress)
                        saved = _load(index, self.path)
        assert saved  # they have just been written, if they were not there
        self.skipped: list[str] = json.loads(str(saved["skipped"]))
        rates, motion = saved["rates"].tolist(), saved["motion"]
        self.scenes: list[Scene] = []
        at = 0
        for (clip, start, frames, height, width), rate in zip(saved["table"].tolist(), rates, strict=True):
            shape = (frames - 1, height // CELL, width // CELL)
            self.scenes.append(
                Scene(clip, start, frames, height, width, rate, motion[at : at + np.prod(shape)].reshape(shape))
            )
            at += np.prod(shape)
        self.pixels = torch.from_numpy(np.memmap(self.path, np.uint8, mode="c")).view(-1, 3)

    @property
    def frames(self) -> int:
        """The number of frames of all scenes."""
        return sum(scene.frames for scene in self.scenes)


def find_clips(folders: Sequence[str | Path]) -> list[Path]:
    """The videos in folders, at any depth, by their suffix; each once, in alphabetical order.

    Raises:
        ClipError: a folder does not exist, or holds no video.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        if not folder.exists():
            raise ClipError(f"there is no folder {folder}")
        paths = [folder] if folder.is_file() else folder.rglob("*")
        videos = [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not videos:
            what = "does not have the extension of a video" if folder.is_file() else "holds no video"
            raise ClipError(f"{folder} {what} ({', '.join(suffix[1:] for suffix in SUFFIXES)})")
        found |= {path.resolve(): path for path in videos}
    return [found[path] for path in sorted(found)]


def read_scenes(path: Path) -> Iterator[tuple[int, float, Frames]]:
    """Yields a clip's scenes of three frames or more as they are decoded.

    Yields:
        (number of the first frame in the clip, frames per second, frames (T, H, W, 3) uint8 RGB); T is at most CHUNK,
        and the short side is at most SHORT_SIDE.

    Raises:
        ClipError: the file is not a video; or, after the scenes that can be read, it is damaged.
    """
    rate, frames = _open(path)
    chunk: list[Frame] = []
    number = 0
    try:
        for frame in frames:
            if len(chunk) == CHUNK:
                yield from _cut(number - len(chunk), rate, np.stack(chunk))
                chunk = []
            chunk.append(frame)
            number += 1
    except ClipError:
        if chunk:
            yield from _cut(number - len(chunk), rate, np.stack(chunk))
        raise
    finally:
        frames.close()
    if chunk:
        yield from _cut(number - len(chunk), rate, np.stack(chunk))


def _cut(number: int, rate: float, frames: Frames) -> Iterator[tuple[int, float, Frames]]:
    """Yields the scenes in successive frames, the first of which has this number."""
    scores = cut_scores(thumbnail(frame[..., 1]) for frame in frames)  # green is most of luma
    cuts = np.flatnonzero(np.array(scores) > THRESHOLD)
    for begin, end in pairwise([0, *(cuts + 1), len(frames)]):
        if end - begin >= 3:
            yield int(number + begin), rate, frames[begin:end]


def measure_motion(frames: Frames) -> NDArray[np.float16]:
    """Computes the attribute `motion` of a `Scene` from its frames (T, H, W, 3)."""
    rows, columns = (size // CELL for size in frames.shape[1:3])
    cells = frames[:, : rows * CELL, : columns * CELL]
    result = np.empty((len(frames) - 1, rows, columns), np.float16)
    for index, (one, two) in enumerate(pairwise(cells)):
        change = np.maximum(one, two) - np.minimum(one, two)  # of bytes, without a wider type
        change = change.reshape(rows, CELL, columns, CELL * 3).sum(axis=3, dtype=np.uint16)
        result[index] = change.sum(axis=1, dtype=np.uint32) / (3 * CELL**2)
    return result


# --- The cache -------------------------------------------------------------------------------------------------


def _fingerprint(clips: Sequence[Path]) -> str:
    """Changes with anything that the frames depend on."""
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in clips]
    return hashlib.sha256(json.dumps([FORMAT, SHORT_SIDE, facts]).encode()).hexdigest()[:16]


def _load(index: Path, path: Path) -> dict[str, Any] | None:
    """The index of the scenes; None if the index or the pixels are missing or damaged."""
    try:
        with np.load(index) as file:
            saved = {name: file[name] for name in ("table", "rates", "motion", "skipped")}
        pixels = int(saved["table"][:, 2:].prod(axis=1).sum())
        return saved if path.stat().st_size == 3 * pixels else None
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None


def _decode_all(clips: Sequence[Path], target: Path, index: Path, progress: Callable[[int, int], None] | None) -> None:
    """Writes the pixels of all scenes to `target`, and their index to `index`."""
    lock, failed = threading.Lock(), threading.Event()
    found: list[tuple[tuple[int, int], list[int], float, NDArray[np.float16]]] = []
    skipped: dict[int, str] = {}
    done = 0
    with atomic_write(target, _part(target)) as part, open(part, "wb") as file:

        def decode(clip: int) -> None:
            nonlocal done
            usable = 0
            try:
                for first, rate, frames in read_scenes(clips[clip]):
                    if failed.is_set():
                        return
                    motion = measure_motion(frames)
                    with lock:
                        found.append(((clip, first), [clip, file.tell() // 3, *frames.shape[:3]], rate, motion))
                        file.write(frames.data)
                    usable += len(frames)
            except ClipError as error:
                skipped[clip] = f"{error}; {usable} frames are used" if usable else str(error)
            else:
                if not usable:
                    skipped[clip] = f"{clips[clip]}: no scene of three frames"
            with lock:
                done += 1
                if progress:
                    progress(done, len(clips))

        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            tasks = [pool.submit(decode, clip) for clip in range(len(clips))]
            try:
                for task in as_completed(tasks):
                    task.result()
            except BaseException:  # a full disk, or Ctrl-C: begin no other clip, decode none to its end
                failed.set()
                pool.shutdown(cancel_futures=True)
                raise
        reasons = [skipped[clip] for clip in sorted(skipped)]
        if not found:
            raise ClipError("none of these clips can be used", reasons)
    found.sort(key=lambda scene: scene[0])  # whichever thread was first, a seed gives the same crops
    _, table, rates, motion = zip(*found, strict=True)
    with atomic_write(index, _part(index)) as part, open(part, "wb") as file:
        np.savez(
            file,
            table=np.array(table, np.int64),
            rates=np.array(rates, np.float64),
            motion=np.concatenate([changes.ravel() for changes in motion]),
            skipped=json.dumps(reasons),
        )


def _part(path: Path) -> Path:
    return path.with_name(PART.format(secrets.token_hex(8)))


# --- Decoding --------------------------------------------------------------------------------------------------


def _open(path: Path) -> tuple[float, Generator[Frame, None, None]]:
    """Opens a clip: (frames per second, a generator of frames (H, W, 3), uint8 RGB, reduced to SHORT_SIDE).

    Frames are upright, deinterlaced, and of the colours that run.py sees, because the same reader decodes them.
    """
    try:
        video = VideoFile(path)
    except VideoError as error:
        raise ClipError(str(error)) from error

    def frames() -> Generator[Frame, None, None]:
        try:
            for frame in video.frames():
                rgb = video.layout.to_rgb([torch.from_numpy(plane) for plane in frame.planes])
                yield _reduce(rgb[:, :3, : video.height, : video.width])
        except VideoError as error:
            raise ClipError(str(error)) from error
        if video.lost:
            raise ClipError(f"{path} is damaged: {video.lost} of {video.count} frames were lost")

    return float(video.rate or video.count / video.length), frames()


def _reduce(rgb: torch.Tensor) -> Frame:
    """(1, 3, H, W), float32, [0, 1], to (H, W, 3), uint8; reduced to SHORT_SIDE if the short side is longer."""
    height, width = rgb.shape[2:]
    short = min(height, width)
    frame = (255 * rgb).round_().clamp_(0, 255).byte()
    if short > SHORT_SIDE:
        size = [round(side * SHORT_SIDE / short) for side in (height, width)]
        frame = F.interpolate(frame, size, mode="bilinear", antialias=True)
    return frame[0].permute(1, 2, 0).contiguous().numpy()
