"""A picture of samples, so that people can see what a run trains on."""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vfi import pictures
from vfi.errors import DataError, reason
from vfi.files import new_folder
from vfi.network import REACH
from vfi.training.batches import Batches
from vfi.training.distributed import Processes
from vfi.training.flow import opencv
from vfi.training.loop import RunOptions
from vfi.training.preparation import check_sampling, decode, name_skipped
from vfi.training.recipe import Recipe

COLUMNS = 2  # samples side by side
GAP = 4  # pixels between samples

Picture = NDArray[np.uint8]  # (H, W, 3), RGB


def show(options: RunOptions, count: int) -> None:
    """Writes samples.png into the folder of a run, and prints its path.

    Raises:
        UserError: there are no such samples, or the file cannot be written; the message says why.
    """
    opencv()
    recipe = Recipe().changed(options.changes)
    check_sampling(recipe, options.changes)
    try:
        with new_folder(options.out):
            footage, _ = decode(options.data, (), options.cache or options.out / "frames", Processes())
            batches = Batches(footage, recipe.crop, recipe.seed, recipe)
            name_skipped(batches.skipped)
            path = options.out / "samples.png"
            write_sheet(path, batches, count)
    except OSError as error:
        raise DataError(f"--out {options.out}: {reason(error)}; name another folder") from error
    print(path)


def write_sheet(path: Path, batches: Batches, count: int) -> None:
    """Writes the first samples of a run: of each the frame before, the truth, the frame after, and the motion.

    The motion between the two frames is measured by OpenCV's optical flow: the hue is its direction, and white areas
    stand still; full colours move by 25 pixels from one frame to the next.

    Raises:
        PictureError: the file cannot be written.
    """
    one, truth, two = batches(0, count)
    inner = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    rows = [_row(*frames) for frames in zip(one[inner], truth, two[inner], strict=True)]
    height, width = rows[0].shape[:2]
    lines = math.ceil(count / COLUMNS)
    sheet = np.full((lines * (height + GAP) - GAP, COLUMNS * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        top, left = number // COLUMNS * (height + GAP), number % COLUMNS * (width + GAP)
        sheet[top : top + height, left : left + width] = row
    pictures.write(path, pictures.Picture(sheet))


def _row(one: Tensor, truth: Tensor, two: Tensor) -> Picture:
    shown = [_to_rgb(frame) for frame in (one, truth, two)]
    return np.concatenate([*shown, _colour_of_motion(shown[0], shown[2])], axis=1)


def _to_rgb(frame: Tensor) -> Picture:
    """(3, H, W), BGR, [0, 1], to (H, W, 3), RGB."""
    rgb: Picture = (255 * frame.flip(0)).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(rgb)


def _colour_of_motion(one: Picture, two: Picture) -> Picture:
    cv2 = opencv()
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    across, down = np.moveaxis(
        flow.calc(*(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (one, two)), None), 2, 0
    )
    hue = (np.arctan2(down, across) / (2 * np.pi) % 1 * 180).astype(np.uint8)
    saturation = (np.hypot(across, down) / (2 * REACH) * 255).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(np.stack([hue, saturation, np.full_like(hue, 255)], axis=2), cv2.COLOR_HSV2RGB))
