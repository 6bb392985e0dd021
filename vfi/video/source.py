"""What a new video is made of: a video file, numbered pictures, or an animated picture; all give frames in one way."""

from fractions import Fraction
from pathlib import Path

from vfi.errors import UsageError
from vfi.video.animation import AnimatedPicture, is_animated_webp
from vfi.video.clock import DEFAULT_RATE
from vfi.video.reader import VideoFile
from vfi.video.sequence import PictureFiles, is_pattern

Source = VideoFile | PictureFiles | AnimatedPicture


def open_source(
    path: str | Path, input_rate: Fraction | None = None, deinterlace: bool = True, detelecine: bool = False
) -> Source:
    """Opens a video file, or a folder or pattern (such as frames/%05d.png) of pictures.

    Args:
        input_rate: frames per second of pictures.
        deinterlace: whether to deinterlace interlaced frames.
        detelecine: whether to restore the frames of a telecined film.

    Raises:
        VideoError, PictureError: the source does not exist, or cannot be read.
        UsageError: an input rate for a file, which has its own; `detelecine` for pictures, or a varying rate.
    """
    path = Path(path)
    if detelecine and (path.is_dir() or is_pattern(path) or is_animated_webp(path)):
        raise UsageError(f"{path}: --detelecine is for video files")
    if path.is_dir() or is_pattern(path):
        return PictureFiles(path, input_rate or DEFAULT_RATE)
    if input_rate:
        raise UsageError(f"{path} is a file, which has a rate of its own: an input rate is for pictures")
    if is_animated_webp(path):
        return AnimatedPicture(path)
    return VideoFile(path, deinterlace, detelecine)
