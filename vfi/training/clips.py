"""Footage for training: the videos of any folders, decoded once and cut into scenes.

    footage = Footage(["holiday", "films"], cache="weights/frames")
    footage.pixels  # (P, 3), uint8, RGB: every pixel of every frame of every scene
    footage.scenes  # where they lie, and how much moves in them

The frames are kept in a file that is mapped into memory: what fits there stays there, what does not is read again, all
processes of a machine share it, and a run that goes on later finds it ready. A change of the videos makes a new file;
the old one, like any of them, may be deleted, and is made anew if it is needed. PyAV decodes, or OpenCV where that is
all there is.
"""

import hashlib
import json
import os
import secrets
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from vfi.cuts import THRESHOLD, cut_scores, thumbnail
from vfi.errors import ClipError, reason
from vfi.files import atomic_write, locked, new_folder

SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
SHORT_SIDE = 360  # pixels, at most: larger frames are reduced to it
CHUNK = 240  # frames in memory at once; also the longest scene: longer ones are taken apart
CELL = 16  # pixels: the side of the squares in which motion is measured
FORMAT = 2  # of the cache
PART = ".frames-{}.part"  # a file of the cache that is not whole yet


@dataclass(frozen=True)
class Scene:
    """Frames of a clip that show one continuous motion.

    Attributes:
        clip: which of `Footage.clips` it is from.
        start: index of its first pixel in `Footage.pixels`; frames, rows and pixels follow without gaps.
        frames, height, width: its size.
        rate: frames per second.
        motion: (frames - 1, height // CELL, width // CELL), float16: by how many grey levels each cell changes from
            one frame to the next. The paper chooses by optical flow and by texture; the change is, to first order,
            the one times the other, needs no flow to be computed, and is what averaging gets wrong. What it takes for
            motion and is none, flashes and fades, changes much at once, which `Batches` makes less likely.
    """

    clip: int
    start: int
    frames: int
    height: int
    width: int
    rate: float
    motion: np.ndarray


