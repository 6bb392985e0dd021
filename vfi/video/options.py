"""What the user asks of a new video."""

from dataclasses import dataclass
from fractions import Fraction

from vfi import cuts
from vfi.errors import UsageError
from vfi.video import timing
from vfi.video.codecs import EncoderOptions
from vfi.video.source import Source

DUPLICATES = ("keep", "redistribute")


@dataclass(frozen=True)
class VideoOptions:
    """What the user asks of a new video.

    Attributes:
        factor: 2, 4, 8 or 16 frames for each frame of the source.
        rate: frames per second, instead of a factor.
        slow_motion: keep the source's rate; the video becomes `factor` times as long, without sound.
        start, end: the piece of the source to take, in seconds from its first frame. A new frame belongs to the piece
            in which the frame of the source before it is shown.
        scene_threshold: score above which two frames are a cut, across which nothing is interpolated; None for no cuts.
        duplicates: "keep", or "redistribute" to spread motion over runs of up to three copies of a frame.
        deinterlace: whether to deinterlace interlaced frames.
        detelecine: whether to restore the frames of a telecined film: 24 frames per second of 30.
        input_rate: frames per second of a sequence of pictures.
        codec, crf, preset, pixel_format: of the encoder; None for what suits the target.

    Raises:
        UsageError: `factor` or `duplicates` has another value.
    """

    factor: int = 2
    rate: Fraction | None = None
    slow_motion: bool = False
    start: Fraction | None = None
    end: Fraction | None = None
    scene_threshold: float | None = cuts.THRESHOLD
    duplicates: str = "keep"
    deinterlace: bool = True
    detelecine: bool = False
    input_rate: Fraction | None = None
    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pixel_format: str | None = None

    def __post_init__(self) -> None:
        if self.factor not in timing.FACTORS:
            raise UsageError(f"factor is {self.factor}, expected one of {', '.join(map(str, timing.FACTORS))}")
        if self.duplicates not in DUPLICATES:
            raise UsageError(f"duplicates is {self.duplicates!r}, expected one of {', '.join(DUPLICATES)}")

    @property
    def encoder(self) -> EncoderOptions:
        return EncoderOptions(self.codec, self.crf, self.preset, self.pixel_format)

    @property
    def stretch(self) -> int:
        """How many times as long as the source the new video is."""
        return self.factor if self.slow_motion else 1

    def rate_for(self, source: Source) -> Fraction | None:
        """Frames per second of the new video; None if they vary."""
        if self.rate or source.rate is None:
            return self.rate
        return source.rate * self.factor / self.stretch
