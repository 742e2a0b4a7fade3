"""Trains the built-in teacher on drawn products: python training/train_teacher.py --out runs/teacher --minutes 80

Some processes draw, one trains on what they have drawn so far, kept in the memory of the device. Resumes from
OUT/checkpoint.pt when it exists. The learning rate stays constant and falls to zero over the last minutes; creating the
file OUT/cooldown starts that fall at once. OUT/builtin.safetensors always holds the newest averaged weights.
"""

import argparse
import dataclasses
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from draw import CELL_PX, KINDS, World
from muon import Muon
from objective import Batch, Heads, Weights, objective
from tinydefects.detector.networks import BLOCK_PAIR, EMBED_DIM, PATCH_SIZE, build_builtin_vit

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in every use of the teacher
SAVE_SECONDS, PRINT_STEPS = 60, 50


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--out", type=Path, default=Path("runs/teacher"), help="folder of checkpoint and weights")
    parser.add_argument("--minutes", type=float, default=75.0, help="time, all resumed runs together")
    parser.add_argument("--cooldown-minutes", type=float, default=25.0, help="length of the final fall")
    parser.add_argument("--products", type=int, default=4, help="products a step")
    parser.add_argument("--views", type=int, default=4, help="crops of each product; an even number")
    parser.add_argument("--crop-px", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--drawers", type=int, default=max(1, cores - 1), help="processes that draw")
    parser.add_argument("--kept", type=int, default=1500, help="products kept in memory, the oldest make room")
    parser.add_argument("--first", type=int, default=40, help="products drawn before the first step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="let torch compile the model: a minute, then faster")
    parser.add_argument("--weights", default="", help="changes to the objective, such as kind=0,spread=2")
    arguments = parser.parse_args()
    known = {field.name for field in dataclasses.fields(Weights)}
    unknown = {item.partition("=")[0] for item in arguments.weights.split(",") if item} - known
    if unknown:
        parser.error(
            f"--weights {', '.join(sorted(unknown))}: no part of the objective; it has {', '.join(sorted(known))}"
        )
    if arguments.views % 2:
        parser.error(f"--views {arguments.views}: half of a product's crops are learnt from, so an even number")
    return arguments


class Products(IterableDataset[tuple[Tensor, ...]]):
    """Endless products of one drawn world a process: image (V, S, S, 3), coverage (V, S/2, S/2), kind (V, S/8, S/8)."""

    def __init__(self, seed: int, crop_px: int, views: int) -> None:
        self.seed, self.crop_px, self.views = seed, crop_px, views

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        worker = get_worker_info()
        torch.set_num_threads(1)
        world = World(self.seed * 1009 + (worker.id if worker else 0), self.crop_px)
        while True:
            crops = world.product(self.views)
            world.renew(1)
            fields = zip(*((crop.image, crop.coverage, crop.kind) for crop in crops), strict=True)
            yield tuple(torch.from_numpy(np.stack(field)) for field in fields)


class Pool:
    """The newest products in the device's memory; a thread of its own brings them there while training goes on."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        kept, views, side = arguments.kept, arguments.views, arguments.crop_px
        shapes = ((side, side, 3), (side // CELL_PX,) * 2, (side // PATCH_SIZE,) * 2)
        self.fields = [torch.zeros(kept, views, *shape, dtype=torch.uint8, device=arguments.device) for shape in shapes]
        self.drawn = 0
        self.lock = threading.Lock()  # image and truth of a product change together
        self.error: BaseException | None = None
        loader = DataLoader(
            Products(seed, side, views),
            batch_size=max(1, min(8, arguments.first // arguments.drawers)),
            num_workers=arguments.drawers,
            pin_memory=arguments.device == "cuda",
        )
        blocks = iter(loader)  # starts the processes here, before a thread could stand in their way
        self.ended = threading.Event()
        self.collector = threading.Thread(target=self._collect, args=(blocks,), daemon=True)
        self.collector.start()

    def close(self) -> None:
        """End the drawing; its processes go with their last reader."""
        self.ended.set()
        self.collector.join()

    def _collect(self, blocks: Iterator[list[Tensor]]) -> None:
        try:
            for block in blocks:
                if self.ended.is_set():
                    return
                rows = (torch.arange(len(block[0])) + self.drawn) % len(self.fields[0])
                with self.lock:
                    for kept, new in zip(self.fields, block, strict=True):
                        kept[rows.to(kept.device)] = new.to(kept.device)
                self.drawn += len(rows)
        except BaseException as error:  # tell it where someone waits
            self.error = error

    def wait_for(self, products: int) -> None:
        while self.drawn < products:
            self.require_well()
            time.sleep(0.05)

    def require_well(self) -> None:
        if self.error:
            raise RuntimeError("drawing ended") from self.error

    def batch(self, products: int) -> Batch:
        """Some products by chance, eight groups of them mirrored or turned by right angles, a group alike."""
        groups = torch.randint(min(self.drawn, len(self.fields[0])), (products,)).chunk(8)
        ways = [(int(torch.randint(4, ())), bool(torch.randint(2, ()))) for _ in groups]
        with self.lock:
            image, coverage, kind = (
                torch.cat([turned(field[g.to(field.device)], *way) for g, way in zip(groups, ways, strict=True)])
                for field in self.fields
            )
        views, side, cells = kind.shape[1], kind.shape[-1], PATCH_SIZE // CELL_PX
        mean, std = (torch.tensor(values, device=image.device) for values in (MEAN, STD))
        by_patch = coverage.reshape(-1, side, cells, side, cells).transpose(2, 3)
        return Batch(
            image=((image.flatten(0, 1).float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous(),
            coverage=by_patch.reshape(-1, side * side, cells * cells).float() / 255,
            kind=kind.flatten(0, 1).flatten(1).long(),
            views=views,
        )


def turned(field: Tensor, turns: int, mirror: bool) -> Tensor:
    """Products (P, V, H, W, ...) turned by right angles and perhaps mirrored."""
    field = field.flip(3) if mirror else field
    return field.rot90(turns, (2, 3))


class Trainer:
    """Model, heads, optimiser and their averaged copy; everything a checkpoint needs."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(arguments.seed)
        self.arguments = arguments
        self.model = build_builtin_vit().to(arguments.device)
        self.heads = Heads(EMBED_DIM, len(KINDS)).to(arguments.device)
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
        self.optimisers = self._optimisers()
        changes = (item.split("=") for item in arguments.weights.split(",") if item)
        self.weights = Weights(**{name: float(value) for name, value in changes})
        self.step, self.seconds, self.cooldown_from = 0, 0.0, math.inf
        read = self.model.forward_intermediates
        self.read = torch.compile(read) if arguments.compile else read  # type: ignore[arg-type]

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices inside the model, AdamW for all other parameters."""
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in self.model.named_parameters():
            inner = parameter.ndim > 1 and "depthwise" not in name and "convolutions.0" not in name
            (matrices if inner else others).append(parameter)
        others += list(self.heads.parameters())
        lr = self.arguments.lr
        return [Muon(matrices, lr), torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)]

    def learning_rate(self) -> float:
        """Warm-up over 100 steps, constant, then linear to zero between the start of the cooldown and its end."""
        lr: float = self.arguments.lr
        cooldown = 60 * self.arguments.cooldown_minutes
        fall = 1 - max(0.0, self.seconds - self.cooldown_from) / cooldown
        return float(lr * min(1.0, (self.step + 1) / 100) * max(0.0, fall))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step; the parts of the loss by name, on the device: reading them would make the device wait."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate()
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=batch.image.is_cuda):
            earlier, later = self.read(  # type: ignore[operator]
                batch.image, indices=list(BLOCK_PAIR), norm=True, output_fmt="NLC", intermediates_only=True
            )
        loss, parts = objective(earlier.float(), later.float(), self.heads, batch, self.weights)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.averaged.update_parameters(self.model)
        self.step += 1
        return {"loss": loss.detach(), **parts}

    def tick(self, seconds: float) -> None:
        """Advance the clock, which decides on the learning rate."""
        self.seconds += seconds
        asked = (self.arguments.out / "cooldown").exists()
        if asked or self.seconds > 60 * (self.arguments.minutes - self.arguments.cooldown_minutes):
            self.cooldown_from = min(self.cooldown_from, self.seconds)

    def finished(self) -> bool:
        ended = self.seconds >= self.cooldown_from + 60 * self.arguments.cooldown_minutes
        return bool(ended or self.seconds >= 60 * self.arguments.minutes)

    def save(self) -> None:
        """Checkpoint and shippable weights; each appears whole or not at all."""
        state = {name: getattr(self, name) for name in ("step", "seconds", "cooldown_from")}
        state |= {name: getattr(self, name).state_dict() for name in ("model", "heads", "averaged")}
        state["optimisers"] = [optimiser.state_dict() for optimiser in self.optimisers]
        folder = self.arguments.out
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
        write_weights(self.averaged.module.state_dict(), folder / "builtin.safetensors")

    def resume(self) -> None:
        path = self.arguments.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.arguments.device, weights_only=True)
        for name in ("model", "heads", "averaged"):
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


def report(trainer: Trainer, drawn: int, recent: list[dict[str, Tensor]]) -> None:
    """A line on the last steps, and a stop where the loss is no longer a number."""
    means = {name: float(torch.stack([parts[name] for parts in recent]).mean()) for name in recent[0]}
    if not math.isfinite(means["loss"]):
        raise FloatingPointError(f"step {trainer.step}: the loss is {means['loss']}; resume with a lower --lr")
    clock = f"{trainer.seconds / 60:.1f} min lr {trainer.learning_rate():.1e} drawn {drawn}"
    print(f"step {trainer.step} {clock} " + " ".join(f"{name} {mean:.4f}" for name, mean in means.items()), flush=True)


def main() -> None:
    arguments = parsed_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    last = saved = time.monotonic()
    trainer = Trainer(arguments)
    trainer.resume()
    pool = Pool(arguments, seed=arguments.seed * 100_003 + trainer.step)
    pool.wait_for(arguments.first)
    recent: list[dict[str, Tensor]] = []
    while not trainer.finished():
        recent.append(trainer.update(pool.batch(arguments.products)))
        now = time.monotonic()
        trainer.tick(now - last)
        last = now
        if trainer.step % PRINT_STEPS == 0:
            pool.require_well()
            report(trainer, pool.drawn, recent)
            recent = []
        if now - saved > SAVE_SECONDS:
            trainer.save()
            saved = now
    trainer.save()
    pool.close()
    crops = trainer.step * arguments.products * arguments.views
    print(f"done: {trainer.step} steps, {crops} crops, {trainer.seconds / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
