"""Trains the built-in teacher on drawn images: python training/train_teacher.py --out runs/teacher --minutes 80

Resumes from OUT/checkpoint.pt when it exists. The learning rate stays constant and falls to zero over the last
minutes; creating the file OUT/cooldown starts that fall at once. OUT/builtin.safetensors always holds the newest
averaged weights.
"""

import argparse
import math
import socket
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import spawn

from draw import KINDS, Crop, World
from muon import Muon
from objective import Batch, Heads, Weights, objective
from tinydefects.detector.networks import BLOCK_PAIR, EMBED_DIM, build_builtin_vit

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/teacher"), help="folder of checkpoint and weights")
    parser.add_argument("--minutes", type=float, default=75.0, help="training time, all resumed runs together")
    parser.add_argument("--cooldown-minutes", type=float, default=20.0, help="length of the final fall")
    parser.add_argument("--batch", type=int, default=16, help="crops a step")
    parser.add_argument(
        "--fresh", type=int, default=6, help="newly drawn crops a step; the rest are earlier ones, turned"
    )
    parser.add_argument("--crop-px", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=1, help="processes that share a step's crops")
    parser.add_argument("--threads", type=int, default=2, help="threads of each worker")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--weights", default="", help="changes to the objective, such as surface=0,spread=2")
    return parser.parse_args()


def turned(crop: Crop, rng: np.random.Generator) -> list[np.ndarray]:
    """Image, coverage, kind, surface and material of a crop, mirrored or turned by right angles alike."""
    turns, mirror = int(rng.integers(4)), int(rng.choice([-1, 1]))
    fields = (crop.image, crop.coverage, crop.kind, crop.surface, crop.material)
    return [np.ascontiguousarray(np.rot90(field[:, ::mirror], turns)) for field in fields]


