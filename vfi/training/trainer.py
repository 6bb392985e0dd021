"""One step of training, and the state that it changes: the network, the average of its weights, and the optimizer.

The recipe is the paper's where that suffices (L1, or the distance of features; crops of 128 x 128), with what has been
found since to be better: kernel and input normalization (arXiv 2011.01280), frame averaging as the start, AdamW, and an
exponential moving average of the weights, which are the weights that are published.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vfi.errors import DataError, reason
from vfi.interpolator import fast_precision
from vfi.metrics import psnr
from vfi.network import REACH, Network
from vfi.training.batches import Batches
from vfi.training.distributed import Processes
from vfi.training.losses import FeatureDistance, weighted_l1
from vfi.training.reach import measure_reach
from vfi.training.recipe import Recipe
from vfi.weights import load_network

WARM_UP = 0.05  # share of the schedule in which the learning rate rises
FIRST_STEPS = 30  # in which it rises at least: AdamW's first steps have full length, whatever the gradient
AVERAGE_EVERY = 4  # steps from one update of the average to the next
GRADIENT_NORM = 1.0  # at most
WEIGHT_DECAY = 1e-4
EPS = 1e-12  # far below the gradients of deep layers, which are 1e-7 at the start
REACHED = 16  # pixels by which pictures are moved
FIRST_SCALE, UNSCALED = 2.0**12, 1.0  # of the loss: in float16, scaling keeps small gradients from becoming zero


def schedule(progress: float) -> float:
    """The factor of the learning rate when `progress` (0 to 1) of the budget is spent: a rise, then half a cosine."""
    return min(1.0, progress / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


def averaging_network(seed: int) -> Network:
    """A network that averages the frames: the kernels of each head start as near-delta kernels.

    The product of a frame's two kernels is a half, in the middle tap.
    """
    network = Network(kernel_normalization=True, input_normalization=True)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for head in (network.vertical1, network.vertical2, network.horizontal1, network.horizontal2):
        with torch.no_grad():
            last = head[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            last.weight.mul_(0.001)
            last.bias[REACH] = 0.5**0.5
    return network


def start_network(start: str, seed: int) -> Network:
    """The network that training begins with.

    Args:
        start: "averaging", or weights of l1 as in `load_network`.

    Raises:
        WeightsError: see `load_network`.
        DataError: the weights were trained without normalization.
    """
    if start == "averaging":
        return averaging_network(seed)
    network = load_network("l1", start)
    if not (network.kernel_normalization and network.input_normalization):
        raise DataError(f"--start {start}: these weights were trained without normalization, which train.py requires")
    return network.requires_grad_(True).train()


def training_precision(device: torch.device, network: Network) -> str:
    """bfloat16 where it is native: unlike float16, it has the range that gradients need."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "bfloat16"
    return fast_precision(device, network)


