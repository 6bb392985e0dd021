"""The budget of a run: minutes of wall clock, or steps."""

import time

from vfi.training.recipe import Recipe


class Budget:
    """How much of a budget is spent.

    Minutes count everything, from the start of the program on. Their share that decides the learning rate counts
    training alone, so that a long preparation shortens the schedule and leaves no gap in it.

    Args:
        recipe: with the budget.
        started: `time.monotonic()` when the program began.
        spent: seconds of the budget that were spent before --resume.
        trained: seconds of these that were training.
    """

    def __init__(self, recipe: Recipe, started: float, spent: float = 0.0, trained: float = 0.0) -> None:
        self._steps = recipe.steps
        self._seconds = 60 * (recipe.minutes or 0.0)
        self._origin = started - spent  # when the program would have begun, had there been no pause
        self._trained = trained
        self._began = time.monotonic()

    def begin(self) -> None:
        """Training begins now."""
        self._began = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds that are spent."""
        return time.monotonic() - self._origin

    @property
    def trained(self) -> float:
        """Seconds of these that were training."""
        return self._trained + time.monotonic() - self._began

    def progress(self, step: int) -> float:
        """The share of the budget that is spent at the beginning of a step; 1 or more if it is over."""
        if self._steps:
            return (step + 0.5) / self._steps
        left = self._seconds - self.spent
        trained = self.trained
        return trained / (trained + left) if left > 0 else 1.0