class Feeder:
    """Batches of fresh crops mixed with remembered ones: drawing costs as much as a third of a training step."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        self.world = World(seed, arguments.crop_px)
        self.batch, self.fresh = arguments.batch // arguments.workers, arguments.fresh // arguments.workers
        self.device = arguments.device
        self.remembered: deque[Crop] = deque(maxlen=6000)

    def next(self) -> Batch:
        rng = self.world.rng
        count = self.batch if len(self.remembered) < 20 * self.batch else self.fresh
        crops = [self.world.crop() for _ in range(count)]
        crops += [self.remembered[i] for i in rng.integers(len(self.remembered) or 1, size=self.batch - count)]
        self.remembered.extend(crops[:count])
        self.world.renew(1)
        fields = zip(*(turned(crop, rng) for crop in crops), strict=True)
        columns = [torch.from_numpy(np.stack(field)) for field in fields]
        return as_batch(columns, self.device)


def as_batch(columns: list[Tensor], device: str) -> Batch:
    image, coverage, kind, surface, material = columns
    b, side = len(image), kind.shape[1]
    cells = coverage.reshape(b, side, 4, side, 4).transpose(2, 3).reshape(b, side * side, 16)
    return Batch(
        image=((image.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD).contiguous().to(device),
        coverage=cells.to(device),
        kind=kind.flatten(1).to(device),
        surface=surface.flatten(1).to(device),
        material=material.flatten(1).to(device),
    )


class Trainer:
    """Model, heads, optimiser and their averaged copy; everything a checkpoint needs."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(arguments.seed)
        self.arguments = arguments
        self.model = build_builtin_vit().to(arguments.device)
        self.heads = Heads(EMBED_DIM, len(KINDS)).to(arguments.device)
        self.averaged = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.averaged_heads = {name: value.detach().clone() for name, value in self.heads.state_dict().items()}
        self.optimisers = self._optimisers()
        changes = (item.split("=") for item in arguments.weights.split(",") if item)
        self.weights = Weights(**{name: float(value) for name, value in changes})
        self.step, self.seconds, self.cooldown_from = 0, 0.0, math.inf

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices inside the model, AdamW for all other parameters."""
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in self.model.named_parameters():
            inner = parameter.ndim > 1 and "depthwise" not in name and "convolutions.0" not in name
            (matrices if inner else others).append(parameter)
        others += list(self.heads.parameters())
        lr = self.arguments.lr
        return [Muon(matrices, lr), torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)]

    def learning_rate(self) -> float:
        """Warm-up over 100 steps, constant, then linear to zero between the start of the cooldown and its end."""
        lr: float = self.arguments.lr
        cooldown = 60 * self.arguments.cooldown_minutes
        fall = 1 - max(0.0, self.seconds - self.cooldown_from) / cooldown
        return float(lr * min(1.0, (self.step + 1) / 100) * max(0.0, fall))

    def update(self, batch: Batch) -> dict[str, float]:
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate()
        earlier, later = self.model.forward_intermediates(  # type: ignore[operator]
            batch.image, indices=list(BLOCK_PAIR), norm=True, output_fmt="NLC", intermediates_only=True
        )
        loss, parts = objective(earlier, later, self.heads, batch, self.weights)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._share_gradients()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"step {self.step}: the loss is {loss.item()}; resume with a lower --lr")
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        self._average()
        return {"loss": loss.item(), **parts}

    def _share_gradients(self) -> None:
        """Replace the gradients by their mean over all workers, in one message."""
        if not dist.is_initialized():
            return
        gradients = [p.grad for p in (*self.model.parameters(), *self.heads.parameters()) if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        means = torch.split(flat.div_(dist.get_world_size()), [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(0.995, (self.step + 1) / (self.step + 20))
        for average, module in ((self.averaged, self.model), (self.averaged_heads, self.heads)):
            for name, value in module.state_dict().items():
                average[name].lerp_(value, 1 - keep) if value.is_floating_point() else average[name].copy_(value)

    def tick(self, seconds: float) -> None:
        """Advance the clock by what the first worker measured, so that all workers agree on the learning rate."""
        asked = (self.arguments.out / "cooldown").exists()
        clock = torch.tensor([seconds, float(asked)], dtype=torch.float64)
        if dist.is_initialized():
            dist.broadcast(clock, 0)
        self.seconds += float(clock[0])
        if clock[1] or self.seconds > 60 * (self.arguments.minutes - self.arguments.cooldown_minutes):
            self.cooldown_from = min(self.cooldown_from, self.seconds)

    def finished(self) -> bool:
        ended = self.seconds >= self.cooldown_from + 60 * self.arguments.cooldown_minutes
        return bool(ended or self.seconds >= 60 * self.arguments.minutes)

    def save(self) -> None:
        """Checkpoint and shippable weights; each appears whole or not at all."""
        names = ("step", "seconds", "cooldown_from", "averaged", "averaged_heads")
        state = {name: getattr(self, name) for name in names}
        state |= {name: getattr(self, name).state_dict() for name in ("model", "heads")}
        state["optimisers"] = [optimiser.state_dict() for optimiser in self.optimisers]
        folder = self.arguments.out
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
        write_weights(self.averaged, folder / "builtin.safetensors")

    def resume(self) -> None:
        path = self.arguments.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.arguments.device, weights_only=True)
        for name in ("model", "heads"):
            getattr(self, name).load_state_dict(state.pop(name))
        for optimiser, saved in zip(self.optimisers, state.pop("optimisers"), strict=True):
            optimiser.load_state_dict(saved)
        for name, value in state.items():
            setattr(self, name, value)
        print(f"resumed at step {self.step} after {self.seconds / 60:.1f} min", flush=True)


def write_weights(weights: dict[str, Tensor], path: Path) -> None:
    """The model's weights in 16 bit, written beside the target and moved into place."""
    temporary = path.with_suffix(".tmp")
    save_file({name: value.half().contiguous().cpu() for name, value in weights.items()}, temporary)
    temporary.chmod(0o644)
    temporary.replace(path)


def work(rank: int, arguments: argparse.Namespace) -> None:
    """One worker's training loop; the first one also keeps the clock, prints and saves."""
    torch.set_num_threads(arguments.threads)
    if arguments.workers > 1:
        store = TCPStore("127.0.0.1", arguments.port, arguments.workers, is_master=rank == 0)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=arguments.workers)
    trainer = Trainer(arguments)
    trainer.resume()
    feeder = Feeder(arguments, seed=arguments.seed * 100_003 + trainer.step * arguments.workers + rank)
    last, saved, recent = time.monotonic(), time.monotonic(), deque[dict[str, float]](maxlen=25)
    while not trainer.finished():
        recent.append(trainer.update(feeder.next()))
        now = time.monotonic()
        trainer.tick(now - last)
        last = now
        if rank == 0 and trainer.step % 25 == 0:
            means = " ".join(f"{name} {np.mean([parts[name] for parts in recent]):.4f}" for name in recent[0])
            clock = f"{trainer.seconds / 60:.1f} min lr {trainer.learning_rate():.1e}"
            print(f"step {trainer.step} {clock} {means}", flush=True)
        if rank == 0 and now - saved > 120:
            trainer.save()
            saved = now
    if rank == 0:
        trainer.save()
        print(f"done: {trainer.step} steps, {trainer.seconds / 60:.1f} min", flush=True)


def main() -> None:
    arguments = parsed_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.workers == 1:
        work(0, arguments)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        arguments.port = probe.getsockname()[1]
    spawn(work, (arguments,), nprocs=arguments.workers)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
