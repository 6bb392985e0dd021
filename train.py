"""Trains the network from any folder of videos.

    python train.py --data videos --out runs/first --minutes 25
    python train.py --data videos --out runs/first --resume
    python train.py --model lf --data videos --out runs/first --features vgg19-dcbb9e9d.pth --minutes 10
    python train.py --validate runs/first/trained-l1.safetensors --data held-out
    torchrun --nproc-per-node 2 train.py --data videos --out runs/first --minutes 25

Writes into --out: trained-MODEL.safetensors (weights, for `run.py --weights`), .checkpoint (for --resume), .csv and
.png (how it went; TensorBoard's events, too, if that is installed), and in frames/ the decoded videos (large; they may
be deleted after training). Ctrl-C and SIGTERM end a run with a checkpoint. Exit status: 0, 1 for bad data, 2 for bad
usage, 130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import contextlib
import math
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports, which take seconds: no traceback

import numpy as np
import torch

from vfi.command_line import exit_status
from vfi.errors import ClipError, DataError, UsageError, counted, reason
from vfi.files import locked, new_folder
from vfi.interpolator import PRECISIONS, Interpolator, find_device
from vfi.metrics import psnr
from vfi.network import REACH, STRIDE
from vfi.training.batches import SURROUNDINGS, Batches
from vfi.training.clips import Footage, find_clips, scenes
from vfi.training.distributed import Ranks
from vfi.training.log import COLUMNS, Log
from vfi.training.losses import LITE, FeatureDistance
from vfi.training.provenance import Provenance
from vfi.training.trainer import Trainer, read_checkpoint, start_network, training_precision
from vfi.weights import MODELS

EVERY = 15  # frames from one triplet of the validation to the next
PROXY = 64  # crops that stand in for it during training
BAD_REPORTS = 3  # in a row end a run
BAD_SHARE = 0.01  # of a report's steps: more than that and than one skipped (float16 loses one now and then) are bad
GPU_SHARE = 0.6  # of a GPU's free memory that frames may take

# Bytes of memory: what the network, its gradients, their moments and averages take, and each pixel of a crop.
FIXED_MEMORY = 1.0 * 2**30
PIXEL_MEMORY = {"float32": 5_000, "bfloat16": 3_300, "float16": 3_300}

# Bytes on disk for each weight of the network: the averages in 2 bytes, a checkpoint with weights, averages and two
# moments in 4 each; and as much for the next ones, which are written beside them.
DISK = 2 * (2 + 4 * 4)

# What a checkpoint keeps of the command line, and what it is where neither says anything.
RECIPE = {
    "model": "l1", "minutes": 25.0, "steps": None, "batch": 16, "crop": 128, "learning_rate": 5e-4, "synthetic": 0.0,
    "average": 0.999, "balance": 4.0, "features": LITE, "colour": 0.0, "seed": 0, "precision": "auto",
    "license": "not stated",
}  # fmt: skip


def main(argv=None):
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    started = time.monotonic()
    options = parse(argv)
    if options.validate:
        return exit_status(validate, options)
    return exit_status(
        lambda options: train(options, started), options, "such batches: try a smaller --batch or --crop"
    )


# --- The command line ------------------------------------------------------------------------------------------


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="train.py", description="Trains the network from any folder of videos, or measures weights on videos."
    )

    def recipe(name, text, **how):
        default = f"; default: {RECIPE[name.replace('-', '_')]}"
        parser.add_argument(f"--{name}", help=text + default, **how)

    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="videos: those in a folder and all within",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder to write to, made if need be")
    parser.add_argument(
        "--held-out",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="videos to watch progress on",
    )
    parser.add_argument(
        "--validate",
        metavar="FILE",
        help="do not train: mean PSNR of these weights on --data (whole frames, float32); with --features, the "
        "distance of features, too, which is lower where details are sharper",
    )
    recipe("model", "l1: exact colours; lf: sharper details", choices=MODELS)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes",
        type=within(float, 0.01),
        metavar="M",
        help="wall clock for everything, decoding and what was before --resume included; the schedule fits itself to "
        "it; "
        f"default: {RECIPE['minutes']}",
    )
    budget.add_argument("--steps", type=within(int, 1), metavar="N", help="a number of steps instead")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="must",
        choices=("must", "auto"),
        metavar="auto",
        help="go on from the checkpoint in --out, with its recipe where no option says otherwise; "
        "--resume auto begins where there is none",
    )
    parser.add_argument(
        "--start",
        metavar="averaging|bundled|FILE",
        help="what to begin with: frame averaging (the default for l1), or l1 weights (lf: the bundled ones)",
    )
    recipe("batch", "crops in a step, of each process", type=within(int, 1, 2**16), metavar="N")
    recipe(
        "crop",
        f"side of a crop in pixels, a multiple of {STRIDE}; frames need {2 * REACH} more each way",
        type=within(int, STRIDE),
        metavar="N",
    )
    recipe("learning-rate", "at its peak", type=within(float, 1e-9, 1), metavar="R")
    recipe(
        "synthetic",
        f"share of crops with synthetic motion, for which frames need {2 * SURROUNDINGS} more again",
        type=within(float, 0, 1),
        metavar="S",
    )
    recipe("average", "decay of the weights' average, for each step", type=within(float, 0, 0.999999), metavar="D")
    recipe(
        "balance",
        "grey levels: an error counts relative to this plus that of averaging (1e9: all alike)",
        type=within(float, 1e-3),
        metavar="L",
    )
    recipe(
        "features",
        "of lf and --validate: torchvision's VGG-19 (a .pth file), or EfficientNet-Lite0",
        metavar=f"FILE|{LITE}",
    )
    recipe("colour", "of lf: how much L1 on colour is added", type=within(float, 0), metavar="W")
    recipe("seed", "chooses crops and beginning", type=within(int, 0, 2**63 - 1), metavar="N")
    recipe("precision", "of the convolutions; auto: bfloat16 where it is native", choices=PRECISIONS)
    recipe("license", "of the weights, for the file's metadata", metavar="TEXT")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="default: auto")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="have PyTorch compile the network first, which takes a minute or two; pays on a GPU",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="for decoded frames, 0.6 GB for 1,000 of 600x336; after training it may be deleted; default: OUT/frames",
    )
    parser.add_argument(
        "--report", type=within(float, 0), default=30, metavar="S", help="seconds between reports; default: 30"
    )
    parser.add_argument(
        "--checkpoint",
        type=within(float, 0),
        default=300,
        metavar="S",
        help="seconds between checkpoints; default: 300",
    )
    options = parser.parse_args(argv)
    if options.crop and options.crop % STRIDE:
        parser.error(f"--crop {options.crop} is not a multiple of {STRIDE}")
    if options.validate:
        unfit = {"out", "held_out", "resume", "start", "cache", "compile", *RECIPE} - {"model", "precision", "features"}
        for name in sorted(unfit):
            if getattr(options, name) not in (None, False, []):
                parser.error(f"--{name.replace('_', '-')} is for training, not for --validate")
    elif not options.out:
        parser.error("--out is missing: the folder to write to")
    elif options.cache and options.cache.resolve() == options.out.resolve():
        parser.error("--cache is --out: name a folder for the frames alone")
    elif options.resume == "must" and options.start:
        parser.error("--start says what to begin with, and --resume does not begin: leave one of them out")
    return options


def within(kind, least, most=math.inf):
    """For argparse: a number between two bounds."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or value == math.inf:
            bounds = f"from {least} to {most}" if most < math.inf else f"of {least} or more"
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what} {bounds}")
        return value

    return convert


