"""Fixtures: a smooth picture, and files that cannot be read."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
import pyvips
from helpers.clips import write_clip
from helpers.images import random_pixels, save
from PIL import Image


@pytest.fixture
def smooth():
    y, x = np.mgrid[:30, :40]
    return np.stack([80 + 3 * y, 90 + 2 * x, 180 - y - x], axis=2).astype(np.uint8)


def encode_still(path, codec, pixels):
    """Writes a picture by FFmpeg."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt = "rgb24" if codec == "dpx" else "gbrpf32le"
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=encoder.pix_fmt)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


@pytest.fixture
def broken(tmp_path):
    """Files that cannot be read, by name, and one picture that proves that the folder is readable."""
    pixels = random_pixels(height=90, width=120)
    wide = random_pixels(3, np.uint16, height=90, width=120)
    save(tmp_path / "whole.png", pixels)
    save(tmp_path / "truncated.png", pixels)
    save(tmp_path / "truncated.jpg", pixels)
    save(tmp_path / "truncated.tif", pixels)
    save(tmp_path / "truncated.webp", pixels)
    save(tmp_path / "truncated16.png", wide)
    save(tmp_path / "truncated16.tif", wide)
    Image.fromarray(wide[..., 0]).save(tmp_path / "truncated16_data_last.tif")
    for path in tmp_path.glob("truncated*"):
        os.truncate(path, path.stat().st_size // 2)
    save(tmp_path / "damaged16.tif", wide, compression="deflate")
    with open(tmp_path / "damaged16.tif", "r+b") as file:
        file.seek(5000)
        file.write(bytes(2000))
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.txt").write_text("Two frames in, the frame halfway between them out.\n")
    (tmp_path / "text.png").write_text("Two frames in, the frame halfway between them out.\n")
    Image.fromarray(np.zeros((30, 40), np.float32)).save(tmp_path / "float.tif")
    pyvips.Image.black(40, 30, bands=3).cast("float").tiffsave(str(tmp_path / "float3.tif"))
    rgb = pyvips.Image.new_from_array(pixels)
    for name, kind in (("double", "double"), ("uint32", "uint"), ("int16x3", "short")):
        rgb.cast(kind).tiffsave(str(tmp_path / f"{name}.tif"))
    rgb[0].cast("short").tiffsave(str(tmp_path / "int16.tif"))
    for codec in ("exr", "hdr", "pfm", "dpx"):
        encode_still(tmp_path / f"picture.{codec}", codec, pixels)
    for name in ("png", "jpg"):
        save(tmp_path / f"head.{name}", pixels)
        os.truncate(tmp_path / f"head.{name}", 12)
    write_clip(tmp_path / "clip.mp4", np.stack([pixels] * 2))
    (tmp_path / "clip.mp4").rename(tmp_path / "video.png")
    inks = pyvips.Image.new_from_array(random_pixels(4, np.uint16)).copy(interpretation="cmyk")
    inks.tiffsave(str(tmp_path / "cmyk16.tif"))
    for compression in (None, "tiff_lzw", "jpeg"):
        luma = Image.fromarray(random_pixels()).convert("YCbCr")
        luma.save(tmp_path / f"ycbcr_{compression}.tif", compression=compression)
    return tmp_path