class Footage:
    """The scenes of all videos in some folders (and in those within).

    Args:
        folders: paths of folders, or of single videos.
        cache: folder for the decoded frames, made if need be. Twelve bytes for every 2 x 2 pixels.
        progress: called with (clips done, clips in all) before and while decoding.

    Attributes:
        clips: the paths that were found, in order.
        skipped: a line for every clip of which something could not be used.
        pixels, scenes: see above.
        path: of the file with the pixels.

    Raises:
        ClipError: a folder is not there or holds no video, or nothing could be decoded.
        OSError: the cache cannot be written.
    """

    def __init__(self, folders, cache, progress=None):
        self.clips = find_clips(folders)
        name = f"frames-{_fingerprint(self.clips)}"
        self.path, index = (Path(cache) / f"{name}.{suffix}" for suffix in ("rgb", "npz"))
        saved = _load(index, self.path)
        if not saved:
            with new_folder(self.path.parent):
                if progress:
                    progress(0, len(self.clips))
                with locked(self.path.parent, wait=True) as alone:
                    saved = _load(index, self.path)  # another run may just have decoded them
                    if not saved:
                        index.unlink(missing_ok=True)  # never an old index with new pixels
                        for part in self.path.parent.glob(PART.format("*")) if alone else ():  # of killed runs
                            part.unlink(missing_ok=True)
                        _decode_all(self.clips, self.path, index, progress)
                        saved = _load(index, self.path)
        self.skipped = json.loads(str(saved["skipped"]))
        rates, motion = saved["rates"].tolist(), saved["motion"]
        self.scenes, at = [], 0
        for (clip, start, frames, height, width), rate in zip(saved["table"].tolist(), rates, strict=True):
            shape = (frames - 1, height // CELL, width // CELL)
            self.scenes.append(
                Scene(clip, start, frames, height, width, rate, motion[at : at + np.prod(shape)].reshape(shape))
            )
            at += np.prod(shape)
        self.pixels = torch.from_numpy(np.memmap(self.path, np.uint8, mode="c")).view(-1, 3)

    @property
    def frames(self):
        return sum(scene.frames for scene in self.scenes)


def find_clips(folders):
    """The videos in folders and all within them, by their suffix, each once, in alphabetical order.

    Raises:
        ClipError: a folder is not there or holds none.
    """
    found = {}
    for folder in map(Path, folders):
        if not folder.exists():
            raise ClipError(f"there is no folder {folder}")
        paths = [folder] if folder.is_file() else folder.rglob("*")
        videos = [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not videos:
            what = "is not called as videos are" if folder.is_file() else "holds no video"
            raise ClipError(f"{folder} {what} ({', '.join(suffix[1:] for suffix in SUFFIXES)})")
        found |= {path.resolve(): path for path in videos}
    return [found[path] for path in sorted(found)]


def scenes(path):
    """Yields a clip's scenes of three frames or more as they are decoded.

    Yields:
        (number of the first frame in the clip, frames per second, frames (T, H, W, 3) uint8 RGB); T is at most CHUNK,
        no edge of a frame is that of another size, and the short side is SHORT_SIDE at most.

    Raises:
        ClipError: the file is no video, or breaks off (after the scenes before that).
    """
    rate, frames = _open(path)
    chunk, number = [], 0
    try:
        for frame in frames:
            if chunk and (len(chunk) == CHUNK or frame.shape != chunk[0].shape):
                yield from _cut(number - len(chunk), rate, np.stack(chunk))
                chunk = []
            chunk.append(frame)
            number += 1
    finally:
        frames.close()
    if chunk:
        yield from _cut(number - len(chunk), rate, np.stack(chunk))


def _cut(number, rate, frames):
    """The scenes in successive frames, of which the first has this number."""
    scores = cut_scores(thumbnail(frame[..., 1]) for frame in frames)  # green is most of luma
    cuts = np.flatnonzero(np.array(scores) > THRESHOLD)
    for begin, end in pairwise([0, *(cuts + 1), len(frames)]):
        if end - begin >= 3:
            yield int(number + begin), rate, frames[begin:end]


def measure_motion(frames):
    """(T, H, W, 3) frames -> what `Scene` calls motion."""
    rows, columns = (size // CELL for size in frames.shape[1:3])
    cells = frames[:, : rows * CELL, : columns * CELL]
    result = np.empty((len(frames) - 1, rows, columns), np.float16)
    for index, (one, two) in enumerate(pairwise(cells)):
        change = np.maximum(one, two) - np.minimum(one, two)  # of bytes, without widening them
        change = change.reshape(rows, CELL, columns, CELL * 3).sum(axis=3, dtype=np.uint16)
        result[index] = change.sum(axis=1, dtype=np.uint32) / (3 * CELL**2)
    return result


# --- The cache -------------------------------------------------------------------------------------------------


def _fingerprint(clips):
    """Changes with anything that the frames depend on."""
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in clips]
    return hashlib.sha256(json.dumps([FORMAT, SHORT_SIDE, facts]).encode()).hexdigest()[:16]


def _load(index, path):
    """What is known of the scenes, if it and their pixels are there and whole."""
    try:
        with np.load(index) as file:
            saved = {name: file[name] for name in ("table", "rates", "motion", "skipped")}
        pixels = int(saved["table"][:, 2:].prod(axis=1).sum())
        return saved if path.stat().st_size == 3 * pixels else None
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None


def _decode_all(clips, target, index, progress):
    """Writes the pixels of all scenes to `target`, and what is known of them to `index`."""
    lock, failed = threading.Lock(), threading.Event()
    found, skipped, done = [], {}, 0
    with atomic_write(target, _part(target)) as part, open(part, "wb") as file:

        def decode(clip):
            nonlocal done
            usable = 0
            try:
                for first, rate, frames in scenes(clips[clip]):
                    if failed.is_set():
                        return
                    motion = measure_motion(frames)
                    with lock:
                        found.append(((clip, first), [clip, file.tell() // 3, *frames.shape[:3]], rate, motion))
                        file.write(frames)
                    usable += len(frames)
            except ClipError as error:
                skipped[clip] = f"{error}; {usable} frames before that are used" if usable else str(error)
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
            except BaseException:  # a full disk, or Ctrl-C: nothing more is begun, no film decoded to its end
                failed.set()
                pool.shutdown(cancel_futures=True)
                raise
        reasons = [skipped[clip] for clip in sorted(skipped)]
        if not found:
            raise ClipError("none of these clips is of use", reasons)
    found.sort(key=lambda scene: scene[0])  # whichever thread was first, a seed means the same crops
    _, table, rates, motion = zip(*found, strict=True)
    with atomic_write(index, _part(index)) as part, open(part, "wb") as file:
        np.savez(
            file,
            table=np.array(table, np.int64),
            rates=np.array(rates, np.float64),
            motion=np.concatenate([changes.ravel() for changes in motion]),
            skipped=json.dumps(reasons),
        )


def _part(path):
    return path.with_name(PART.format(secrets.token_hex(8)))


# --- Decoding --------------------------------------------------------------------------------------------------


def _open(path):
    """(frames per second, a generator of frames (H, W, 3) uint8 RGB, reduced to SHORT_SIDE)."""
    if path.is_file() and not path.stat().st_size:
        raise ClipError(f"{path} is empty")
    try:
        import av
    except ImportError:
        return _open_with_opencv(path)
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise ClipError(f"{path} is no video that can be read ({reason(error)})") from error
    if not container.streams.video:
        container.close()
        raise ClipError(f"{path} has no picture")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"

    def frames():
        with container:
            try:
                for frame in container.decode(stream):
                    yield _reduce(frame.to_ndarray(format="rgb24"))
            except (av.FFmpegError, OSError) as error:
                raise ClipError(f"{path} breaks off ({reason(error)})") from error

    return float(stream.average_rate or 25), frames()


def _open_with_opencv(path):
    try:
        import cv2
    except ImportError as error:
        raise ClipError("there is nothing to decode videos with: install av or opencv-python-headless") from error
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise ClipError(f"{path} is no video that can be read")

    def frames():
        try:
            while True:
                there, frame = video.read()
                if not there:
                    return
                yield _reduce(np.ascontiguousarray(frame[..., ::-1]))  # BGR
        finally:
            video.release()

    return video.get(cv2.CAP_PROP_FPS) or 25.0, frames()


def _reduce(frame):
    """(H, W, 3) uint8 to the same with a short side of SHORT_SIDE, if it is longer, each pixel the mean of its own."""
    height, width = frame.shape[:2]
    short = min(height, width)
    if short <= SHORT_SIDE:
        return frame
    size = [round(side * SHORT_SIDE / short) for side in (height, width)]
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None]
    return F.interpolate(pixels, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).contiguous().numpy()
