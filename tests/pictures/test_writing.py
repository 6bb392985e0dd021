"""Writing pictures, and matching the two of a pair."""

import os

import numpy as np
import pytest
from helpers.images import GREY, LISTED, LOSSY, SRGB, deviation, random_pixels, same, save
from PIL import Image

from vfi import pictures
from vfi.errors import DataError, PictureError, UsageError
from vfi.pictures import FORMATS, Picture

# --- Writing ---


@pytest.mark.parametrize("suffix", [*FORMATS, *(suffix.upper() for suffix in FORMATS)])
def test_every_extension(suffix, smooth, tmp_path):
    path = tmp_path / f"picture{suffix}"
    assert pictures.write(path, Picture(smooth)) == []
    with Image.open(path) as stored:
        assert stored.format == FORMATS[suffix.lower()].name
    assert deviation(pictures.read(path).pixels, smooth) <= LOSSY
    assert list(tmp_path.iterdir()) == [path]


EXACT = [(suffix, channels, np.uint8) for suffix in (".png", ".tif", ".tiff") for channels in (1, 2, 3, 4)]
EXACT += [(suffix, channels, np.uint16) for suffix in (".png", ".tif", ".tiff") for channels in (1, 2, 3, 4)]
EXACT += [(".bmp", 1, np.uint8), (".bmp", 3, np.uint8), (".webp", 3, np.uint8), (".webp", 4, np.uint8)]


