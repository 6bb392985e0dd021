"""Pictures of every kind, from real files to arrays and back; and a clear word about what is none."""

import os

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from vfi import pictures
from vfi.errors import DataError, PictureError, UsageError
from vfi.pictures import FORMATS, Picture

# The largest deviation, in steps of 8 bits, of smooth pictures after lossy compression at a high quality or a
# conversion through another colour space.
LOSSY = 8

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]  # a grey one as far as its header goes, which is all that is looked at
CMYK = pyvips.Operation.call("profile_load", "cmyk")

# What a stored picture looks like that the EXIF orientation turns upright.
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
    """Every value may occur; with alpha, a part is fully transparent and a part opaque."""
    most = np.iinfo(dtype).max
    pixels = np.random.default_rng(channels).integers(0, most, (height, width, channels), dtype, endpoint=True)
    if channels in (2, 4):
        pixels[:4, :, -1] = 0
        pixels[-4:, :, -1] = most
    return pixels[:, :, 0] if channels == 1 else pixels


@pytest.fixture
def smooth():
    y, x = np.mgrid[:30, :40]
    return np.stack([80 + 3 * y, 90 + 2 * x, 180 - y - x], axis=2).astype(np.uint8)


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


def test_one_colour_that_stands_for_transparency(tmp_path):
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
    pixels[..., 3] = np.maximum(pixels[..., 3], most // 2)  # half opaque at least: two steps are lost at most
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb" if dtype == np.uint8 else "rgb16")
    image.tiffsave(str(tmp_path / "picture.tif"), premultiply=True)
    assert deviation(pictures.read(tmp_path / "picture.tif").pixels, pixels) <= 2


def test_cmyk_jpeg_without_profile(smooth, tmp_path):
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "picture.jpg", quality=100, subsampling=0)
    picture = pictures.read(tmp_path / "picture.jpg")
    assert deviation(picture.pixels, smooth) <= LOSSY
    assert picture.icc_profile is None


def test_cmyk_jpeg_with_profile(smooth, tmp_path):
    """Against libvips: without its profile the colours would be far off, because inks are no inverted lights."""
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
def test_turned_upright(orientation, suffix, smooth, tmp_path):
    path = tmp_path / f"picture{suffix}"
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    save(path, STORED[orientation](smooth), exif=exif(orientation), **options)
    assert deviation(pictures.read(path).pixels, smooth) <= (LOSSY if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_16_bits_turned_upright(orientation, suffix, tmp_path):
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


def test_a_file_that_changed_is_read_anew(tmp_path):
    for value in (1000, 2000):
        save(tmp_path / "picture.png", np.full((30, 40, 3), value, np.uint16))
        assert pictures.read(tmp_path / "picture.png").pixels[0, 0, 0] == value


# --- What is no picture ---


@pytest.fixture
def broken(tmp_path):
    """Files that cannot be read, by name; and a picture, to be sure that it is not for the folder."""
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
        ("truncated16.tif", "is not a picture"),  # where its data are stands at the end of the file
        ("truncated16_data_last.tif", "cannot be read"),
        ("damaged16.tif", "cannot be read"),
        ("float.tif", "has pixels of 32 bits or signed pixels: save it with 8 or 16 bits for each colour"),
        ("float3.tif", "is not a picture, is damaged, or is of a kind that is not supported"),
        ("cmyk16.tif", "16 bits of cmyk are not supported"),
        ("ycbcr_None.tif", "uncompressed YCbCr in a TIFF is not supported: save it as RGB"),
    ],
)
def test_what_cannot_be_read_is_named(name, message, broken):
    assert pictures.read(broken / "whole.png").size == "120x90"
    with pytest.raises(PictureError) as caught:
        pictures.read(broken / name)
    assert str(caught.value).startswith(str(broken / name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tiff_that_pillow_alone_can_unpack(tmp_path):
    pixels = random_pixels()
    Image.fromarray(pixels).save(tmp_path / "picture.tif", compression="lzma")
    assert np.array_equal(pictures.read(tmp_path / "picture.tif").pixels, pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_luma_and_chroma_within_a_tiff_become_rgb(compression, broken):
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


def test_names_are_only_names(tmp_path):
    """libvips would take what stands in brackets for options, and refuse bytes that are no UTF-8."""
    pixels = random_pixels(dtype=np.uint16)
    for name in ("one[2].png", os.fsdecode(b"\xff.png")):
        pictures.write(tmp_path / name, Picture(pixels))
        assert np.array_equal(pictures.read(tmp_path / name).pixels, pixels)


def test_damaged_tiff_says_nothing_itself(tmp_path, capfd):
    path = tmp_path / "damaged.tif"
    Image.fromarray(random_pixels(height=60, width=80)).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[3000:3100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(PictureError, match="damaged"):
        pictures.read(path)
    assert capfd.readouterr() == ("", "")


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
def test_16_bits_are_rounded_where_there_is_no_room(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    pixels = random_pixels(3, np.uint16)
    (note,) = pictures.write(path, Picture(pixels), lossless=suffix == ".webp")
    assert note == f"{FORMATS[suffix].name} holds 8 bits for each colour: the picture's 16 bits were rounded"
    if suffix != ".jpg":
        assert same(pictures.read(path).pixels, np.rint(pixels / 257).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_becomes_white_where_there_is_none(channels, suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    pixels = random_pixels(channels)
    (note,) = pictures.write(path, Picture(pixels))
    assert note == f"{FORMATS[suffix].name} holds no transparency: the picture was blended with white"
    written = pictures.read(path).pixels.reshape(30, 40, -1)
    assert written[:2].min() >= 255 - LOSSY  # fully transparent there
    if suffix == ".bmp":
        alpha = pixels[..., -1:] / 255
        assert deviation(written, np.rint(pixels[..., :-1] * alpha + 255 * (1 - alpha)).astype(int)) == 0


def test_everything_that_bmp_cannot_keep(tmp_path):
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


def test_what_was_there_is_replaced(smooth, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(bytes(10**6))
    pictures.write(path, Picture(smooth))
    assert same(pictures.read(path).pixels, smooth)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
def test_failed_write_leaves_everything_as_it_was(there, tmp_path):
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
def test_where_nothing_can_be_written(name, message, broken):
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
    """As fractions of white, in RGB and alpha: 16 bits hold every fraction that 8 bits do."""
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
def test_match_takes_the_richer_of_each(one, two, together, dtypes):
    pair = [Picture(random_pixels(c, d), SRGB) for c, d in zip((one, two), dtypes, strict=True)]
    for given in (pair, pair[::-1]):
        for before, after in zip(given, pictures.match(*given), strict=True):
            assert after.pixels.shape == ((30, 40) if together == 1 else (30, 40, together))
            assert after.pixels.dtype == max(dtypes, key=lambda dtype: np.dtype(dtype).itemsize)
            assert after.icc_profile == SRGB
            check_same_colours(before, after)
