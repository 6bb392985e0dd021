"""Files that are written whole or not at all, folders that are made and locked, checks of a target, names in order."""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from vfi.errors import DataError, reason

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]


def natural(text: str) -> list[int | str]:
    """A sort key that orders names as people count: im9 before im10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Makes a folder and its missing parents; if the block fails, removes those of them that are empty."""
    folder = Path(folder)
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in new:
            with contextlib.suppress(OSError):  # not empty, or already removed
                each.rmdir()
        raise


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], wait: bool = False) -> Iterator[bool]:
    """Locks a folder until the block ends, against other processes that lock it with this function.

    Windows and some network file systems have no such locks: there the block runs without one.

    Args:
        wait: wait until the lock is free.

    Yields:
        Whether the folder is locked.

    Raises:
        BlockingIOError: another process has the lock, and `wait` is false; or it has removed the folder meanwhile.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        is_locked = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # some network file systems have no locks
            is_locked = False
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):  # its last owner has replaced it
            raise BlockingIOError
        yield is_locked
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], beside: Path | None = None) -> Iterator[Path]:
    """Writes a file whole or not at all: yields the path of a new, empty file, which replaces `path` after the block.

    If the block raises, the new file is removed and `path` stays as it was. A link is followed; the permissions of a
    file that is replaced are kept. Errors of the new file name `path`.

    Args:
        beside: the path of the new file, on the same disk; by default it is a hidden name in the folder of `path`.
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


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes text to a file, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    try:
        with atomic_write(path) as beside:
            beside.write_text(
                text, encoding="utf-8", errors="backslashreplace"
            )  # names of files may hold bytes that are not UTF-8
    except OSError as error:
        raise DataError(f"{path} cannot be written: {reason(error)}") from error


def check_file_target(path: Path) -> None:
    """Finds out early whether a file can be written at `path`.

    Raises:
        DataError: its folder is missing or cannot be written, or `path` is a folder or a device.
    """
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder: name a file")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device, which the file would replace
        raise DataError(f"{path} is not an ordinary file: name another")
    check_folder(path, path.parent)


def check_folder(path: Path, folder: Path) -> None:
    """Finds out early whether something can be created in `folder`, for a target `path` that will be in or below it.

    Raises:
        DataError: the folder is missing or cannot be written.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path} cannot be written: no permission to write to {path.parent}")
