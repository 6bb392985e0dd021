"""What a run of training leaves for people to read: its reports in a CSV file, a picture of them, and TensorBoard's."""

import csv
import math

from vfi.errors import DataError
from vfi.files import atomic_write

COLUMNS = (
    "step", "minutes", "samples", "learning_rate", "loss", "error", "averaging", "proxy_psnr", "samples_per_second",
    "data_share", "skipped",
)  # fmt: skip
PANELS = (  # title, and the columns drawn
    ("mean error of the crops trained on, in grey levels", ("error", "averaging")),
    ("PSNR of held-out crops in dB (a proxy, with --held-out, at each checkpoint)", ("proxy_psnr",)),
    ("samples per second", ("samples_per_second",)),
)
WIDTH, HEIGHT, MARGIN = 900, 240, 60  # pixels of a panel
TICKS = 5  # about as many on each axis
COLOURS = ("#1f5fa8", "#999999")


class Log:
    """The rows so far, kept in files.

    Args:
        path: without suffix; .csv and .png are added, and a folder path.events for TensorBoard, if that is installed.
        step: of the checkpoint from which the run goes on: rows after it are forgotten, for they will come again.

    Raises:
        DataError: the log of the run so far is damaged.
    """

    def __init__(self, path, step=0):
        self.table, self.picture = (path.with_name(f"{path.name}.{suffix}") for suffix in ("csv", "png"))
        self.rows = []
        if step and self.table.exists():
            try:
                with open(self.table, newline="") as file:
                    table = csv.DictReader(file)
                    rows = [{name: _number(row[name]) for name in COLUMNS} for row in table]
                if tuple(table.fieldnames or ()) != COLUMNS:
                    raise ValueError
                self.rows = [row for row in rows if row["step"] <= step]
            except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
                raise DataError(f"{self.table} is no log of a training any more: remove it, or put it right") from error
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # it is no part of PyTorch
            self.board = None
        else:
            self.board = SummaryWriter(path.with_name(f"{path.name}.events"), purge_step=step)

    def add(self, row):
        """Appends a row, a number or None for each of COLUMNS, and writes all files anew."""
        self.rows.append(row)
        with atomic_write(self.table) as part, open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for each in self.rows:
                writer.writerow({name: _text(value) for name, value in each.items()})
        if self.board:
            for name, value in row.items():
                if value is not None:
                    self.board.add_scalar(name, value, row["step"])
            self.board.flush()
        self._draw()

    def _draw(self):
        try:
            from PIL import Image, ImageDraw, ImageFont
        except ImportError:  # a machine for training alone may lack it
            return
        picture = Image.new("RGB", (WIDTH, HEIGHT * len(PANELS)), "white")
        draw = ImageDraw.Draw(picture)
        draw.font = ImageFont.load_default(13)
        for number, (title, names) in enumerate(PANELS):
            curves = {name: self._curve(name) for name in names}
            _draw_panel(draw, number * HEIGHT, title, curves, self.rows[-1]["minutes"])
        with atomic_write(self.picture) as part:
            picture.save(part, "PNG")

    def _curve(self, name):
        return [(row["minutes"], row[name]) for row in self.rows if row[name] is not None]


def _draw_panel(draw, top, title, curves, end):
    """Curves (name -> points) against minutes, from 0 to `end`, in the panel whose upper edge is `top`."""
    left, right, upper, lower = MARGIN, WIDTH - 20, top + 30, top + HEIGHT - 30
    draw.text((left, top + 8), title, "black")
    points = [point for curve in curves.values() for point in curve]
    if not points:
        draw.text((left, upper + 8), "not measured yet", "#999999")
        return
    values = [value for _, value in points]
    least, most = min(values), max(values)
    most = most if most > least else least + 1

    def place(minutes, value):
        return left + minutes / end * (right - left), lower - (value - least) / (most - least) * (lower - upper)

    for value in _ticks(least, most):
        _, y = place(0, value)
        draw.line([(left, y), (right, y)], "#dddddd")
        draw.text((left - 6, y), f"{value:g}", "#555555", anchor="rm")
    for minutes in _ticks(0, end):
        x, _ = place(minutes, least)
        draw.text((x, lower + 6), f"{minutes:g} min", "#555555", anchor="ma")
    name_end = right
    for (name, curve), colour in reversed(list(zip(curves.items(), COLOURS, strict=False))):
        line = [place(*point) for point in curve]
        draw.line(line, colour, width=2, joint="curve")
        for x, y in line if len(line) < 40 else line[-1:]:
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], colour)
        if len(curves) > 1:
            draw.text((name_end, top + 8), name.replace("_", " "), colour, anchor="ra")
            name_end -= MARGIN + draw.textlength(name)


def _ticks(least, most):
    """Round numbers between two, some TICKS of them."""
    rough = (most - least) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(least / step), math.floor(most / step) + 1)]


def _text(value):
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"


def _number(text):
    return None if text == "" else int(text) if text.isdecimal() else float(text)
