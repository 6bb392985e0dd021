"""Reading pictures of every kind, and files that are not pictures."""

import os

import numpy as np
import pytest
import pyvips
from helpers.images import CMYK, LOSSY, SRGB, STORED, deep, deviation, exif, random_pixels, same, save
from PIL import Image, ImageCms

from vfi import pictures
from vfi.errors import PictureError
from vfi.pictures import Picture

# --- Reading ---


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_or_colour_with_or_without_alpha(dtype, channels, suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    pixels = random_pixels(channels, dtype)
    save(path, pixels)
    picture = pictures.read(path)
    assert same(picture.pixels, pixels)
    assert picture.size == "40x30"
    assert picture.is_grey == (channels < 3)
    assert picture.has_alpha == (channels in (2, 4))
    assert picture.icc_profile is None


@pytest.mark.parametrize("channels", [1, 3])
def test_bmp(channels, tmp_path):
    save(tmp_path / "picture.bmp", random_pixels(channels))
    assert same(pictures.read(tmp_path / "picture.bmp").pixels, random_pixels(channels))


@pytest.mark.parametrize("name", ["with space.png", "frame[1].png", "größe.tif", "no_extension"])
def test_any_name(name, tmp_path):
    pixels = random_pixels(3, np.uint16)
    save(tmp_path / "picture.png", pixels)
    (tmp_path / "picture.png").rename(tmp_path / name)
    assert same(pictures.read(tmp_path / name).pixels, pixels)


PALETTE = np.array([[10, 20, 30], [200, 40, 90], [255, 255, 255], [0, 130, 7]], np.uint8)
INDICES = np.random.default_rng(0).integers(0, 4, (30, 40), np.uint8)


def palette_picture():
    image = Image.fromarray(INDICES)
    image.putpalette(PALETTE.tobytes())
    return image


@pytest.mark.parametrize("suffix", [".png", ".gif", ".tif", ".bmp"])
def test_palette(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    palette_picture().save(path)
    assert same(pictures.read(path).pixels, PALETTE[INDICES])


@pytest.mark.parametrize(
    ("suffix", "transparency", "alphas"),
    [
        (".png", 2, [255, 255, 0, 255]),
        (".png", bytes([0, 70, 255]), [0, 70, 255, 255]),
        (".gif", 2, [255, 255, 0, 255]),
    ],
)
def test_palette_with_transparency(suffix, transparency, alphas, tmp_path):
    path = tmp_path / f"picture{suffix}"
    palette_picture().save(path, transparency=transparency)
    pixels = pictures.read(path).pixels
    alpha = np.array(alphas, np.uint8)[INDICES]
    assert same(pixels[..., 3], alpha)
    assert same(pixels[alpha > 0, :3], PALETTE[INDICES][alpha > 0])


def test_png_transparent_colour(tmp_path):
    save(tmp_path / "picture.png", PALETTE[INDICES], transparency=tuple(PALETTE[1].tolist()))
    pixels = pictures.read(tmp_path / "picture.png").pixels
    assert same(pixels[..., :3], PALETTE[INDICES])
    assert same(pixels[..., 3], np.where(INDICES == 1, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_one_bit(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(INDICES > 1).save(path)
    assert same(pictures.read(path).pixels, np.where(INDICES > 1, 255, 0).astype(np.uint8))


@pytest.mark.parametrize("compression", ["lzw", "deflate"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_tiff_compressed(channels, compression, tmp_path):
    pixels = random_pixels(channels, np.uint16)
    save(tmp_path / "picture.tif", pixels, compression=compression, predictor="horizontal")
    assert same(pictures.read(tmp_path / "picture.tif").pixels, pixels)


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_16_bit_tiff_in_both_byte_orders(byte_order, tmp_path):
    path = tmp_path / "picture.tif"
    pixels = random_pixels(1, np.uint16)
    Image.fromarray(pixels.astype(f"{byte_order}u2")).save(path)
    assert path.read_bytes()[:2] == {"<": b"II", ">": b"MM"}[byte_order]
    assert same(pictures.read(path).pixels, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_tiff_becomes_straight(dtype, tmp_path):
    most = np.iinfo(dtype).max
    pixels = random_pixels(4, dtype)
    pixels[..., 3] = np.maximum(pixels[..., 3], most // 2)  # at least half opaque, so that at most two steps are lost
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb" if dtype == np.uint8 else "rgb16")
    image.tiffsave(str(tmp_path / "picture.tif"), premultiply=True)
    assert deviation(pictures.read(tmp_path / "picture.tif").pixels, pixels) <= 2


def test_cmyk_jpeg_without_profile(smooth, tmp_path):
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "picture.jpg", quality=100, subsampling=0)
    picture = pictures.read(tmp_path / "picture.jpg")
    assert deviation(picture.pixels, smooth) <= LOSSY
    assert picture.icc_profile is None


def test_cmyk_jpeg_with_profile(smooth, tmp_path):
    """Compared with libvips: without the profile the colours would be far off, because inks are not inverted lights."""
    path = tmp_path / "picture.jpg"
    image = pyvips.Image.new_from_array(smooth).copy(interpretation="srgb")
    image.icc_export(output_profile="cmyk").jpegsave(str(path), Q=100)
    inks = pyvips.Image.new_from_file(str(path))
    expected = inks.icc_transform("srgb", embedded=True, intent="perceptual").numpy()
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
        assert stored.info["icc_profile"] == CMYK
        assert deviation(np.asarray(stored.convert("RGB")), expected) > 4 * LOSSY
    picture = pictures.read(path)
    assert deviation(picture.pixels, expected) <= LOSSY
    assert picture.icc_profile is None


def test_lab_tiff(smooth, tmp_path):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(smooth), srgb, lab, outputMode="LAB")
    image.save(tmp_path / "picture.tif")
    assert deviation(pictures.read(tmp_path / "picture.tif").pixels, smooth) <= LOSSY


def test_ycbcr_tiff(smooth, tmp_path):
    path = tmp_path / "picture.tif"
    image = pyvips.Image.new_from_array(smooth).copy(interpretation="srgb")
    image.tiffsave(str(path), compression="jpeg", Q=89)  # from 90 on, libvips stores RGB
    with Image.open(path) as stored:
        assert stored.tag_v2[262] == 6  # PhotometricInterpretation: YCbCr
    assert deviation(pictures.read(path).pixels, smooth) <= LOSSY


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(orientation, suffix, smooth, tmp_path):
    path = tmp_path / f"picture{suffix}"
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    save(path, STORED[orientation](smooth), exif=exif(orientation), **options)
    assert deviation(pictures.read(path).pixels, smooth) <= (LOSSY if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_16_bits(orientation, suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    upright = random_pixels(3, np.uint16)
    image = deep(STORED[orientation](upright)).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.write_to_file(str(path))
    assert same(pictures.read(path).pixels, upright)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_colour_profile(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    save(path, random_pixels(), icc_profile=SRGB)
    assert pictures.read(path).icc_profile == SRGB


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colour_profile_of_16_bits(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    image = deep(random_pixels(3, np.uint16)).copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", SRGB)
    image.write_to_file(str(path))
    assert pictures.read(path).icc_profile == SRGB


def test_a_changed_file_is_read_again(tmp_path):
    for value in (1000, 2000):
        save(tmp_path / "picture.png", np.full((30, 40, 3), value, np.uint16))
        assert pictures.read(tmp_path / "picture.png").pixels[0, 0, 0] == value


# --- Files that are not pictures ---


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "cannot be read: no such file or directory"),
        ("folder/missing.png", "cannot be read: no such file or directory"),
        ("text.txt/missing.png", "cannot be read: not a directory"),
        (300 * "a" + ".png", "cannot be read: file name too long"),
        ("empty.png", "is empty"),
        ("folder.png", "is a folder, not a picture"),
        ("text.txt", "is not a picture"),
        ("text.png", "is not a picture"),
        ("truncated.png", "cannot be read: image file is truncated"),
        ("truncated.jpg", "cannot be read: image file is truncated"),
        ("truncated.tif", "cannot be read: it is damaged or truncated"),
        ("truncated.webp", "cannot be read"),
        ("truncated16.png", "cannot be read"),
        (
            "truncated16.tif",
            "is damaged: it begins like a TIFF file, but cannot be read",
        ),  # the offset of its data is at the end of the file
        ("truncated16_data_last.tif", "cannot be read"),
        ("damaged16.tif", "cannot be read"),
        ("float.tif", "is a TIFF with floating-point 32-bit samples, which cannot be read: save it as PNG or TIFF"),
        ("float3.tif", "is a TIFF with floating-point 32-bit samples, which cannot be read: save it as PNG or TIFF"),
        ("double.tif", "is a TIFF with floating-point 64-bit samples, which cannot be read"),
        ("uint32.tif", "is a TIFF with 32-bit samples, which cannot be read"),
        ("int16.tif", "is a TIFF with signed 16-bit samples, which cannot be read"),
        ("int16x3.tif", "is a TIFF with signed 16-bit samples, which cannot be read"),
        ("picture.exr", "is an OpenEXR picture, which cannot be read: save it as PNG or TIFF with 8 or 16 bits"),
        ("picture.hdr", "is a Radiance HDR picture, which cannot be read"),
        ("picture.dpx", "is a DPX picture, which cannot be read"),
        ("picture.pfm", "is a PFM picture, which cannot be read"),
        ("head.png", "is damaged: it begins like a PNG file, but cannot be read"),
        ("head.jpg", "cannot be read: truncated"),
        ("video.png", "is a video, not a picture: name it by --video"),
        ("cmyk16.tif", "16 bits of cmyk are not supported"),
        ("ycbcr_None.tif", "uncompressed YCbCr in a TIFF is not supported: save it as RGB"),
    ],
)
def test_unreadable_files_are_named(name, message, broken):
    assert pictures.read(broken / "whole.png").size == "120x90"
    with pytest.raises(PictureError) as caught:
        pictures.read(broken / name)
    assert str(caught.value).startswith(str(broken / name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tiff_that_only_pillow_can_unpack(tmp_path):
    pixels = random_pixels()
    Image.fromarray(pixels).save(tmp_path / "picture.tif", compression="lzma")
    assert np.array_equal(pictures.read(tmp_path / "picture.tif").pixels, pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_ycbcr_within_a_tiff_becomes_rgb(compression, broken):
    name = broken / f"ycbcr_{compression}.tif"
    with Image.open(name) as image:
        assert np.array_equal(pictures.read(name).pixels, np.asarray(image.convert("RGB")))
    assert abs(pictures.read(broken / "ycbcr_tiff_lzw.tif").pixels.astype(int) - random_pixels()).max() < 4


def test_too_large(tmp_path, monkeypatch):
    save(tmp_path / "picture.png", random_pixels(height=30, width=40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.raises(PictureError, match=r"picture.png is too large: more than 1198 pixels"):
        pictures.read(tmp_path / "picture.png")


def test_16_bits_of_a_bigtiff(tmp_path):
    pixels = random_pixels(dtype=np.uint16)
    deep(pixels).tiffsave(str(tmp_path / "big.tif"), bigtiff=True)
    assert np.array_equal(pictures.read(tmp_path / "big.tif").pixels, pixels)


def test_file_names_are_not_parsed(tmp_path):
    """libvips would parse text in brackets as options, and refuse names that are not UTF-8."""
    pixels = random_pixels(dtype=np.uint16)
    for name in ("one[2].png", os.fsdecode(b"\xff.png")):
        pictures.write(tmp_path / name, Picture(pixels))
        assert np.array_equal(pictures.read(tmp_path / name).pixels, pixels)


def test_damaged_tiff_prints_nothing_else(tmp_path, capfd):
    path = tmp_path / "damaged.tif"
    Image.fromarray(random_pixels(height=60, width=80)).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[3000:3100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(PictureError, match="damaged"):
        pictures.read(path)
    assert capfd.readouterr() == ("", "")
