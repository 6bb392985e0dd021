"""Image files to arrays and back.

Pillow reads and writes 8 bits. 16 bits, of which Pillow would keep only 8, are read and written by libvips, which also
reads TIFF.
"""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from vfi.errors import PictureError, UsageError, reason
from vfi.files import atomic_write, check_file_target
from vfi.picture_kinds import describe_samples, why_unreadable

# TIFF: two tags, and those of their values that matter here
PHOTOMETRIC, COMPRESSION = 262, 259
YCBCR, NONE, JPEG = 6, 1, (6, 7)


@dataclass(frozen=True)
class Picture:
    """The content of an image file, turned upright.

    Attributes:
        pixels: uint8 or uint16; (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB and alpha. Alpha
            is straight, not premultiplied.
        icc_profile: the colour profile that the pixels are in, or None.
    """

    pixels: np.ndarray[Any, Any]
    icc_profile: bytes | None = None

    @property
    def size(self) -> str:
        """Width x height, as text such as 640x480."""
        return f"{self.pixels.shape[1]}x{self.pixels.shape[0]}"

    @property
    def has_alpha(self) -> bool:
        return self.pixels.ndim == 3 and self.pixels.shape[2] in (2, 4)

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2 or self.pixels.shape[2] == 2


@dataclass(frozen=True)
class _Format:
    name: str  # Pillow's name
    alpha: bool = True
    deep: bool = False  # 16 bits
    profile: bool = True
    quality: int | None = None  # the default; None if the format has no such option
    largest: int = 2**31 - 1  # pixels of a side, at most


FORMATS = {
    ".png": _Format("PNG", deep=True),
    ".jpg": _Format("JPEG", alpha=False, quality=95, largest=65500),
    ".jpeg": _Format("JPEG", alpha=False, quality=95, largest=65500),
    ".bmp": _Format("BMP", alpha=False, profile=False),
    ".webp": _Format("WEBP", quality=90, largest=16383),
    ".tif": _Format("TIFF", deep=True),
    ".tiff": _Format("TIFF", deep=True),
}


def is_picture_name(path: Path) -> bool:
    """Whether a file has the extension of a picture and is not hidden (macOS may leave a ._1.png beside 1.png)."""
    return path.suffix.lower() in Image.registered_extensions() and not path.name.startswith(".")


def read(path: str | os.PathLike[str]) -> Picture:
    """Reads the picture in a file and turns it upright, as its EXIF orientation says.

    1-bit and grey pictures become grey; palettes, CMYK and other colour spaces become RGB; transparency of any kind
    becomes alpha. 16 bits are kept.

    Raises:
        PictureError: the file does not exist, or is not a picture that can be read.
    """
    path = Path(path)
    if os.path.isdir(path):  # unlike path.is_dir(), raises nothing
        raise PictureError(f"{path} is a folder, not a picture")
    try:
        if path.stat().st_size == 0:
            what = "empty" if path.is_file() else "not an ordinary file: save the picture into one first"
            raise PictureError(f"{path} is {what}")
        image = _open_with_vips(path)
        try:
            return _read_with_vips(image) if image else _read_with_pillow(path)
        except pyvips.Error as error:
            if "not configured" not in str(error):
                raise
            return _read_with_pillow(path)  # its TIFF library also reads LZMA
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} {why_unreadable(path)}") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path} is too large: more than {_most_pixels()} pixels") from error
    except pyvips.Error as error:
        raise PictureError(f"{path} cannot be read: it is damaged or truncated") from error
    except (OSError, ValueError, SyntaxError, EOFError, ImageCms.PyCMSError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"{path} cannot be read: {reason(error)}") from error


def _most_pixels() -> float:
    """The number of pixels above which Pillow refuses a picture."""
    return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else math.inf


@dataclass(frozen=True)
class PictureInfo:
    """What the header of a file says about the picture in it; width and height in pixels, upright."""

    width: int
    height: int
    is_colour: bool
    has_alpha: bool
    is_deep: bool


