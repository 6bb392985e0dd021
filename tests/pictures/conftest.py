"""Fixtures: a smooth picture, and files that cannot be read."""

import os

import numpy as np
import pytest
import pyvips
from helpers.images import random_pixels, save
from PIL import Image


@pytest.fixture
def smooth():
    y, x = np.mgrid[:30, :40]
    return np.stack([80 + 3 * y, 90 + 2 * x, 180 - y - x], axis=2).astype(np.uint8)


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
    inks = pyvips.Image.new_from_array(random_pixels(4, np.uint16)).copy(interpretation="cmyk")
    inks.tiffsave(str(tmp_path / "cmyk16.tif"))
    for compression in (None, "tiff_lzw", "jpeg"):
        luma = Image.fromarray(random_pixels()).convert("YCbCr")
        luma.save(tmp_path / f"ycbcr_{compression}.tif", compression=compression)
    return tmp_path
