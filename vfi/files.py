"""Files that are written whole or not at all, folders that are made and locked, checks of a target, names in order."""

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

from vfi.errors import DataError, reason

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None


def natural(text):
    """For sorting names as people count: im9 before im10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


@contextlib.contextmanager
def new_folder(folder):
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
def locked(folder, wait=False):
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
def atomic_write(path, beside=None):
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


def write_text(path, text):
    """Writes text to a file, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    try:
        with atomic_write(path) as beside:
            beside.write_text(text, encoding="utf-8", errors="backslashreplace")  # names need not be UTF-8
    except OSError as error:
        raise DataError(f"{path} cannot be written: {reason(error)}") from error


def check_file_target(path):
    """Says early what would keep any file from being written there.

    Raises:
        DataError: a folder that is missing or cannot be written, a target that is a folder or a device.
    """
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder: name a file")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe or device, which a file would take the place of
        raise DataError(f"{path} is not an ordinary file")
    check_folder(path, path.parent)


def check_folder(path, folder):
    """Says early if nothing can be made in the folder in which `path`, or the folder that it lies in, is to be.

    Raises:
        DataError: it is missing or cannot be written.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path} cannot be written: no permission to write to {path.parent}")