class Trainer:
    """The state of training, and how a step changes it.

    Args:
        network: on the CPU.
        device: where to train.
        recipe: with a precision other than "auto".
        processes: entered.
        compiles: whether to compile the network for the crops of a step.

    Raises:
        DataError: PyTorch's compiler does not work here.

    Attributes:
        step: how many steps were done.
        sums: (4,) on the device: loss, error, error of averaging (each of this process's crops), steps skipped; summed
            since `take_sums`.
    """

    def __init__(
        self,
        network: Network,
        device: torch.device,
        recipe: Recipe,
        processes: Processes,
        compiles: bool = False,
    ) -> None:
        self.device, self.recipe = device, recipe
        self.dtype: torch.dtype = getattr(torch, recipe.precision)
        self.network: Network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        program: nn.Module = self.network
        if compiles:
            program = self._compile(recipe.batch, recipe.crop)
            processes.wait()  # some take longer
        self.parallel = processes.parallel(program)
        self.features = FeatureDistance(recipe.features).to(device) if recipe.model == "lf" else None
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), recipe.learning_rate, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
        )
        # Skips steps whose gradients are not finite, without waiting for the device; scales only for float16.
        self.scales = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE if self.scales else UNSCALED)
        self.step = 0
        self.sums = torch.zeros(4, device=device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _compile(self, count: int, side: int) -> nn.Module:
        """Compiles the network and its gradients for such crops now, because others may wait for the first step."""
        compiled: Any = torch.compile(self.network, dynamic=False)
        reachable = side + 2 * REACH
        frames = torch.rand(count, 3, 3, reachable, reachable, device=self.device)  # in the layout of `Batches`
        try:
            with self._autocast():
                out = compiled(frames[:, 0], frames[:, 2], has_context=True)
            out.mean().backward()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # it may lack a C++ compiler, Triton, Python's headers, or room on a disk
            raise DataError(
                f"--compile: PyTorch's compiler does not work here ({reason(error)}); leave it out"
            ) from error
        self.network.zero_grad(set_to_none=True)
        return compiled

    def train(self, one: Tensor, truth: Tensor, two: Tensor, progress: float) -> None:
        """Does one step with a batch of `Batches`, when `progress` (0 to 1) of the budget is spent."""
        recipe = self.recipe
        rate = recipe.learning_rate * schedule(progress) * min(1.0, (self.step + 1) / FIRST_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self._autocast():
            out = self.parallel(one, two, has_context=True)
        inner = (..., slice(REACH, -REACH), slice(REACH, -REACH))
        loss, error, simple = weighted_l1(
            out, truth, (one[inner] + two[inner]) / 2, recipe.balance, recipe.least_weight
        )
        if self.features:
            with self._autocast():
                distance = self.features(out, truth)
            loss = distance + recipe.colour * loss
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update(None if self.scales else UNSCALED)
        self.step += 1
        if self.step % AVERAGE_EVERY == 0:
            self._average()
        good = norm.isfinite()
        values = torch.stack([loss.detach(), error, simple, torch.ones_like(loss)])
        self.sums += torch.where(torch.stack([good, good, good, ~good]), values, 0)

    @torch.no_grad()
    def _average(self) -> None:
        decay = (
            min(self.recipe.average, (1 + self.step) / (10 + self.step)) ** AVERAGE_EVERY
        )  # soon forgets the first weights
        averages, weights = (list(network.parameters()) for network in (self.averaged, self.network))
        torch._foreach_lerp_(averages, weights, 1 - decay)  # in one kernel; PyTorch's own averaging calls it, too

    def take_sums(self) -> list[float]:
        """Returns `sums` as numbers, and zeroes it."""
        sums: list[float] = self.sums.tolist()
        self.sums.zero_()
        return sums

    @torch.no_grad()
    def proxy(self, batches: Batches, total: int, batch: int) -> float:
        """The mean PSNR, in dB, of the averaged weights on `total` fixed crops, rounded to 8 bits; 100 dB if exact."""
        values = []
        for begin in range(0, total, batch):
            one, truth, two = batches(0, total, begin, min(begin + batch, total))
            with self._autocast():
                out = self.averaged(one, two, has_context=True)
            pictures = ((255 * frames).clamp(0, 255).round().byte().cpu().numpy() for frames in (out, truth))
            values += [min(psnr(*pair), 100.0) for pair in zip(*pictures, strict=True)]
        return sum(values) / len(values)

    @torch.no_grad()
    def reach(self, pictures: Sequence[Tensor]) -> float:
        """The mean PSNR, in dB, of the averaged weights on pictures (3, H, W), BGR, moved by REACHED pixels."""

        def interpolate(one: Tensor, two: Tensor) -> Tensor:
            with self._autocast():
                out: Tensor = self.averaged(one, two)
            return out

        pictures = [picture.to(self.device) for picture in pictures]
        rows = measure_reach(interpolate, pictures, [REACHED])
        return sum(value for (value,) in rows.values()) / len(rows)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs, so that training goes on as if it had not been interrupted."""
        return {"step": self.step, **{name: getattr(self, name).state_dict() for name in _PARTS}}

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Takes over the state in a checkpoint."""
        for name in _PARTS:
            if name == "scaler" and self.scales and checkpoint[name]["scale"] == UNSCALED:  # of another precision
                continue
            getattr(self, name).load_state_dict(checkpoint[name])
        self.step = checkpoint["step"]


_PARTS = ("network", "averaged", "optimizer", "scaler")
