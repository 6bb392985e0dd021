"""Files that are there whole or not at all."""

import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """The path of a new, empty file beside `path`, which takes the place of `path` when the block ends well.

    However else the block ends, the new file is removed and `path` is left as it was.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.open("xb").close()
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
