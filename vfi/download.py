"""Downloads that go on where they broke off."""

import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable

BLOCK = 2**18  # bytes
TIMEOUT = 30  # seconds without a byte

FAILURES = (OSError, http.client.HTTPException)  # the exceptions of `fetch`; `why` describes them


def fetch(
    address: str,
    path: str | os.PathLike[str],
    progress: Callable[[int, int | None], None] | None = None,
    largest: int | None = None,
) -> None:
    """Downloads `address` into the file `path`; goes on after the bytes of an earlier try, if the file exists.

    A broken connection is opened again as long as this brings more bytes. Whether the server has changed the file
    meanwhile is not seen here: the caller has to check the content.

    Args:
        progress: called with (bytes so far, bytes in all or None).
        largest: number of bytes above which the download is refused.

    Raises:
        OSError, http.client.HTTPException: see `why`. The bytes that have come stay in `path`.
    """
    while True:
        before = _size(path)
        try:
            return _fetch(address, path, before, progress, largest)
        except FAILURES:
            if _size(path) <= before:
                raise


def why(error: BaseException) -> str:
    """Describes an exception of `fetch` for the user, in one line."""
    cause = getattr(error, "reason", error)
    return " ".join(str(getattr(cause, "strerror", None) or cause).split()) or type(error).__name__


def _size(path: str | os.PathLike[str]) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _fetch(
    address: str,
    path: str | os.PathLike[str],
    done: int,
    progress: Callable[[int, int | None], None] | None,
    largest: int | None,
) -> None:
    request = urllib.request.Request(address, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{done}":
            return  # the file is complete
        os.truncate(path, 0)
        response = urllib.request.urlopen(address, timeout=TIMEOUT)
    with response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            if not re.match(rf"bytes {done}-", response.headers.get("Content-Range", "")):
                raise OSError("the server sent another part of the file than was asked for")
        else:
            done = 0
        size = None if response.length is None else done + response.length
        with open(path, "r+b" if done else "wb") as file:
            file.seek(done)
            while block := response.read(BLOCK):
                done += len(block)
                if largest and done > largest:
                    file.truncate(0)  # a later try must not go on with it
                    raise OSError(f"the download has more than {largest} bytes")
                file.write(block)
                if progress:
                    progress(done, size)
    if size is not None and done < size:
        raise OSError(f"the connection broke off after {done} of {size} bytes")
