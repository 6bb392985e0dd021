"""Writes image files for the tests, and compares pixels."""

import numpy as np
import pyvips
from PIL import Image, ImageCms

# The largest deviation, in steps of 8 bits, of smooth pictures after lossy compression at a high quality or a
# conversion through another colour space.
LOSSY = 8

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]  # a grey one by its header, which is all that is read
CMYK = pyvips.Operation.call("profile_load", "cmyk")

# The stored pixels of a picture that the EXIF orientation turns upright.
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: np.rot90(upright.swapaxes(0, 1), 2),
    8: lambda upright: np.rot90(upright, -1),
}

LISTED = "one of png, jpg, jpeg, bmp, webp, tif, tiff"


def random_pixels(channels=3, dtype=np.uint8, height=30, width=40):
    """Random pixels of all values; with alpha, a part is fully transparent and a part opaque."""
    most = np.iinfo(dtype).max
    pixels = np.random.default_rng(channels).integers(0, most, (height, width, channels), dtype, endpoint=True)
    if channels in (2, 4):
        pixels[:4, :, -1] = 0
        pixels[-4:, :, -1] = most
    return pixels[:, :, 0] if channels == 1 else pixels


def deep(pixels):
    grey = pixels.ndim == 2 or pixels.shape[2] == 2
    return pyvips.Image.new_from_array(np.ascontiguousarray(pixels)).copy(interpretation="grey16" if grey else "rgb16")


def save(path, pixels, **options):
    """By Pillow, or for 16 bits by libvips."""
    if pixels.dtype == np.uint8:
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    elif path.suffix == ".png":
        deep(pixels).pngsave(str(path), bitdepth=16, **options)
    else:
        deep(pixels).tiffsave(str(path), **options)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def same(pixels, expected):
    return pixels.dtype == expected.dtype and np.array_equal(pixels, expected)


def deviation(pixels, expected):
    assert pixels.shape == expected.shape
    return np.abs(pixels.astype(int) - expected).max()
