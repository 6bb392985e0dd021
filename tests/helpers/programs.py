"""Helpers of the tests that run programs."""

from pathlib import Path

import pyvips
from PIL import ImageCms

from vfi import pictures

ROOT = Path(__file__).parent.parent.parent

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = pyvips.Operation.call("profile_load", "p3")
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]  # a grey one by its header, which is all that is read


def listing(folder):
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def pixels_of(path):
    return pictures.read(path).pixels
