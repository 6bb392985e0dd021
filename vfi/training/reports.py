"""The reports of a run: how the steps since the last report went, in numbers and as a line of text."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from vfi.training.batches import Batches
from vfi.training.budget import Budget
from vfi.training.feed import Clock
from vfi.training.log import COLUMNS, Row
from vfi.training.trainer import REACHED, Trainer

PROXY = 64  # held-out crops that stand in for the validation during training
BAD_SHARE = 0.01  # of the steps of a report: a report with more skipped steps than that, and than one, is bad


class Reports:
    """Measures a run, from one report to the next.

    Args:
        trainer, budget: of the run.
        total: crops in a step, of all processes.
        proxy: held-out crops, or None.
        pictures: held-out pictures for `Trainer.reach`; may be empty.

    Attributes:
        interval: since the last report.
        bad: how many reports in a row, up to the last one, were bad: many of their steps had to be skipped.
    """

    def __init__(
        self, trainer: Trainer, budget: Budget, total: int, proxy: Batches | None, pictures: Sequence[Tensor]
    ) -> None:
        self._trainer, self._budget, self._total, self._proxy = trainer, budget, total, proxy
        self._pictures = pictures
        self.interval = Interval(trainer.step, trainer.device)
        self.bad = 0

    def begin(self) -> None:
        """Begins a new interval."""
        self.interval = Interval(self._trainer.step, self._trainer.device)

    def measure(self, with_proxy: bool) -> Row | None:
        """The row of the log for the interval until now; None if it has no steps."""
        trainer, interval = self._trainer, self.interval
        steps = trainer.step - interval.first_step
        if not steps:
            return None
        *sums, skipped = trainer.take_sums()
        self.bad = self.bad + 1 if skipped == steps or skipped > max(1, BAD_SHARE * steps) else 0
        loss, error, averaging = (value / (steps - skipped) if steps > skipped else None for value in sums)
        seconds, data_share = interval.seconds, interval.clock.share()
        minutes = self._budget.spent / 60
        proxy = trainer.proxy(self._proxy, PROXY, trainer.recipe.batch) if with_proxy and self._proxy else None
        reach = trainer.reach(self._pictures) if with_proxy and self._pictures else None
        step, rate = trainer.step, trainer.optimizer.param_groups[0]["lr"]
        values = (step, minutes, step * self._total, rate, loss, error, averaging, proxy, steps * self._total / seconds)
        return dict(zip(COLUMNS, (*values, data_share, int(skipped), reach), strict=True))

    def describe(self, row: Row) -> str:
        """The line that is printed for a row of the log."""
        parts = [f"{row['minutes']:6.1f} min", f"step {row['step']}"]
        if row["error"] is not None:
            parts.append(f"error {row['error']:.3f} levels (averaging {row['averaging']:.3f})")
        speed = row["samples_per_second"]
        parts.append(f"{speed:.1f} samples/s (data {row['data_share']:.1%})")
        if steps := self._trainer.recipe.steps:
            parts.append(f"{(steps - row['step']) * self._total / speed / 60:.1f} min to go")
        if row["skipped"]:
            parts.append(f"{row['skipped']} steps skipped: gradients not finite")
        if row["proxy_psnr"] is not None:
            parts.append(f"held-out crops {row['proxy_psnr']:.3f} dB (a proxy)")
        if row["reach"] is not None:
            parts.append(f"shifted by {REACHED} pixels {row['reach']:.1f} dB")
        return "  ".join(parts)


class Interval:
    """The time since a report.

    Attributes:
        first_step: how many steps were done before.
        clock: measures the share of the time that goes into the data.
    """

    def __init__(self, step: int, device: torch.device) -> None:
        self.first_step = step
        self.clock = Clock(device)
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long ago the report was."""
        return time.monotonic() - self._began
