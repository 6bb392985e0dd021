"""A training run, from the first check to the end of its budget."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from vfi.errors import ClipError, DataError, UsageError, counted, reason
from vfi.files import locked, new_folder
from vfi.training.batches import Batches
from vfi.training.budget import Budget
from vfi.training.checkpoints import read_checkpoint, write_checkpoint, write_weights
from vfi.training.distributed import Processes
from vfi.training.feed import Feed
from vfi.training.log import Log
from vfi.training.preparation import check_folders, check_sampling, decode, name_skipped, own_device, place_for_frames
from vfi.training.provenance import Provenance
from vfi.training.reach import held_out_pictures
from vfi.training.recipe import Recipe
from vfi.training.reports import Reports
from vfi.training.stills import find_stills
from vfi.training.trainer import REACHED, Trainer, start_network, training_precision

BAD_REPORTS = 3  # in a row end a run

# Memory in bytes: for the network with its gradients, their moments and averages; and for each pixel of a crop.
FIXED_MEMORY = 1.0 * 2**30
PIXEL_MEMORY = {"float32": 5_000, "bfloat16": 3_300, "float16": 3_300}

# Bytes on disk for each weight of the network: 2 for the published weights; 4 each in a checkpoint for weights,
# averages and two moments; and as much again for the next files, which are written beside them.
DISK = 2 * (2 + 4 * 4)

CROPS_DEPEND_ON = ("footage", "processes")  # of what a checkpoint keeps
OTHER_CROPS = "note: other videos, or another number of processes, than before: the crops will be others, too"


@dataclass(frozen=True)
class RunOptions:
    """What a run is asked to do, besides the recipe.

    Attributes:
        data, held_out: folders of videos to train on, and to watch progress on.
        out: the folder to write to.
        changes: values of the recipe that were given.
        resume: go on from the checkpoint in `out`.
        begins_anew: with `resume`: begin if there is no checkpoint.
        start: what to begin with; None for frame averaging (l1) or the bundled l1 weights (lf).
        device: "auto", "cpu", "cuda" or "cuda:N".
        compiles: whether to compile the network first.
        cache: folder for decoded frames; None for one in `out`.
        report, checkpoint: seconds between reports, and between checkpoints.
    """

    data: Sequence[Path]
    out: Path
    held_out: Sequence[Path] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    begins_anew: bool = False
    start: str | None = None
    device: str = "auto"
    compiles: bool = False
    cache: Path | None = None
    report: float = 30
    checkpoint: float = 300


def train(options: RunOptions, started: float) -> None:
    """Trains as the options say.

    Args:
        started: `time.monotonic()` when the program began, from which on minutes count.

    Raises:
        UserError: something keeps training from beginning or going on; the message says what.
        KeyboardInterrupt, SystemExit: after Ctrl-C and SIGTERM; the checkpoint is up to date.
    """
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        with Processes() as processes, contextlib.ExitStack() as stack:
            try:
                stack.enter_context(new_folder(options.out))
            except OSError as error:
                raise DataError(f"--out {options.out}: {reason(error)}; name another folder") from error
            if processes.first:
                try:
                    stack.enter_context(locked(options.out))
                except BlockingIOError as error:
                    raise DataError(f"another run writes to {options.out}: name another --out") from error
            run = Run(options, started, processes)
            run.describe()
            run.loop()
            run.finish()
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: FrameType | None) -> None:
    """Handles SIGTERM during decoding by unwinding, which removes partial files."""
    sys.exit(128 + number)


class Run:
    """A training run. Its constructor checks and prepares everything, and decodes the videos.

    Args:
        processes: entered.
        options, started: see `train`.
    """

    def __init__(self, options: RunOptions, started: float, processes: Processes) -> None:
        self.options, self.processes = options, processes
        first = Recipe().changed(options.changes)
        if first.model != "lf" and options.changes.keys() & {"features", "colour"}:
            raise UsageError("--features and --colour are for lf: add --model lf, or leave them out")
        path = options.out / f"trained-{first.model}"
        self.weights = path.with_name(f"{path.name}.safetensors")
        self.checkpoint = path.with_name(f"{path.name}.checkpoint")
        saved = self._read_saved()
        before = Recipe(**saved["recipe"]) if saved else Recipe()
        recipe = before.changed(options.changes)
        check_sampling(recipe, options.changes)
        device = own_device(options.device, processes)
        check_folders(options.data, options.held_out)

        start = options.start or ("averaging" if recipe.model == "l1" else "bundled")
        network = start_network("averaging" if saved else start, recipe.seed)
        changes = before.differences(recipe) if saved else []
        if recipe.precision == "auto":
            recipe = recipe.changed({"precision": training_precision(device, network)})
        self.recipe = recipe
        if options.compiles:
            self.say("compiling the network, which takes a minute or two")
        self.trainer = Trainer(network, device, recipe, processes, options.compiles)
        if saved:
            self.trainer.load(saved)
        self.first_step = self.kept_step = self.trainer.step  # kept: of the last checkpoint

        cache = options.cache or options.out / "frames"
        footage, held_out = decode(options.data, options.held_out, cache, processes)
        total = processes.count * recipe.batch
        place = place_for_frames(device, footage, held_out)
        batches = Batches(footage, recipe.crop, recipe.seed, recipe, place)
        self.feed = Feed(batches, device, total, processes.rank * recipe.batch, recipe.batch)
        try:
            proxy = Batches(held_out, recipe.crop, device=place, plain=True) if held_out else None
        except ClipError as error:
            raise DataError(f"--held-out: {error}") from error
        pictures = held_out_pictures(held_out, REACHED) if held_out else []
        if processes.first:
            name_skipped(batches.skipped + (proxy.skipped if proxy else []))

        folders = ", ".join(sorted({folder.resolve().name for folder in options.data}))
        self.provenance = Provenance(saved["parts"]) if saved else Provenance(weights=network.metadata)
        data = f"{counted(len(footage.clips), 'clip')} ({folders})"
        if recipe.stills:
            data += f" and {counted(len(find_stills(recipe.stills)), 'still')} ({Path(recipe.stills).resolve().name})"
        self.provenance.begin(self.trainer.step, total, recipe.crop, data)
        self.kept = {  # in the checkpoint, besides the state of the trainer and of the budget
            "recipe": asdict(recipe),
            "footage": footage.path.name,
            "processes": processes.count,
            "parts": self.provenance.parts,
        }
        self.description = [
            f"{recipe.model}: {recipe.loss}, {recipe.budget}, from {f'step {self.trainer.step}' if saved else start}",
            *([f"changed: {', '.join(changes)}"] if changes else []),
            *([OTHER_CROPS] if saved and any(saved[name] != self.kept[name] for name in CROPS_DEPEND_ON) else []),
            self._describe_steps(),
            self._describe_needs(),
            f"{counted(len(footage.clips), 'clip')}, {counted(len(footage.scenes), 'scene')}, {footage.frames} frames, "
            f"{counted(batches.triplets, 'triplet')}; {footage.pixels.nbytes / 2**30:.1f} GiB on {place}, "
            f"from {footage.path}",
        ]
        self.log = Log(path, self.trainer.step) if processes.first else None
        self.budget = Budget(recipe, started, saved["spent"], saved["trained"]) if saved else Budget(recipe, started)
        self.reports = Reports(self.trainer, self.budget, total, proxy, pictures)
        self.checkpointed = time.monotonic()
        self.signal: int | None = None  # that asked the run to stop

    # --- Before ---

    def _read_saved(self) -> dict[str, Any] | None:
        """The checkpoint to go on from, or None."""
        exists, options = self.checkpoint.exists(), self.options
        if options.resume and not options.begins_anew and not exists:
            raise DataError(f"there is no {self.checkpoint}: nothing to go on from; leave out --resume to begin")
        if not options.resume and exists:
            raise DataError(f"{self.checkpoint} exists already: go on with --resume, or name another --out")
        return read_checkpoint(self.checkpoint) if exists else None

    def _describe_steps(self) -> str:
        recipe = self.recipe
        return (
            f"{self.processes.count} x {counted(recipe.batch, 'crop')} of {recipe.crop}x{recipe.crop} in a step, "
            f"{recipe.synthetic:.0%} synthetic; AdamW, learning rate {recipe.learning_rate:g} (up, then down to zero), "
            f"average {recipe.average:g}, seed {recipe.seed}"
        )

    def _describe_needs(self) -> str:
        recipe, trainer = self.recipe, self.trainer
        threads = f", {torch.get_num_threads()} threads" if trainer.device.type == "cpu" else ""
        disk = DISK * sum(parameter.numel() for parameter in trainer.network.parameters()) / 1e9
        memory = (FIXED_MEMORY + recipe.batch * recipe.crop**2 * PIXEL_MEMORY[recipe.precision]) / 2**30
        return (
            f"on {trainer.device}{threads}, in {recipe.precision}: about {memory:.1f} GiB of memory for each process, "
            f"besides frames; {disk:.1f} GB in {self.options.out}"
        )

    def describe(self) -> None:
        """Prints the recipe, and what it will take."""
        for line in self.description:
            self.say(line)

    def say(self, text: str) -> None:
        if self.processes.first:
            print(text, flush=True)

    # --- Training ---

    def loop(self) -> None:
        """Trains until the budget is spent or a signal asks to stop; the checkpoint is up to date then."""
        self.checkpointed = time.monotonic()
        self.budget.begin()
        self.reports.begin()
        with self._handle_signals(), _cudnn_benchmark():
            while True:
                stop = self.signal is not None or self.reports.bad == BAD_REPORTS
                progress, stop = self.processes.agree(self.budget.progress(self.trainer.step), stop)
                if stop or progress >= 1:
                    break
                batch = self.reports.interval.clock.measure(lambda: self.feed(self.trainer.step))
                self.trainer.train(*batch, progress)
                # At the end of the budget, the last report follows anyway.
                if self.processes.first and self.signal is None and self.budget.progress(self.trainer.step) < 1:
                    if time.monotonic() - self.checkpointed >= self.options.checkpoint:
                        self._report(keep=True)
                    elif self.reports.interval.seconds >= self.options.report:
                        self._report()
            if self.processes.first and self.trainer.step:
                self._report(keep=True)

    @contextlib.contextmanager
    def _handle_signals(self) -> Iterator[None]:
        def take(number: int, frame: FrameType | None) -> None:
            self.signal = number

        handlers = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _report(self, keep: bool = False) -> None:
        """Prints and logs the steps since the last report.

        With `keep`, the proxy is measured if there is one, and checkpoint and weights are written, unless the steps
        were bad. They come before the log: a log that cannot be written costs no training.
        """
        assert self.log  # only the first process reports
        row = self.reports.measure(with_proxy=keep)
        if keep and not self.reports.bad:
            self._keep()
        if row:
            self.log.add(row)
            print(self.reports.describe(row), flush=True)
        self.reports.begin()

    def _keep(self) -> None:
        """Writes the weights, and then the checkpoint, for which a nearly full disk may have no room."""
        trainer, recipe = self.trainer, self.recipe
        metadata = {"model": recipe.model, "license": recipe.license, **self.provenance.metadata(trainer.step)}
        write_weights(self.weights, trainer.averaged, metadata)
        spent = {"spent": self.budget.spent, "trained": self.budget.trained}
        write_checkpoint(self.checkpoint, {**trainer.state(), **spent, **self.kept})
        self.kept_step, self.checkpointed = trainer.step, time.monotonic()

    # --- Finishing ---

    def finish(self) -> None:
        """Says where the weights are, or why there are none."""
        self._check_gradients()
        recipe, step = self.recipe, self.trainer.step
        if self.processes.first and not step and not self.signal:
            raise DataError(
                f"the {recipe.minutes:g} minutes were over before the first step: give more --minutes; the videos are "
                "decoded now"
            )
        if self.first_step == step and not self.signal:
            option = "--steps" if recipe.steps else "--minutes"
            self.say(f"nothing was left to do of {recipe.budget}: --resume with more {option} goes on")
        if self.signal and step:
            self.say(f"stopped at step {step}; --resume continues from there")
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        self.say(str(self.weights))

    def _check_gradients(self) -> None:
        if self.reports.bad == BAD_REPORTS:
            what = f"the gradients were not finite in {BAD_REPORTS} reports in a row"
            if not self.checkpoint.exists():
                raise DataError(f"{what}, before the first checkpoint: try a lower --learning-rate")
            raise DataError(
                f"{what}: the last good weights are in {self.weights}; --resume with a lower --learning-rate"
            )
        if self.processes.first and self.kept_step != self.trainer.step:
            kept = f"those of step {self.kept_step} are in {self.weights}" if self.kept_step else "none were written"
            raise DataError(
                f"the gradients of the last steps were not finite, and such weights are not kept: {kept}; try a lower "
                "--learning-rate"
            )


@contextlib.contextmanager
def _cudnn_benchmark() -> Iterator[None]:
    """Has cuDNN choose its algorithms by trying them: crops all have one size."""
    torch.backends.cudnn.benchmark, before = True, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
