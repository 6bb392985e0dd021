"""How far things move, measured by OpenCV's DIS optical flow (Kroeger et al., ECCV 2016)."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfi.errors import DataError, reason
from vfi.files import atomic_write
from vfi.training.clips import CELL, Footage, Frame, Scene


class Flow:
    """Measures motion between frames. One object serves one thread.

    Raises:
        DataError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        cv2 = opencv()
        self._to_grey = lambda frame: cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, one: Frame, two: Frame) -> NDArray[np.float32]:
        """How far each pixel of `one` moves to `two`: (H, W), in pixels."""
        flow = self._flow.calc(self._to_grey(one), self._to_grey(two), None)
        return np.hypot(flow[..., 0], flow[..., 1])


@cache
def opencv() -> Any:
    """The module cv2, which only some options need.

    Raises:
        DataError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise DataError("to measure motion, OpenCV is needed: pip install opencv-python-headless") from error
    return cv2


def footage_motion(footage: Footage) -> list[NDArray[np.float16]]:
    """How far the cells of each scene move, in pixels: one array for each scene, with the shape of `Scene.motion`.

    It is measured once, and kept beside the frames.

    Raises:
        DataError: OpenCV is not installed, or the cache cannot be written.
    """
    path = footage.path.with_suffix(".flow.npy")
    sizes = [scene.motion.size for scene in footage.scenes]
    found = _load(path, sum(sizes))
    if found is None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = list(pool.map(lambda scene: _scene_motion(footage, scene).ravel(), footage.scenes))
        found = np.concatenate(parts)
        try:
            with atomic_write(path) as part, open(part, "wb") as file:
                np.save(file, found)
        except OSError as error:
            raise DataError(f"{path}: {reason(error)}") from error
    parts = np.split(found, np.cumsum(sizes)[:-1])
    return [part.reshape(scene.motion.shape) for part, scene in zip(parts, footage.scenes, strict=True)]


def _load(path: Path, size: int) -> NDArray[np.float16] | None:
    try:
        found: NDArray[np.float16] = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == (size,) else None


def _scene_motion(footage: Footage, scene: Scene) -> NDArray[np.float16]:
    flow = Flow()
    size = scene.height * scene.width
    pixels = footage.pixels[scene.start :][: scene.frames * size].numpy()
    frames = pixels.reshape(scene.frames, scene.height, scene.width, 3)
    rows, columns = scene.motion.shape[1:]
    result = np.empty(scene.motion.shape, np.float16)
    for index, (one, two) in enumerate(pairwise(frames)):
        cells = flow(one, two)[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
        result[index] = cells.mean(axis=(1, 3))
    return result
