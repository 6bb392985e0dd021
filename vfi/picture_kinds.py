"""What kind of file a picture is that cannot be read, so that an error can name it and say what to do."""

from pathlib import Path

from PIL import TiffImagePlugin

BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339  # TIFF tags
SIGNED, FLOATING = 2, 3  # values of the second
READ = "PNG", "JPEG", "GIF", "BMP", "WebP", "TIFF"
SIGNATURES = (  # offset, bytes, name
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance HDR picture"),
    (0, b"#?RGBE", "a Radiance HDR picture"),
    (0, b"SDPX", "a DPX picture"),
    (0, b"XPDS", "a DPX picture"),
    (0, b"PF\n", "a PFM picture"),
    (0, b"Pf\n", "a PFM picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (4, b"ftyphei", "an HEIC picture"),
    (4, b"ftypmif1", "an HEIC picture"),
    (4, b"ftypcrx", "a camera's raw file"),
    (4, b"ftypavif", "an AVIF picture"),
    (0, b"%PDF", "a PDF document"),
    (4, b"ftyp", "a video"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
)
REMEDY = "save it as PNG or TIFF with 8 or 16 bits for each colour"


def why_unreadable(path: Path) -> str:
    """What is wrong with a file that is not a picture that can be read, and what to do: the end of "FILE ..."."""
    with path.open("rb") as file:
        start = file.read(32)
    name = next((name for offset, signature, name in SIGNATURES if start[offset:].startswith(signature)), None)
    if name is None:
        return "is not a picture, or is of a kind that is not known"
    if name == "a video":
        return "is a video, not a picture: name it by --video"
    if name == "TIFF" and (samples := describe_samples(path)):
        return f"is a TIFF with {samples} samples, which cannot be read: {REMEDY}"
    if name in READ:
        return f"is damaged: it begins like a {name} file, but cannot be read"
    return f"is {name}, which cannot be read: {REMEDY}"


def describe_samples(path: Path) -> str:
    """The samples of a TIFF that are not whole numbers of 8 or 16 bits, in words; "" for others."""
    try:
        with path.open("rb") as file:
            header = file.read(8)
            if header[2] == 43:  # BigTIFF
                header += file.read(8)
            directory = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(directory.next)
            directory.load(file)
        bits = int(directory.get(BITS_PER_SAMPLE, (1,))[0])
        kind = int(directory.get(SAMPLE_FORMAT, (1,))[0])
    except (OSError, ValueError, SyntaxError, LookupError, TypeError):
        return ""  # damaged
    if kind == FLOATING:
        return f"floating-point {bits}-bit"
    if kind == SIGNED:
        return f"signed {bits}-bit"
    return f"{bits}-bit" if bits > 16 else ""
