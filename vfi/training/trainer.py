"""One step of training, what it changes, and the files that keep that: the network, its average, and the optimizer.

The recipe is the paper's where it is known to be enough (L1, or the distance of features; crops of 128 x 128), and what
has been found since to be better: kernel and input normalization (arXiv 2011.01280), a start as frame averaging, AdamW,
and the exponential moving average of the weights, which is what is shipped.
"""

import copy
import datetime
import io
import json
import math
import struct
import zipfile

import torch
from torch import nn

from vfi.errors import DataError, reason
from vfi.files import atomic_write
from vfi.interpolator import fast_precision
from vfi.metrics import psnr
from vfi.network import REACH, Network
from vfi.training.losses import FeatureDistance, weighted_l1
from vfi.weights import load_network, published_name

WARM_UP = 0.05  # share of the schedule in which the learning rate rises
FIRST_STEPS = 30  # in which it rises at least: the first ones of AdamW are all of full length, whatever the gradient
AVERAGE_EVERY = 4  # steps
CLIP = 1.0  # norm of the gradient, at most
WEIGHT_DECAY = 1e-4
EPS = 1e-12  # far below the gradients of deep layers, which are 1e-7 at the start
FIRST_SCALE, UNSCALED = 2.0**12, 1.0  # of the loss, which in float16 keeps small gradients from being zero
CHECKPOINT_FORMAT = 2