@pytest.mark.parametrize(("suffix", "channels", "dtype"), EXACT)
def test_round_trip_is_exact(suffix, channels, dtype, tmp_path):
    path = tmp_path / f"picture{suffix}"
    profile = None if suffix == ".bmp" else SRGB if channels > 2 else GREY
    picture = Picture(random_pixels(channels, dtype), profile)
    assert pictures.write(path, picture, lossless=suffix == ".webp") == []
    back = pictures.read(path)
    assert same(back.pixels, picture.pixels)
    assert back.icc_profile == picture.icc_profile


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (7, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_round_trip_of_the_smallest(suffix, dtype, height, width, tmp_path):
    path = tmp_path / f"picture{suffix}"
    pixels = random_pixels(3, dtype, height, width)
    pictures.write(path, Picture(pixels))
    assert same(pictures.read(path).pixels, pixels)


def test_lossless_webp_of_grey_is_exact(tmp_path):
    pictures.write(tmp_path / "picture.webp", Picture(random_pixels(1)), lossless=True)
    assert same(pictures.read(tmp_path / "picture.webp").pixels, np.stack([random_pixels(1)] * 3, axis=2))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_colour_profile_is_written(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    assert pictures.write(path, Picture(random_pixels(), SRGB)) == []
    assert pictures.read(path).icc_profile == SRGB


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp"])
def test_16_bits_are_rounded_for_8_bit_formats(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    pixels = random_pixels(3, np.uint16)
    (note,) = pictures.write(path, Picture(pixels), lossless=suffix == ".webp")
    assert note == f"{FORMATS[suffix].name} holds 8 bits for each colour: the picture's 16 bits were rounded"
    if suffix != ".jpg":
        assert same(pictures.read(path).pixels, np.rint(pixels / 257).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_becomes_white_without_alpha(channels, suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    pixels = random_pixels(channels)
    (note,) = pictures.write(path, Picture(pixels))
    assert note == f"{FORMATS[suffix].name} holds no transparency: the picture was blended with white"
    written = pictures.read(path).pixels.reshape(30, 40, -1)
    assert written[:2].min() >= 255 - LOSSY  # fully transparent there
    if suffix == ".bmp":
        alpha = pixels[..., -1:] / 255
        assert deviation(written, np.rint(pixels[..., :-1] * alpha + 255 * (1 - alpha)).astype(int)) == 0


def test_bmp_drops_are_all_reported(tmp_path):
    notes = pictures.write(tmp_path / "picture.bmp", Picture(random_pixels(4, np.uint16), SRGB))
    assert [note.split(" ", 2)[2] for note in notes] == [
        "8 bits for each colour: the picture's 16 bits were rounded",
        "no transparency: the picture was blended with white",
        "no colour profile: the picture's was left out",
    ]
    assert pictures.read(tmp_path / "picture.bmp").icc_profile is None


@pytest.mark.parametrize(("suffix", "default"), [(".jpg", 95), (".jpeg", 95), (".webp", 90)])
def test_quality(suffix, default, smooth, tmp_path):
    written = {}
    for quality in (None, 5, 50, default, 100):
        path = tmp_path / f"{quality}{suffix}"
        pictures.write(path, Picture(smooth), quality)
        written[quality] = path.read_bytes()
    assert len(written[5]) < len(written[50]) < len(written[default]) < len(written[100])
    assert written[None] == written[default]


def test_existing_files_are_replaced(smooth, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(bytes(10**6))
    pictures.write(path, Picture(smooth))
    assert same(pictures.read(path).pixels, smooth)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
def test_a_failed_write_changes_nothing(there, tmp_path):
    path = tmp_path / "picture.webp"
    if there:
        path.write_bytes(b"what was there")
    with pytest.raises(PictureError, match=r"picture.webp cannot be written: 16384x1 is too large for WEBP"):
        pictures.write(path, Picture(np.zeros((1, 16384, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == ([path] if there else [])
    assert not there or path.read_bytes() == b"what was there"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("picture.gif", f"the extension .gif is not known: use {LISTED}"),
        ("picture.png.part", f"the extension .part is not known: use {LISTED}"),
        ("picture", f"the extension (none) is not known: use {LISTED}"),
        (".png", f"the extension (none) is not known: use {LISTED}"),
        ("missing/picture.png", "cannot be written: there is no folder"),
        ("text.txt/picture.png", "cannot be written: there is no folder"),
        ("folder.png", "is a folder: name a file"),
        (300 * "a" + ".png", "cannot be written: file name too long"),
    ],
)
def test_paths_that_cannot_be_written(name, message, broken):
    before = sorted(broken.rglob("*"))
    with pytest.raises(UsageError if "extension" in message else DataError) as caught:
        pictures.write(broken / name, Picture(random_pixels()))
    assert str(caught.value).startswith(str(broken / name))
    assert message in str(caught.value)
    assert sorted(broken.rglob("*")) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match="no permission to write"):
            pictures.write(tmp_path / "picture.png", Picture(random_pixels()))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_folder_that_cannot_be_searched(tmp_path):
    save(tmp_path / "picture.png", random_pixels())
    tmp_path.chmod(0)
    try:
        with pytest.raises(PictureError, match="cannot be read: permission denied"):
            pictures.read(tmp_path / "picture.png")
        with pytest.raises(DataError, match="no permission to write"):
            pictures.check_target(tmp_path / "picture.png")
    finally:
        tmp_path.chmod(0o700)


# --- Pairs ---


def check_same_colours(before, after):
    """Asserts that RGB and alpha are equal as fractions of white: 16 bits hold every fraction that 8 bits do."""
    fractions = []
    for picture in (before, after):
        pixels = np.atleast_3d(picture.pixels) / np.iinfo(picture.pixels.dtype).max
        colours = pixels[..., : -1 if picture.has_alpha else None]
        alpha = pixels[..., -1:] if picture.has_alpha else np.ones((30, 40, 1))
        fractions.append(np.concatenate([np.broadcast_to(colours, (30, 40, 3)), alpha], axis=2))
    assert np.array_equal(*fractions)


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (1, 2, 2), (1, 3, 3), (1, 4, 4), (2, 3, 4), (2, 4, 4), (3, 4, 4)],
)
@pytest.mark.parametrize("dtypes", [(np.uint8, np.uint8), (np.uint8, np.uint16), (np.uint16, np.uint16)], ids=str)
def test_match_keeps_the_richer_property(one, two, together, dtypes):
    pair = [Picture(random_pixels(c, d), SRGB) for c, d in zip((one, two), dtypes, strict=True)]
    for given in (pair, pair[::-1]):
        for before, after in zip(given, pictures.match(*given), strict=True):
            assert after.pixels.shape == ((30, 40) if together == 1 else (30, 40, together))
            assert after.pixels.dtype == max(dtypes, key=lambda dtype: np.dtype(dtype).itemsize)
            assert after.icc_profile == SRGB
            check_same_colours(before, after)
