"""Files that are there whole or not at all, their folders, the error for those of no use, and their names in order."""

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path


class DataError(ValueError):
    """Something of the user's that cannot be had, read or used; the message names it and says why."""


def reason(error):
    """What an exception says, as the end of a sentence."""
    said = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0] or type(error).__name__
    return said[0].lower() + said[1:]


def natural(text):
    """For sorting names as people count: im9 before im10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


@contextlib.contextmanager
def making(folder):
    """Makes a folder, and those that it lies in; if the block fails, those it made that are empty are removed."""
    folder = Path(folder)
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # one that holds something, and so do those around it
            for each in new:
                each.rmdir()
        raise


@contextlib.contextmanager
def replacing(path):
    """The path of a new, empty file beside `path`, which takes the place of `path` when the block ends well.

    However else the block ends, the new file is removed and `path` is left as it was. A link is followed, and a file
    that was there passes its permissions on. What goes wrong with the new file is said of `path`.
    """
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        beside.open("xb").close()
        yield beside
        if path.exists():
            shutil.copymode(path, beside)
        os.replace(beside, path)
    except OSError as error:
        if error.errno and error.filename in (None, str(beside)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        beside.unlink(missing_ok=True)