# --- Validation ------------------------------------------------------------------------------------------------


def validate(options):
    """Prints the mean PSNR for each clip, and over the clips; and the distance of features, if they are named.

    Triplets (t, t + 1, t + 2) for every 15th t of a clip, as far as they lie within a scene; frames with a short side
    of 360 at most; whole frames, rounded to 8 bits, in float32 unless --precision says otherwise. A triplet with a
    frame that is shown twice is left out: its middle is no middle.
    """
    precision = "float32" if options.precision in (None, "auto") else options.precision
    clips = find_clips(options.data)
    model = options.model or RECIPE["model"]
    interpolator = Interpolator(model, options.validate, options.device, precision=precision)
    distance = FeatureDistance(options.features).to(interpolator.device) if options.features else None

    def measure(one, truth, two):
        out = interpolator(one, two)
        pair = (torch.from_numpy(frame).to(interpolator.device).permute(2, 0, 1)[None] / 255 for frame in (out, truth))
        # The distance is of BGR, as the network's frames are.
        return psnr(out, truth), *([distance(*(frame.flip(1) for frame in pair)).item()] if distance else [])

    def row(name, count, values):
        decibels, *features = np.mean(values, axis=0)
        print(f"{name:40} {count} {decibels:8.3f} dB{''.join(f'{value:10.5f}' for value in features)}", flush=True)

    means = []
    for clip in clips:
        try:
            values = [measure(*triplet) for triplet in validation_triplets(clip)]
        except ClipError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        if not values:
            print(f"skipped: {clip} has no triplet of three different frames", file=sys.stderr)
            continue
        means.append(np.mean(values, axis=0))
        row(clip.name, f"{counted(len(values), 'triplet'):>13}", values)
    if not means:
        raise DataError("none of these clips could be used")
    row(f"mean of {counted(len(means), 'clip')}", " " * 13, means)


