"""How far things move, measured by OpenCV's DIS optical flow (Kroeger et al., ECCV 2016)."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfi.errors import DataError
from vfi.training.clips import Frame


class Flow:
    """Measures motion between frames. One object serves one thread.

    Raises:
        DataError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        cv2 = _opencv()
        self._to_grey = lambda frame: cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, one: Frame, two: Frame) -> NDArray[np.float32]:
        """How far each pixel of `one` moves to `two`: (H, W), in pixels."""
        flow = self._flow.calc(self._to_grey(one), self._to_grey(two), None)
        return np.hypot(flow[..., 0], flow[..., 1])


@cache
def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise DataError("to measure motion, OpenCV is needed: pip install opencv-python-headless") from error
    return cv2
