"""Files that are there whole or not at all, their folders, the errors for what is of no use, and names in order."""

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None


class DataError(ValueError):
    """Something of the user's that cannot be had, read or used; the message names it and says why."""


class UsageError(DataError):
    """Something that was asked for and is not to be had of any data; likewise."""


def reason(error):
    """What an exception says, as the end of a sentence."""
    if isinstance(error, DataError):  # begins with a name
        return str(error)
    said = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0] or type(error).__name__
    return said[0].lower() + said[1:]


def counted(number, what):
    """A number of things in words: 1 clip, 2 clips, 1.5 minutes."""
    return f"{number:{'g' if isinstance(number, float) else 'd'}} {what}{'' if number == 1 else 's'}"


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
        for each in new:
            with contextlib.suppress(OSError):  # it holds something, or is gone already
                each.rmdir()
        raise


@contextlib.contextmanager
def held(folder, wait=False):
    """Keeps others who ask for a folder in this way from it until the block ends, on systems that can (not Windows).

    Args:
        wait: for whoever holds it.

    Yields:
        Whether it is certain that nobody else is in such a block.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        alone = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # some network file systems have no locks
            alone = False
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):  # who held it has removed it, and made it anew
            raise BlockingIOError
        yield alone
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path, beside=None):
    """The path of a new, empty file beside `path`, which takes the place of `path` when the block ends well.

    It is hidden, unless `beside` says how it is called. However else the block ends, it is removed and `path` is left
    as it was. A link is followed, and a file that was there passes its permissions on. What goes wrong with the new
    file is said of `path`.
    """
    path = Path(os.path.realpath(path))
    beside = beside or path.with_name(f".{secrets.token_hex(8)}.part")
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