def schedule(progress):
    """The factor of the learning rate when `progress` (0 to 1) of the budget is spent: a rise, then half a cosine."""
    return min(1.0, progress / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


def averaging_network(seed):
    """A network that is frame averaging: each head begins with next to nothing but a one in the middle of each kernel.

    The product of two such kernels, of one frame, is a half.
    """
    network = Network(kernel_normalization=True, input_normalization=True)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(module.bias)
    for head in (network.vertical1, network.vertical2, network.horizontal1, network.horizontal2):
        with torch.no_grad():
            head[-1].weight.mul_(0.001)
            head[-1].bias[REACH] = 0.5**0.5
    return network


def start_network(start, seed):
    """What training begins with: `start` is "averaging" or what `load_network` takes for l1.

    Raises:
        WeightsError: see there.
        DataError: the weights were trained without normalization.
    """
    if start == "averaging":
        return averaging_network(seed)
    network = load_network("l1", start)
    if not (network.kernel_normalization and network.input_normalization):
        raise DataError(f"--start {start}: these weights know no normalization, which training here is with")
    return network.requires_grad_(True).train()


def training_precision(device, network):
    """Where bfloat16 is native, that: unlike float16 it has the range of gradients."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "bfloat16"
    return fast_precision(device, network)


class Trainer:
    """The state of training, and how a step changes it.

    Args:
        network: a `Network`, on the CPU.
        device, precision: where and how to compute the convolutions.
        ranks: a `Ranks`.
        learning_rate, average: of the schedule's peak; decay of the weights' average for each step.
        balance: see `weighted_l1`.
        features: see `FeatureDistance`; None trains with L1.
        colour: how much of the L1 goes into the loss beside the features.
        compiled: (N, side) of the crops of a step, to compile the network for them; None leaves it as it is.

    Raises:
        DataError: PyTorch's compiler does not work here.

    Attributes:
        step: how many there were.
        sums: (4,) on the device: loss, error, error of averaging (each of this process's crops), steps skipped; summed
            since `take_sums`.
    """

    def __init__(
        self, network, device, precision, ranks, learning_rate, average, balance, features=None, colour=0.0,
        compiled=None,
    ):  # fmt: skip
        self.device, self.dtype = device, getattr(torch, precision)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        program = self.network
        if compiled:
            program = self._compile(*compiled)
            ranks.wait()  # some take longer
        self.parallel = ranks.parallel(program)
        self.learning_rate, self.average, self.balance, self.colour = learning_rate, average, balance, colour
        self.features = FeatureDistance(features).to(device) if features else None
        parameters = self.network.parameters()
        self.optimizer = torch.optim.AdamW(parameters, learning_rate, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True)
        # Leaves out steps whose gradients are not finite, without waiting for the device; scales only for float16.
        self.scales = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE if self.scales else UNSCALED)
        self.step = 0
        self.sums = torch.zeros(4, device=device)

    def _autocast(self):
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _compile(self, count, side):
        """The network compiled, both ways, for such crops: not in the first step, for which others may wait."""
        compiled = torch.compile(self.network, dynamic=False)
        reachable = side + 2 * REACH
        frames = torch.rand(count, 3, 3, reachable, reachable, device=self.device)  # laid out as `Batches` has them
        try:
            with self._autocast():
                out = compiled(frames[:, 0], frames[:, 2], has_context=True)
            out.mean().backward()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of whatever it lacks: a C++ compiler, Triton, Python's headers, room on a disk
            raise DataError(
                f"--compile: PyTorch's compiler does not work here ({reason(error)}); leave it out"
            ) from error
        self.network.zero_grad(set_to_none=True)
        return compiled

    def train(self, one, truth, two, progress):
        """One step with a batch as `Batches` makes it, at this point of the schedule."""
        rate = self.learning_rate * schedule(progress) * min(1.0, (self.step + 1) / FIRST_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self._autocast():
            out = self.parallel(one, two, has_context=True)
        inner = (..., slice(REACH, -REACH), slice(REACH, -REACH))
        loss, error, simple = weighted_l1(out, truth, (one[inner] + two[inner]) / 2, self.balance)
        if self.features:
            with self._autocast():
                distance = self.features(out, truth)
            loss = distance + self.colour * loss
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update(None if self.scales else UNSCALED)
        self.step += 1
        if self.step % AVERAGE_EVERY == 0:
            self._average()
        good = norm.isfinite()
        values = torch.stack([loss.detach(), error, simple, torch.ones_like(loss)])
        self.sums += torch.where(torch.stack([good, good, good, ~good]), values, 0)

    @torch.no_grad()
    def _average(self):
        decay = min(self.average, (1 + self.step) / (10 + self.step)) ** AVERAGE_EVERY  # soon forgets the beginning
        averages, weights = (list(network.parameters()) for network in (self.averaged, self.network))
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def take_sums(self):
        """What `sums` holds, as numbers, and zeroes it."""
        sums = self.sums.tolist()
        self.sums.zero_()
        return sums

    @torch.no_grad()
    def proxy(self, batches, total, batch):
        """Mean PSNR in dB of the averaged weights on `total` fixed crops, rounded to 8 bits; 100 dB where exact."""
        values = []
        for begin in range(0, total, batch):
            one, truth, two = batches(0, total, begin, min(begin + batch, total))
            with self._autocast():
                out = self.averaged(one, two, has_context=True)
            out, truth = ((255 * frames).clamp(0, 255).round().byte().cpu().numpy() for frames in (out, truth))
            values += [min(psnr(*pair), 100.0) for pair in zip(out, truth, strict=True)]
        return sum(values) / len(values)

    # --- Files ---

    def save(self, path, **more):
        """Writes a checkpoint, from which training goes on as if nothing had happened."""
        state = {name: getattr(self, name).state_dict() for name in _PARTS}
        content = io.BytesIO()  # written at once: PyTorch hides what goes wrong with a file, such as a full disk
        torch.save({"format": CHECKPOINT_FORMAT, "step": self.step, **state, **more}, content)
        with atomic_write(path) as part:
            part.write_bytes(content.getbuffer())

    def load(self, checkpoint):
        """Takes over a checkpoint as `read_checkpoint` returns it."""
        for name in _PARTS:
            if name == "scaler" and self.scales and checkpoint[name]["scale"] == UNSCALED:  # so far another precision
                continue
            getattr(self, name).load_state_dict(checkpoint[name])
        self.step = checkpoint["step"]

    def save_weights(self, path, **metadata):
        """Writes the averaged weights as safetensors in float16, with what `load_network` wants to know."""
        state = self.averaged.state_dict().items()
        tensors = {published_name(name): tensor.half().cpu().contiguous() for name, tensor in state}
        metadata |= {"kernel_normalization": "true", "input_normalization": "true", "format_version": "1"}
        metadata["date"] = datetime.date.today().isoformat()
        # Names of folders need not be UTF-8, which the format is.
        metadata = {name: text.encode(errors="backslashreplace").decode() for name, text in metadata.items()}
        with atomic_write(path) as part:
            _write_safetensors(tensors, part, metadata)


_PARTS = ("network", "averaged", "optimizer", "scaler")


def read_checkpoint(path):
    """What `Trainer.save` wrote.

    Raises:
        DataError: the file is damaged, or something else.
    """
    remedy = "name another --out, or remove it to begin anew"
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip():  # PyTorch does not look at the checksums
                raise ValueError
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        version = checkpoint["format"]
    except OSError as error:
        raise DataError(f"{path}: {reason(error)}") from error
    except Exception as error:  # what a damaged pickle raises has no end
        raise DataError(f"{path} is damaged, or no checkpoint of a training: {remedy}") from error
    if version != CHECKPOINT_FORMAT:
        raise DataError(f"{path} is in format {version}; this version reads format {CHECKPOINT_FORMAT}: {remedy}")
    return checkpoint


def _write_safetensors(tensors, path, metadata):
    """Tensors by name, all float16."""
    try:
        from safetensors.torch import save
    except ImportError:  # a machine for training alone may lack it; the format is a header in JSON, then the bytes
        header, at = {"__metadata__": metadata}, 0
        for name, tensor in tensors.items():
            header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
            at += tensor.nbytes
        text = json.dumps(header).encode()
        content = (
            struct.pack("<Q", len(text)) + text + b"".join(tensor.numpy().tobytes() for tensor in tensors.values())
        )
    else:
        content = save(tensors, metadata)
    path.write_bytes(content)
