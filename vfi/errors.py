"""The errors that name what was wrong in one line, and what an exception says in a sentence.

Programs catch `UserError`: its message is shown as it is, and `exit_status` is theirs. Subclasses exist only where
somewhere in this project they are caught by name.
"""

from collections.abc import Sequence


class UserError(ValueError):
    """Something that the user can mend; the message names it and says what was wrong and what to do."""

    exit_status = 1


class UsageError(UserError):
    """The request itself is invalid, whatever the data."""

    exit_status = 2


class DataError(UserError):
    """Data, or a machine, that cannot do what was asked."""


class PictureError(DataError):
    """A picture file that cannot be read or written."""


class VideoError(DataError):
    """A video that cannot be read, made or written."""


class WeightsError(DataError):
    """A weights file that cannot be found, read or used."""


class BenchmarkError(DataError):
    """A benchmark's folder or frame that is missing or of the wrong kind."""


class MetricError(DataError):
    """A metric that cannot be computed here."""


class ClipError(DataError):
    """A folder or clip that cannot be used for training.

    Attributes:
        skipped: if no clip can be used, a line for each of them.
    """

    def __init__(self, message: str, skipped: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.skipped = skipped


def reason(error: BaseException) -> str:
    """What an exception says, in one line, as the end of a sentence."""
    if isinstance(error, UserError):  # begins with a name
        return str(error)
    said = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0] or type(error).__name__
    return said[0].lower() + said[1:]


def counted(number: float, what: str) -> str:
    """A number of things in words: 1 clip, 2 clips, 1.5 minutes."""
    return f"{number:{'g' if isinstance(number, float) else 'd'}} {what}{'' if number == 1 else 's'}"
