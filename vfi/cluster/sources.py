"""How a source gets to machines that do not see its path: in pieces, through Ray's store of objects, once for each."""

import hashlib
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfi.errors import DataError, reason
from vfi.files import atomic_write, locked
from vfi.video.sequence import is_pattern, picture_files

PIECE = 64 * 2**20  # bytes
SAMPLE = 2**20  # bytes at the beginning and end of each file that tell it from others


def files_of(path: Path) -> list[Path]:
    """The files of a source: a video, or a folder or pattern of pictures."""
    return picture_files(path) if path.is_dir() or is_pattern(path) else [path]


def fingerprint(path: Path) -> str:
    """A checksum of the names, the sizes, and the beginnings and ends of a source's files."""
    total = hashlib.sha256()
    try:
        for file in files_of(path):
            size = file.stat().st_size
            total.update(f"{file.name} {size} ".encode(errors="surrogateescape"))
            with file.open("rb") as content:
                total.update(content.read(SAMPLE))
                content.seek(max(0, size - SAMPLE))
                total.update(content.read(SAMPLE))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error
    return total.hexdigest()[:12]


@dataclass(frozen=True)
class Sent:
    """A source in Ray's store.

    Attributes:
        name: of the file, folder or pattern.
        is_folder: whether `pieces` are files of a folder; for a pattern, too.
        pieces: {name of a file: Ray's references to its pieces}.
        key: of the folder to which a machine writes it; another one for each job.
    """

    name: str
    is_folder: bool
    pieces: dict[str, list[Any]]
    key: str

    @property
    def folder(self) -> Path:
        return Path(tempfile.gettempdir()) / f"vfi-{self.key}"

    def received(self) -> Path:
        """Writes the source to this machine, unless another worker here has done so; returns its path."""
        import ray

        self.folder.mkdir(mode=0o700, exist_ok=True)
        with locked(self.folder, wait=True):
            for name, pieces in self.pieces.items():
                file = self.folder / name
                if not file.exists():
                    with atomic_write(file) as beside, beside.open("wb") as content:
                        content.writelines(ray.get(piece) for piece in pieces)
        return self.folder / self.name if is_pattern(Path(self.name)) or not self.is_folder else self.folder

    def remove(self) -> None:
        """Removes what was written to this machine."""
        shutil.rmtree(self.folder, ignore_errors=True)


def send(path: Path) -> Sent:
    """Puts a source into Ray's store, which keeps it as long as the result is kept."""
    import ray

    pieces: dict[str, list[Any]] = {}
    for file in files_of(path):
        with file.open("rb") as content:
            pieces[file.name] = [ray.put(piece) for piece in iter(lambda: content.read(PIECE), b"")]
    return Sent(path.name, path.is_dir() or is_pattern(path), pieces, secrets.token_hex(8))
