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
from vfi.interpolator import find_device
from vfi.training.batches import Batches
from vfi.training.checkpoints import read_checkpoint, write_checkpoint, write_weights
from vfi.training.clips import Footage, find_clips
from vfi.training.distributed import Processes
from vfi.training.feed import Clock, Feed
from vfi.training.log import COLUMNS, Log, Row
from vfi.training.provenance import Provenance
from vfi.training.recipe import Recipe
from vfi.training.trainer import Trainer, start_network, training_precision

PROXY = 64  # held-out crops that stand in for the validation during training
BAD_REPORTS = 3  # in a row end a run
BAD_SHARE = 0.01  # of the steps of a report: a report with more skipped steps than that, and than one, is bad
GPU_SHARE = 0.6  # of a GPU's free memory that frames may take

# Memory in bytes: for the network with its gradients, their moments and averages; and for each pixel of a crop.
FIXED_MEMORY = 1.0 * 2**30
PIXEL_MEMORY = {"float32": 5_000, "bfloat16": 3_300, "float16": 3_300}

# Bytes on disk for each weight of the network: 2 for the published weights; 4 each in a checkpoint for weights,
# averages and two moments; and as much again for the next files, which are written beside them.
DISK = 2 * (2 + 4 * 4)


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
        self.options, self.started, self.processes = options, started, processes
        first = Recipe().changed(options.changes)
        if first.model != "lf" and options.changes.keys() & {"features", "colour"}:
            raise UsageError("--features and --colour are for lf: add --model lf, or leave them out")
        self.path = options.out / f"trained-{first.model}"
        self.weights, self.checkpoint = (
            self.path.with_name(f"{self.path.name}.{suffix}") for suffix in ("safetensors", "checkpoint")
        )
        saved = self._read_saved()
        before = Recipe(**saved["recipe"]) if saved else Recipe()
        recipe = before.changed(options.changes)
        self.changes = before.differences(recipe) if saved else []
        self.is_resumed = saved is not None
        self.spent: float = saved["spent"] if saved else 0.0  # seconds of the budget, in earlier runs
        self.trained: float = saved["trained"] if saved else 0.0  # seconds of these that were training
        self.device = self._find_device()
        self.cache = options.cache or options.out / "frames"
        self._check_held_out()

        self.start = options.start or ("averaging" if recipe.model == "l1" else "bundled")
        network = start_network("averaging" if saved else self.start, recipe.seed)
        if recipe.precision == "auto":
            recipe = recipe.changed({"precision": training_precision(self.device, network)})
        self.recipe = recipe
        if options.compiles:
            self.say("compiling the network, which takes a minute or two")
        self.trainer = Trainer(network, self.device, recipe, processes, options.compiles)
        if saved:
            self.trainer.load(saved)
            self.provenance = Provenance(saved["parts"])
        else:
            self.provenance = Provenance(weights=network.metadata)
        self.first_step = self.kept_step = self.trainer.step  # kept: of the last checkpoint

        if processes.local:  # the first process of each machine decodes, and the others take what it has decoded
            processes.wait()
        self.footage = self._decode(options.data)
        held_out = self._decode(options.held_out) if options.held_out and processes.first else None
        if not processes.local:
            processes.wait()
        self.total = processes.count * recipe.batch  # crops in a step
        self.place = self._place_for_frames(self.footage, held_out)
        self.batches = Batches(self.footage, recipe.crop, recipe.seed, recipe.synthetic, self.place)
        self.feed = Feed(self.batches, self.device, self.total, processes.rank * recipe.batch, recipe.batch)
        try:
            self.proxy = Batches(held_out, recipe.crop, device=self.place, plain=True) if held_out else None
        except ClipError as error:
            raise DataError(f"--held-out: {error}") from error
        self._name_skipped(self.batches.skipped + (self.proxy.skipped if self.proxy else []))
        self.provenance.begin(self.trainer.step, self.total, recipe.crop, self._describe_data())
        self.kept = {  # in the checkpoint, besides the state of the trainer
            "recipe": asdict(recipe),
            "footage": self.footage.path.name,
            "processes": processes.count,
            "parts": self.provenance.parts,
        }
        self.has_other_crops = saved is not None and any(
            saved[name] != self.kept[name] for name in ("footage", "processes")
        )
        self.log = Log(self.path, self.trainer.step) if processes.first else None
        self.signal: int | None = None  # that asked the run to stop
        self.bad_reports = 0  # in a row
        self.began = self.checkpointed = time.monotonic()
        self.report = _Report(self.trainer.step, self.device)

    # --- Preparing ---

    def _read_saved(self) -> dict[str, Any] | None:
        """The checkpoint to go on from, or None."""
        exists, options = self.checkpoint.exists(), self.options
        if options.resume and not options.begins_anew and not exists:
            raise DataError(f"there is no {self.checkpoint}: nothing to go on from; leave out --resume to begin")
        if not options.resume and exists:
            raise DataError(f"{self.checkpoint} exists already: go on with --resume, or name another --out")
        return read_checkpoint(self.checkpoint) if exists else None

    def _find_device(self) -> torch.device:
        device = find_device(self.options.device)
        if device.type == "cuda":
            device = self._own_gpu(device)
            torch.cuda.set_device(device)
        return device

    def _own_gpu(self, device: torch.device) -> torch.device:
        if self.processes.count == 1:
            return device if device.index is not None else torch.device("cuda", 0)
        if device.index is not None:
            raise UsageError(f"--device {device}: each of several processes takes a GPU of its own; say cuda, or cpu")
        if self.processes.local >= torch.cuda.device_count():
            raise UsageError(
                f"this machine has {torch.cuda.device_count()} GPUs, too few for the processes: lower "
                "--nproc-per-node, or say --device cpu"
            )
        return torch.device("cuda", self.processes.local)

    def _check_held_out(self) -> None:
        clips = find_clips(self.options.data)
        if self.options.held_out:
            held_out = {clip.resolve() for clip in find_clips(self.options.held_out)}
            for clip in clips:
                if clip.resolve() in held_out:
                    raise DataError(f"{clip} is in --data and in --held-out: it cannot be used for both")

    def _decode(self, folders: Sequence[Path]) -> Footage:
        """The footage of folders; clips that cannot be used are named."""
        try:
            footage = Footage(folders, self.cache, self._show_decoding)
        except ClipError as error:
            self._name_skipped(error.skipped)
            raise
        except OSError as error:
            raise DataError(
                f"--cache {self.cache}: {reason(error)}; name another folder, with room for the decoded frames"
            ) from error
        self._name_skipped(footage.skipped)
        return footage

    def _name_skipped(self, skipped: Sequence[str]) -> None:
        for line in skipped if self.processes.first else ():
            print(f"skipped: {line}", file=sys.stderr)

    def _show_decoding(self, done: int, total: int) -> None:
        if not done:
            self.say(f"decoding {counted(total, 'clip')} into {self.cache}")
        elif self.processes.first and sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\rdecoding: {done} of {counted(total, 'clip')}", end=end, file=sys.stderr, flush=True)

    def _place_for_frames(self, *all_footage: Footage | None) -> torch.device:
        """The GPU, if there is one and the frames fit into its memory; otherwise the CPU."""
        if self.device.type == "cuda":
            size = sum(footage.pixels.nbytes for footage in all_footage if footage)
            if size > GPU_SHARE * torch.cuda.mem_get_info(self.device)[0]:
                return torch.device("cpu")
        return self.device

    def _describe_data(self) -> str:
        folders = ", ".join(sorted({path.resolve().name for path in self.options.data}))
        return f"{counted(len(self.footage.clips), 'clip')} ({folders})"

    # --- Describing ---

    def say(self, text: str) -> None:
        if self.processes.first:
            print(text, flush=True)

    def describe(self) -> None:
        """Prints the recipe, and what it will take."""
        recipe, footage, trainer = self.recipe, self.footage, self.trainer
        origin = f"step {trainer.step}" if self.is_resumed else self.start
        self.say(f"{recipe.model}: {recipe.loss}, {recipe.budget}, from {origin}")
        if self.changes:
            self.say(f"changed: {', '.join(self.changes)}")
        if self.has_other_crops:
            self.say("note: other videos, or another number of processes, than before: the crops will be others, too")
        self.say(
            f"{self.processes.count} x {counted(recipe.batch, 'crop')} of {recipe.crop}x{recipe.crop} in a step, "
            f"{recipe.synthetic:.0%} synthetic; AdamW, learning rate {recipe.learning_rate:g} (up, then down to zero), "
            f"average {recipe.average:g}, seed {recipe.seed}"
        )
        where = f"{self.device}, {torch.get_num_threads()} threads" if self.device.type == "cpu" else f"{self.device}"
        disk = DISK * sum(parameter.numel() for parameter in trainer.network.parameters()) / 1e9
        memory = (FIXED_MEMORY + recipe.batch * recipe.crop**2 * PIXEL_MEMORY[recipe.precision]) / 2**30
        self.say(
            f"on {where}, in {recipe.precision}: about {memory:.1f} GiB of memory for each process, besides frames; "
            f"{disk:.1f} GB in {self.options.out}"
        )
        self.say(
            f"{counted(len(footage.clips), 'clip')}, {counted(len(footage.scenes), 'scene')}, {footage.frames} frames, "
            f"{counted(self.batches.triplets, 'triplet')}; {footage.pixels.nbytes / 2**30:.1f} GiB on {self.place}, "
            f"from {footage.path}"
        )

    # --- Training ---

    def loop(self) -> None:
        """Trains until the budget is spent or a signal asks to stop; the checkpoint is up to date then."""
        self.began = self.checkpointed = time.monotonic()
        self.report = _Report(self.trainer.step, self.device)
        with self._handle_signals(), _cudnn_benchmark():
            while True:
                stop = self.signal is not None or self.bad_reports == BAD_REPORTS
                progress, stop = self.processes.agree(self._progress(), stop)
                if stop or progress >= 1:
                    break
                batch = self.report.clock.measure(lambda: self.feed(self.trainer.step))
                self.trainer.train(*batch, progress)
                # At the end of the budget, the last report follows anyway.
                if self.processes.first and self.signal is None and self._progress() < 1:
                    now = time.monotonic()
                    if now - self.checkpointed >= self.options.checkpoint:
                        self._report(keep=True)
                    elif now - self.report.began >= self.options.report:
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

    def _progress(self) -> float:
        """The share of the budget that is spent; for a budget in minutes, without what was not training."""
        recipe = self.recipe
        if recipe.steps:
            return (self.trainer.step + 0.5) / recipe.steps
        assert recipe.minutes is not None  # one of the two is set
        now = time.monotonic()
        trained = self.trained + now - self.began
        left = 60 * recipe.minutes - self.spent - (now - self.started)
        return trained / (trained + left) if left > 0 else 1.0

    def _report(self, keep: bool = False) -> None:
        """Prints and logs the steps since the last report.

        With `keep`, the proxy is measured if there is one, and checkpoint and weights are written, unless the steps
        were bad. They come before the log: a log that cannot be written costs no training.
        """
        assert self.log  # only the first process reports
        steps = self.trainer.step - self.report.first_step
        row = self._measure(steps, keep) if steps else None
        if row:
            is_bad = row["skipped"] == steps or row["skipped"] > max(1, BAD_SHARE * steps)
            self.bad_reports = self.bad_reports + 1 if is_bad else 0
        if keep and not self.bad_reports:
            self._keep()
        if row:
            self.log.add(row)
            self._print(row)
        self.report = _Report(self.trainer.step, self.device)

    def _measure(self, steps: int, with_proxy: bool) -> Row:
        """A row of the log, for so many last steps."""
        *sums, skipped = self.trainer.take_sums()
        loss, error, averaging = (value / (steps - skipped) if steps > skipped else None for value in sums)
        seconds, data_share = time.monotonic() - self.report.began, self.report.clock.share()
        minutes = (self.spent + time.monotonic() - self.started) / 60
        proxy = self.trainer.proxy(self.proxy, PROXY, self.recipe.batch) if with_proxy and self.proxy else None
        step, rate = self.trainer.step, self.trainer.optimizer.param_groups[0]["lr"]
        values = (step, minutes, step * self.total, rate, loss, error, averaging, proxy, steps * self.total / seconds)
        return dict(zip(COLUMNS, (*values, data_share, int(skipped)), strict=True))

    def _print(self, row: Row) -> None:
        parts = [f"{row['minutes']:6.1f} min", f"step {row['step']}"]
        if row["error"] is not None:
            parts.append(f"error {row['error']:.3f} levels (averaging {row['averaging']:.3f})")
        speed = row["samples_per_second"]
        parts.append(f"{speed:.1f} samples/s (data {row['data_share']:.1%})")
        if self.recipe.steps:
            parts.append(f"{(self.recipe.steps - row['step']) * self.total / speed / 60:.1f} min to go")
        if row["skipped"]:
            parts.append(f"{row['skipped']} steps skipped: gradients not finite")
        if row["proxy_psnr"] is not None:
            parts.append(f"held-out crops {row['proxy_psnr']:.3f} dB (a proxy)")
        print("  ".join(parts), flush=True)

    def _keep(self) -> None:
        """Writes the weights, and then the checkpoint, for which a nearly full disk may have no room."""
        trainer, recipe = self.trainer, self.recipe
        metadata = {"model": recipe.model, "license": recipe.license, **self.provenance.metadata(trainer.step)}
        write_weights(self.weights, trainer.averaged, metadata)
        now = time.monotonic()
        spent, trained = self.spent + now - self.started, self.trained + now - self.began
        write_checkpoint(self.checkpoint, {**trainer.state(), "spent": spent, "trained": trained, **self.kept})
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
            self.say(f"stopped at step {step}; --resume goes on from there")
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        self.say(str(self.weights))

    def _check_gradients(self) -> None:
        if self.bad_reports == BAD_REPORTS:
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


class _Report:
    """The time since the last report.

    Attributes:
        first_step: the step of the last report.
        began: `time.monotonic()` then.
        clock: of the data.
    """

    def __init__(self, step: int, device: torch.device) -> None:
        self.first_step = step
        self.began = time.monotonic()
        self.clock = Clock(device)


@contextlib.contextmanager
def _cudnn_benchmark() -> Iterator[None]:
    """Has cuDNN choose its algorithms by trying them: crops all have one size."""
    torch.backends.cudnn.benchmark, before = True, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