def probe(path: str | os.PathLike[str]) -> PictureInfo:
    """Describes a picture; decodes it only if its header does not say enough.

    Raises:
        PictureError: as `read`.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) > 4:
                width, height = height, width
            if image.mode not in ("I", "F"):
                deep = ";16" in image.mode or ";16" in str(image.tile)
                grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;")
                return PictureInfo(width, height, not grey, image.has_transparency_data, deep)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass  # `read` finds out what is wrong, and says it
    picture = read(path)
    height, width = picture.pixels.shape[:2]
    is_deep = picture.pixels.dtype == np.uint16
    return PictureInfo(width, height, not picture.is_grey, picture.has_alpha, is_deep)


def _open_with_vips(path: Path) -> Any:
    """Opens the file with libvips if libvips reads it best; otherwise returns None.

    This is so for 16 bits, and for plain TIFF of any depth: if a TIFF is damaged, Pillow's library prints messages of
    its own on standard error.
    """
    with path.open("rb") as file:
        kind = file.read(4)
    if kind not in (b"\x89PNG", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    try:  # from memory: libvips reads brackets in a file's name as options
        image = pyvips.Image.new_from_buffer(path.read_bytes(), "", fail_on="error")
    except pyvips.Error:
        return None
    if image.width * image.height > _most_pixels():
        raise Image.DecompressionBombError
    deep = image.format == "ushort"
    if image.interpretation not in (("rgb16", "grey16") if deep else ("srgb", "b-w")) or image.bands > 4:
        if deep:
            raise PictureError(
                f"{path}: 16 bits of {image.interpretation} are not supported: save it as 16-bit RGB or grey"
            )
        return None
    if kind != b"\x89PNG":
        compression = _compression_of_ycbcr(path)
        if compression and compression != NONE:
            return None  # Pillow converts it to RGB
        if compression == NONE and image.bands == 3:  # libvips has converted four bands to RGB already
            raise PictureError(f"{path}: uncompressed YCbCr in a TIFF is not supported: save it as RGB")
    return image if deep or (image.format == "uchar" and kind != b"\x89PNG") else None


def _compression_of_ycbcr(path: Path) -> int | None:
    """The compression of a TIFF with luma and chroma that libvips would read as RGB; None for any other file.

    JPEG within a TIFF is such another file: libvips converts it correctly.
    """
    try:
        with Image.open(path) as image:
            tags = getattr(image, "tag_v2", {})  # camera raw files also begin like a TIFF
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # only libvips reads files of this kind
    compression = tags.get(COMPRESSION, NONE)
    return compression if tags.get(PHOTOMETRIC) == YCBCR and compression not in JPEG else None


def _read_with_vips(image: Any) -> Picture:
    image = image.autorot()
    profile = image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
    pixels = image.numpy()
    return Picture(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels, profile)


def _read_with_pillow(path: Path) -> Picture:
    with Image.open(path) as image:
        if ";16" in str(image.tile):  # Pillow would read only 8 of them
            if describe_samples(path):
                raise PictureError(f"{path} {why_unreadable(path)}")
            raise PictureError(f"{path} is damaged, or holds 16 bits in a form that is not supported: save it as PNG")
        image.load()
        image = ImageOps.exif_transpose(image)
        profile = image.info.get("icc_profile")
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise PictureError(f"{path} {why_unreadable(path)}")
        if image.mode in ("CMYK", "LAB"):
            image, profile = _to_srgb(image, profile), None  # sRGB needs no profile
        grey = image.mode in ("1", "L", "LA", "La")
        mode = {(True, False): "L", (True, True): "LA", (False, False): "RGB", (False, True): "RGBA"}
        return Picture(np.asarray(image.convert(mode[grey, image.has_transparency_data])), profile)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts CMYK or LAB to sRGB, by the picture's colour profile if that is usable, otherwise as Pillow does."""
    try:
        is_lab = image.mode == "LAB"
        source = ImageCms.createProfile("LAB") if is_lab else ImageCms.getOpenProfile(io.BytesIO(profile or b""))
        return ImageCms.profileToProfile(  # type: ignore[return-value]  # None only with inPlace
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")


def match(one: Picture, two: Picture) -> tuple[Picture, Picture]:
    """Gives both pictures the same channels, depth and profile: the richer of each, so that nothing is lost.

    Of two profiles, the first that fits the result (grey or colour) is kept.
    """
    grey = one.is_grey and two.is_grey
    alpha = one.has_alpha or two.has_alpha
    dtype = np.result_type(one.pixels, two.pixels)
    profiles = [picture.icc_profile for picture in (one, two) if picture.icc_profile and picture.is_grey == grey]
    profile = profiles[0] if profiles else None
    return convert(one, grey, alpha, dtype, profile), convert(two, grey, alpha, dtype, profile)


def convert(picture: Picture, grey: bool, alpha: bool, dtype: Any, profile: bytes | None) -> Picture:
    """Adds channels and bits to a picture; never removes any.

    Args:
        grey: whether the result is grey (only for grey pictures).
        alpha: whether the result has alpha; opaque if the picture has none.
        dtype: uint8 or uint16, not fewer bits than the picture has.
        profile: the colour profile of the result.
    """
    pixels = picture.pixels.astype(dtype)
    if dtype != picture.pixels.dtype:
        pixels *= 257  # 255 becomes 65535
    channels = list(np.atleast_3d(pixels).transpose(2, 0, 1))
    if picture.is_grey and not grey:
        channels[:1] *= 3
    if alpha and not picture.has_alpha:
        channels.append(np.full(pixels.shape[:2], np.iinfo(dtype).max, dtype))
    return Picture(channels[0] if len(channels) == 1 else np.stack(channels, axis=2), profile)


def check_target(path: str | os.PathLike[str]) -> None:
    """Finds out early whether `write` will be able to write there.

    Raises:
        DataError: as `check_file_target`.
        UsageError: the extension is not known.
    """
    path = Path(path)
    check_file_target(path)
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(suffix[1:] for suffix in FORMATS)
        raise UsageError(f"{path}: the extension {path.suffix or '(none)'} is not known: use one of {known}")


def write(
    path: str | os.PathLike[str], picture: Picture, quality: int | None = None, lossless: bool = False
) -> list[str]:
    """Writes a picture in the format of the path's extension, whole or not at all.

    Args:
        picture: a `Picture`.
        quality: 1 to 100, for jpg (95 if None) and webp (90).
        lossless: for webp.

    Returns:
        A note for the user about each thing that the format cannot keep.

    Raises:
        PictureError: the picture is too large for the format, or the file cannot be written.
        DataError, UsageError: as `check_target`.
    """
    path = Path(path)
    check_target(path)
    target = FORMATS[path.suffix.lower()]
    if max(picture.pixels.shape[:2]) > target.largest:
        raise PictureError(f"{path} cannot be written: {picture.size} is too large for {target.name}: use png or tiff")
    picture, notes = _fit(picture, target)
    try:
        if picture.pixels.dtype == np.uint16:
            data = _encode_deep(picture, target)
        else:
            data = _encode(picture, target, quality, lossless)
        with atomic_write(path) as part:
            part.write_bytes(data)
    except (OSError, ValueError, pyvips.Error) as error:
        raise PictureError(f"{path} cannot be written: {reason(error)}") from error
    return notes


def _fit(picture: Picture, target: _Format) -> tuple[Picture, list[str]]:
    """Reduces a picture to what the format can hold; returns it with a note for each thing that was lost."""
    notes: list[str] = []
    pixels = picture.pixels
    if pixels.dtype == np.uint16 and not target.deep:
        pixels = ((pixels + np.uint32(128)) // 257).astype(np.uint8)
        notes.append(f"{target.name} holds 8 bits for each colour: the picture's 16 bits were rounded")
    if picture.has_alpha and not target.alpha:
        alpha = pixels[..., -1:].astype(np.float32) / np.iinfo(pixels.dtype).max
        white = np.iinfo(pixels.dtype).max
        pixels = np.rint(pixels[..., :-1] * alpha + white * (1 - alpha)).astype(pixels.dtype)
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        notes.append(f"{target.name} holds no transparency: the picture was blended with white")
    profile = picture.icc_profile
    if profile and not target.profile:
        profile = None
        notes.append(f"{target.name} holds no colour profile: the picture's was left out")
    return Picture(pixels, profile), notes


def _encode(picture: Picture, target: _Format, quality: int | None, lossless: bool) -> bytes:
    options: dict[str, Any] = {}
    if target.quality:
        options["quality"] = quality or target.quality
    if target.name == "WEBP":
        options |= {"lossless": lossless, "exact": lossless}  # exact: colours under full transparency too
    if target.name == "TIFF":
        options["compression"] = "tiff_lzw"
    if picture.icc_profile:
        options["icc_profile"] = picture.icc_profile
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.pixels)).save(data, target.name, **options)
    return data.getvalue()


def _encode_deep(picture: Picture, target: _Format) -> bytes:
    image = pyvips.Image.new_from_array(np.ascontiguousarray(picture.pixels))
    image = image.copy(interpretation="grey16" if picture.is_grey else "rgb16")
    if picture.icc_profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", picture.icc_profile)
    if target.name == "PNG":
        return image.pngsave_buffer(bitdepth=16)
    return image.tiffsave_buffer(compression="lzw", predictor="horizontal")
