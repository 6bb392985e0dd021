"""What a run needs before it begins: a device, and the frames of its videos, decoded."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from vfi.errors import ClipError, DataError, UsageError, counted, reason
from vfi.interpolator import find_device
from vfi.training.clips import Footage, find_clips
from vfi.training.distributed import Processes
from vfi.training.recipe import SYNTHETIC_ONLY, Recipe
from vfi.training.stills import find_stills

GPU_SHARE = 0.6  # of a GPU's free memory that frames may take


def own_device(name: str, processes: Processes) -> torch.device:
    """The device on which this process trains, which on a GPU becomes PyTorch's current one.

    Args:
        name: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        DataError: there is no such device.
        UsageError: several processes cannot have a GPU each.
    """
    device = find_device(name)
    if device.type == "cuda":
        device = _own_gpu(device, processes)
        torch.cuda.set_device(device)
    return device


def _own_gpu(device: torch.device, processes: Processes) -> torch.device:
    if processes.count == 1:
        return device if device.index is not None else torch.device("cuda", 0)
    if device.index is not None:
        raise UsageError(f"--device {device}: each of several processes takes a GPU of its own; say cuda, or cpu")
    if processes.local >= torch.cuda.device_count():
        raise UsageError(
            f"this machine has {torch.cuda.device_count()} GPUs, too few for the processes: lower "
            "--nproc-per-node, or say --device cpu"
        )
    return torch.device("cuda", processes.local)


def check_folders(data: Sequence[Path], held_out: Sequence[Path]) -> None:
    """Finds out early whether there are videos, and whether none of them is in both.

    Raises:
        ClipError: a folder does not exist, or holds no video.
        DataError: a video is in both.
    """
    clips = find_clips(data)
    if held_out:
        resolved = {clip.resolve() for clip in find_clips(held_out)}
        for clip in clips:
            if clip.resolve() in resolved:
                raise DataError(f"{clip} is in --data and in --held-out: it cannot be used for both")


def check_sampling(recipe: Recipe, changes: Collection[str]) -> None:
    """Finds out early whether the crops that are asked for can be made.

    Args:
        changes: the options that were given.

    Raises:
        UsageError: options for synthetic crops, of which there are none.
        ClipError: there are no such stills.
    """
    unused = [f"--{name.replace('_', '-')}" for name in SYNTHETIC_ONLY if name in changes]
    if unused and not recipe.synthetic:
        raise UsageError(f"{', '.join(unused)}: this is for synthetic crops; give their share by --synthetic")
    if recipe.stills:
        find_stills(recipe.stills)


def decode(
    data: Sequence[Path], held_out: Sequence[Path], cache: Path, processes: Processes
) -> tuple[Footage, Footage | None]:
    """The frames of the videos; those of the held-out ones in the first process only.

    The first process of each machine decodes, and the others use what it has decoded.

    Raises:
        ClipError: no video could be decoded.
        DataError: the cache cannot be written.
    """
    if processes.local:
        processes.wait()
    footage = _decode(data, cache, processes.first)
    other = _decode(held_out, cache, processes.first) if held_out and processes.first else None
    if not processes.local:
        processes.wait()
    return footage, other


def _decode(folders: Sequence[Path], cache: Path, is_first: bool) -> Footage:
    """The footage of folders. The first process shows progress, and names the clips that cannot be used."""
    try:
        # The delay in seconds: the bar appears after the first clip, not if all are decoded already.
        with tqdm(desc="decoding", unit="clip", delay=1e-9, disable=not (is_first and sys.stderr.isatty())) as bar:

            def progress(done: int, total: int) -> None:
                if not done and is_first:
                    print(f"decoding {counted(total, 'clip')} into {cache}", flush=True)
                bar.total = total
                bar.update(done - bar.n)

            footage = Footage(folders, cache, progress)
    except ClipError as error:
        if is_first:
            name_skipped(error.skipped)
        raise
    except OSError as error:
        raise DataError(
            f"--cache {cache}: {reason(error)}; name another folder, with room for the decoded frames"
        ) from error
    if is_first:
        name_skipped(footage.skipped)
    return footage


def name_skipped(skipped: Sequence[str]) -> None:
    """Names clips that cannot be used on standard error."""
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)


def place_for_frames(device: torch.device, *all_footage: Footage | None) -> torch.device:
    """The GPU, if there is one and the frames fit into its memory; otherwise the CPU."""
    if device.type == "cuda":
        size = sum(footage.pixels.nbytes for footage in all_footage if footage)
        if size > GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            return torch.device("cpu")
    return device