def validation_triplets(clip):
    for first, _, frames in scenes(clip):
        for t in range(-first % EVERY, len(frames) - 2, EVERY):
            one, truth, two = frames[t : t + 3]
            if not (np.array_equal(one, truth) or np.array_equal(truth, two)):
                yield one, truth, two


# --- Training --------------------------------------------------------------------------------------------------


def train(options, started):
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        with Ranks() as ranks, contextlib.ExitStack() as stack:
            try:
                stack.enter_context(new_folder(options.out))
            except OSError as error:
                raise DataError(f"--out {options.out}: {reason(error)}; name another folder") from error
            if ranks.first:
                try:
                    stack.enter_context(locked(options.out))
                except BlockingIOError as error:
                    raise DataError(f"another run writes to {options.out}: name another --out") from error
            run = Run(options, started, ranks)
            run.prepare()
            run.describe()
            run.loop()
            run.finish()
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number, frame):
    """Of a signal while videos are decoded, say: what was begun is cleared away."""
    sys.exit(128 + number)


class Run:
    """A run of training on the command line, from the first call to the end of its budget.

    Args:
        options: as `parse` returns them.
        started: `time.monotonic()` when the program began.
        ranks: a `Ranks`, entered.
    """

    def __init__(self, options, started, ranks):
        self.options, self.started, self.ranks = options, started, ranks
        given = {name: getattr(options, name) for name in RECIPE if getattr(options, name) is not None}
        if given.keys() & {"minutes", "steps"}:
            given = {"minutes": None, "steps": None} | given
        if given.get("model", RECIPE["model"]) != "lf" and given.keys() & {"features", "colour"}:
            raise UsageError("--features and --colour are of lf: add --model lf, or leave them out")
        path = options.out / f"trained-{given.get('model', RECIPE['model'])}"
        self.weights, self.checkpoint = (
            path.with_name(f"{path.name}.{suffix}") for suffix in ("safetensors", "checkpoint")
        )
        if options.resume == "must" and not self.checkpoint.exists():
            raise DataError(f"there is no {self.checkpoint}: nothing to go on from; leave out --resume to begin")
        if not options.resume and self.checkpoint.exists():
            raise DataError(f"{self.checkpoint} is there already: go on with --resume, or name another --out")
        self.saved = read_checkpoint(self.checkpoint) if options.resume and self.checkpoint.exists() else None
        before = RECIPE | (self.saved["recipe"] if self.saved else {})
        self.recipe = argparse.Namespace(**before | given)
        self.changes = [
            f"{name} {value}" if before[name] is None else f"{name} {before[name]} -> {value}"
            for name, value in given.items()
            if value is not None and before[name] != value
        ]
        self.spent, self.trained = (self.saved["spent"], self.saved["trained"]) if self.saved else (0.0, 0.0)

        self.device = find_device(options.device)
        if self.device.type == "cuda":
            self.device = self._own_gpu()
            torch.cuda.set_device(self.device)
        self.log_path, self.cache = path, options.cache or options.out / "frames"
        self.signal = None  # that asked the run to stop
        self.bad_reports = self.kept_step = 0

    def _own_gpu(self):
        if self.ranks.count == 1:
            return self.device if self.device.index is not None else torch.device("cuda", 0)
        if self.device.index is not None:
            raise UsageError(
                f"--device {self.device}: of several processes each takes a GPU of its own; say cuda, or cpu"
            )
        if self.ranks.local >= torch.cuda.device_count():
            raise UsageError(
                f"this machine has {torch.cuda.device_count()} GPUs, too few for one to each process: "
                "lower --nproc-per-node, or say --device cpu"
            )
        return torch.device("cuda", self.ranks.local)

    def say(self, text):
        if self.ranks.first:
            print(text, flush=True)

    # --- Before ---

    def prepare(self):
        """Builds what trains, and decodes the videos: whatever is wrong with either is said before all else."""
        options, recipe, ranks = self.options, self.recipe, self.ranks
        clips = find_clips(options.data)
        if options.held_out:
            held_out = {clip.resolve() for clip in find_clips(options.held_out)}
            for clip in clips:
                if clip.resolve() in held_out:
                    raise DataError(f"{clip} is in --data and in --held-out: nothing is measured on what was learned")
        self.start = options.start or ("averaging" if recipe.model == "l1" else "bundled")
        network = start_network("averaging" if self.saved else self.start, recipe.seed)
        if recipe.precision == "auto":
            recipe.precision = training_precision(self.device, network)
        features = recipe.features if recipe.model == "lf" else None
        if options.compile:
            self.say("compiling the network, which takes a minute or two")
        self.trainer = Trainer(
            network, self.device, recipe.precision, ranks, recipe.learning_rate, recipe.average, recipe.balance,
            features, recipe.colour, (recipe.batch, recipe.crop) if options.compile else None,
        )  # fmt: skip
        if self.saved:
            self.trainer.load(self.saved)
            self.kept_step = self.trainer.step
            self.provenance = Provenance(self.saved["parts"])
            self.saved = {name: self.saved[name] for name in ("footage", "processes")}  # the rest is large
        else:
            self.provenance = Provenance(weights=network.metadata)
        self.first_step = self.trainer.step

        if ranks.local:  # the first process of each machine decodes, and the others take what it has decoded
            ranks.wait()
        self.footage = footage = self._decode(options.data)
        held_out = self._decode(options.held_out) if options.held_out and ranks.first else None
        if not ranks.local:
            ranks.wait()
        self.total = ranks.count * recipe.batch
        self.place = self._place_for_frames(footage, held_out)
        self.batches = Batches(footage, recipe.crop, recipe.seed, recipe.synthetic, self.place)
        self.feed = Feed(self.batches, self.device, self.total, ranks.rank * recipe.batch, recipe.batch)
        try:
            self.proxy = Batches(held_out, recipe.crop, device=self.place, plain=True) if held_out else None
        except ClipError as error:
            raise DataError(f"of --held-out, {error}") from error
        self._name(self.batches.skipped + (self.proxy.skipped if held_out else []))
        folders = ", ".join(sorted({path.resolve().name for path in options.data}))
        self.provenance.begin(
            self.trainer.step, self.total, recipe.crop, f"{counted(len(footage.clips), 'clip')} ({folders})"
        )
        self.kept = {  # in the checkpoint
            "recipe": vars(recipe),
            "footage": footage.path.name,
            "processes": ranks.count,
            "parts": self.provenance.parts,
        }
        self.log = Log(self.log_path, self.trainer.step) if ranks.first else None

    def budget(self):
        return counted(self.recipe.steps, "step") if self.recipe.steps else counted(self.recipe.minutes, "minute")

    def describe(self):
        """Prints the recipe, and what it will take."""
        recipe, saved, footage = self.recipe, self.saved, self.footage
        loss = "L1" if recipe.model == "l1" else f"features of {recipe.features} + {recipe.colour:g} L1"
        where = f"{self.device}, {torch.get_num_threads()} threads" if self.device.type == "cpu" else f"{self.device}"
        self.say(
            f"{recipe.model}: {loss}, {self.budget()}, from {f'step {self.trainer.step}' if saved else self.start}"
        )
        if saved and self.changes:
            self.say(f"changed: {', '.join(self.changes)}")
        if saved and any(self.kept[name] != value for name, value in saved.items()):
            self.say("note: other videos, or another number of processes, than before: the crops will be others, too")
        self.say(
            f"{self.ranks.count} x {counted(recipe.batch, 'crop')} of {recipe.crop}x{recipe.crop} in a step, "
            f"{recipe.synthetic:.0%} synthetic; AdamW, learning rate {recipe.learning_rate:g} (up, then down to zero), "
            f"average {recipe.average:g}, seed {recipe.seed}"
        )
        disk = DISK * sum(parameter.numel() for parameter in self.trainer.network.parameters()) / 1e9
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

    def _decode(self, folders):
        """The footage of folders; clips that are of no use are named."""
        try:
            footage = Footage(folders, self.cache, self._show_decoding)
        except ClipError as error:
            self._name(error.skipped)
            raise
        except OSError as error:
            raise DataError(
                f"--cache {self.cache}: {reason(error)}; name another folder, with room for the decoded frames"
            ) from error
        self._name(footage.skipped)
        return footage

    def _name(self, skipped):
        for line in skipped if self.ranks.first else ():
            print(f"skipped: {line}", file=sys.stderr)

    def _show_decoding(self, done, total):
        if not done:
            self.say(f"decoding {counted(total, 'clip')} into {self.cache}")
        elif self.ranks.first and sys.stderr.isatty():
            print(
                f"\rdecoding: {done} of {counted(total, 'clip')}",
                end="\n" if done == total else "",
                file=sys.stderr,
                flush=True,
            )

    def _place_for_frames(self, *all_footage):
        """The GPU, if there is one and they fit."""
        if self.device.type == "cuda":
            size = sum(footage.pixels.nbytes for footage in all_footage if footage)
            if size > GPU_SHARE * torch.cuda.mem_get_info(self.device)[0]:
                return torch.device("cpu")
        return self.device

    # --- Meanwhile ---

    def loop(self):
        """Trains until the budget is spent, or a signal asks to stop; the checkpoint is up to date then."""
        handlers = {number: signal.signal(number, self._take_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        torch.backends.cudnn.benchmark, before = True, torch.backends.cudnn.benchmark
        try:
            self.began = self.checkpointed = time.monotonic()
            self._begin_report()
            while True:
                stop = self.signal is not None or self.bad_reports == BAD_REPORTS
                progress, stop = self.ranks.agree(self._progress(), stop)
                if stop or progress >= 1:
                    break
                self.clock.start()
                batch = self.feed(self.trainer.step)
                self.clock.stop()
                self.trainer.train(*batch, progress)
                if self.ranks.first and self.signal is None and self._progress() < 1:  # else the last report follows
                    now = time.monotonic()
                    if now - self.checkpointed >= self.options.checkpoint:
                        self._report(keep=True)
                    elif now - self.reported >= self.options.report:
                        self._report()
            if self.ranks.first and self.trainer.step:
                self._report(keep=True)
        finally:
            torch.backends.cudnn.benchmark = before
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _take_signal(self, number, frame):
        self.signal = number

    def _progress(self):
        """The share of the budget that is spent. That of minutes leaves out what was not training: decoding, say."""
        if self.recipe.steps:
            return (self.trainer.step + 0.5) / self.recipe.steps
        now = time.monotonic()
        trained = self.trained + now - self.began
        left = 60 * self.recipe.minutes - self.spent - (now - self.started)
        return trained / (trained + left) if left > 0 else 1.0

    def _begin_report(self):
        self.reported, self.reported_step, self.clock = time.monotonic(), self.trainer.step, Clock(self.device)

    def _report(self, keep=False):
        """Prints and logs how it went since the last report; may keep checkpoint and weights, if they are any good.

        They come first: a log that cannot be written costs no training. With them the proxy is measured, if there is
        one.
        """
        steps = self.trainer.step - self.reported_step
        if steps:
            row = self._measure(steps, keep)
            bad = row["skipped"] == steps or row["skipped"] > max(1, BAD_SHARE * steps)
            self.bad_reports = self.bad_reports + 1 if bad else 0
        if keep and not self.bad_reports:
            self._keep()
        if steps:
            self.log.add(row)
            self._print(row)
        self._begin_report()

    def _measure(self, steps, with_proxy):
        """A row of the log: these steps, the last ones, in figures."""
        *sums, skipped = self.trainer.take_sums()
        loss, error, averaging = (value / (steps - skipped) if steps > skipped else None for value in sums)
        seconds, data_share = time.monotonic() - self.reported, self.clock.share()
        minutes = (self.spent + time.monotonic() - self.started) / 60
        proxy = self.trainer.proxy(self.proxy, PROXY, self.recipe.batch) if with_proxy and self.proxy else None
        step, rate = self.trainer.step, self.trainer.optimizer.param_groups[0]["lr"]
        values = (step, minutes, step * self.total, rate, loss, error, averaging, proxy, steps * self.total / seconds)
        return dict(zip(COLUMNS, (*values, data_share, int(skipped)), strict=True))

    def _print(self, row):
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

    def _keep(self):
        """Writes the weights, and the checkpoint, for which there is no more room where a disk is nearly full."""
        trainer, recipe = self.trainer, self.recipe
        metadata = {"model": recipe.model, "license": recipe.license, **self.provenance.metadata(trainer.step)}
        trainer.save_weights(self.weights, **metadata)
        now = time.monotonic()
        spent, trained = self.spent + now - self.started, self.trained + now - self.began
        trainer.save(self.checkpoint, spent=spent, trained=trained, **self.kept)
        self.kept_step, self.checkpointed = trainer.step, time.monotonic()

    # --- After ---

    def finish(self):
        """Says where the weights are, or why there is no more to come."""
        if self.bad_reports == BAD_REPORTS:
            what = f"the gradients were not finite in {BAD_REPORTS} reports in a row"
            if not self.checkpoint.exists():
                raise DataError(f"{what}, before the first checkpoint: try a lower --learning-rate")
            raise DataError(
                f"{what}: the last good weights are in {self.weights}; --resume with a lower --learning-rate"
            )
        if self.ranks.first and self.kept_step != self.trainer.step:
            kept = f"those of step {self.kept_step} are in {self.weights}" if self.kept_step else "none were written"
            raise DataError(
                f"the gradients of the last steps were not finite, and such weights are not kept: {kept}; try a lower "
                "--learning-rate"
            )
        if self.ranks.first and not self.trainer.step and not self.signal:
            raise DataError(
                f"the {self.recipe.minutes:g} minutes were over before the first step: give more --minutes; the videos "
                "are decoded by now"
            )
        if self.first_step == self.trainer.step and not self.signal:
            option = "--steps" if self.recipe.steps else "--minutes"
            self.say(f"nothing was left to do of {self.budget()}: --resume with more {option} goes on")
        if self.signal and self.trainer.step:
            self.say(f"stopped at step {self.trainer.step}; --resume goes on from there")
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        self.say(str(self.weights))


class Feed:
    """The batches of this process, on its device.

    Frames elsewhere are cut ahead of time, so that no GPU waits; a CPU that does both would gain nothing by it.
    """

    def __init__(self, batches, device, total, begin, count):
        self.batches, self.device = batches, device
        self.range = (total, begin, begin + count)
        self.thread = None if batches.device == device else ThreadPoolExecutor(1)
        self.coming = (None, None)

    def __call__(self, step):
        if not self.thread:
            return self.batches(step, *self.range)
        expected, batch = self.coming
        if step != expected:
            batch = self.thread.submit(self.batches, step, *self.range)
        self.coming = (step + 1, self.thread.submit(self.batches, step + 1, *self.range))
        return [frames.to(self.device, non_blocking=True) for frames in batch.result()]


class Clock:
    """What share of its time the device spends on a part of the work, or waiting for it."""

    def __init__(self, device):
        self.on_gpu = device.type == "cuda"
        self.marks = []

    def start(self):
        self.marks.append(self._now())

    stop = start

    def share(self):
        end = self._now()
        if self.on_gpu:
            torch.cuda.synchronize()
        parts = sum(self._between(*pair) for pair in zip(self.marks[::2], self.marks[1::2], strict=True))
        return parts / self._between(self.marks[0], end)

    def _now(self):
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, one, two):
        return one.elapsed_time(two) if self.on_gpu else two - one


if __name__ == "__main__":
    sys.exit(main())
