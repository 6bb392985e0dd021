"""The log of a training run: its reports in a CSV file, and for TensorBoard if that is installed."""

import csv
from pathlib import Path
from typing import Any

from vfi.errors import DataError
from vfi.files import atomic_write

COLUMNS = (
    "step", "minutes", "samples", "learning_rate", "loss", "error", "averaging", "proxy_psnr", "samples_per_second",
    "data_share", "skipped", "reach",
)  # fmt: skip

Row = dict[str, Any]  # a number or None for each of COLUMNS


class Log:
    """The rows so far, kept in files.

    Args:
        path: without suffix: .csv is added, and .events for TensorBoard's folder.
        step: of the checkpoint from which the run goes on. Rows after it are dropped, because they will come again.

    Raises:
        DataError: the log of the run so far is damaged.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.table = path.with_name(f"{path.name}.csv")
        self.rows = _read(self.table, step) if step and self.table.exists() else []
        self._board = _open_board(path.with_name(f"{path.name}.events"), step)

    def add(self, row: Row) -> None:
        """Appends a row, and writes the files."""
        self.rows.append(row)
        with atomic_write(self.table) as part, open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for each in self.rows:
                writer.writerow({name: _text(value) for name, value in each.items()})
        if self._board:
            for name, value in row.items():
                if value is not None:
                    self._board.add_scalar(name, value, row["step"])
            self._board.flush()


def _read(table: Path, step: int) -> list[Row]:
    try:
        with open(table, newline="") as file:
            reader = csv.DictReader(file)
            rows = [{name: _number(row.get(name, "")) for name in COLUMNS} for row in reader]
        if tuple(reader.fieldnames or ()) not in (COLUMNS, COLUMNS[:-1]):  # logs of earlier versions lack the last
            raise ValueError
        return [row for row in rows if row["step"] <= step]
    except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(f"{table} is damaged, or is not the log of a training run: repair or remove it") from error


def _open_board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, or None if TensorBoard, which is not part of PyTorch, is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=step)


def _text(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"


def _number(text: str) -> Any:
    return None if text == "" else int(text) if text.isdecimal() else float(text)
