"""Downloads that go on where they broke off."""

import http.client
import os
import re
import urllib.error
import urllib.request

BLOCK = 2**18  # bytes
TIMEOUT = 30  # seconds without a byte

FAILURES = (OSError, http.client.HTTPException)  # what `fetch` raises; `why` says it in a few words


def fetch(address, path, progress=None, largest=None):
    """Fetches `address` into the file `path`, after what is there already, of an earlier try.

    A connection that breaks is made anew for as long as that brings more. Whether a server has changed the file in
    between cannot be seen here: what comes has to be checked by what it is.

    Args:
        progress: called with (bytes so far, bytes in all or None).
        largest: bytes from which on it is refused.

    Raises:
        OSError, http.client.HTTPException: see `why`. What has come stays in `path`.
    """
    while True:
        before = _size(path)
        try:
            return _fetch(address, path, before, progress, largest)
        except FAILURES:
            if _size(path) <= before:
                raise


def why(error):
    """What a failure of `fetch` says, in the words that matter to a user."""
    cause = getattr(error, "reason", error)
    return " ".join(str(getattr(cause, "strerror", None) or cause).split()) or type(error).__name__


def _size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def _fetch(address, path, done, progress, largest):
    request = urllib.request.Request(address, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{done}":
            return  # all of it is there
        os.truncate(path, 0)
        response = urllib.request.urlopen(address, timeout=TIMEOUT)
    with response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            if not re.match(rf"bytes {done}-", response.headers.get("Content-Range", "")):
                raise OSError("the server sent another part than it was asked for")
        else:
            done = 0
        size = None if response.length is None else done + response.length
        with open(path, "r+b" if done else "wb") as file:
            file.seek(done)
            while block := response.read(BLOCK):
                done += len(block)
                if largest and done > largest:
                    file.truncate(0)  # no use in going on with that
                    raise OSError(f"more than the {largest} bytes that it may have")
                file.write(block)
                if progress:
                    progress(done, size)
    if size is not None and done < size:
        raise OSError(f"the connection broke off after {done} of {size} bytes")
