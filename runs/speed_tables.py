"""The tables of docs/benchmarks.md and docs/scaling.md, from results/benchmarks; `runs/tables.py` puts them there."""

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "results" / "benchmarks"


def benchmark(name: str) -> tuple[dict[str, Any], str]:
    """A benchmark's result file, and the line under its table."""
    measured = json.loads((STORED / f"{name}.json").read_text())
    facts = measured["provenance"]
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items() if name != "command")
    made = f"{facts['created'][:10]}, commit {facts['commit']}, {settings}, {facts['machine']}"
    return measured, f"\n<sub>{made}. Source: `results/benchmarks/{name}.json`.</sub>"


def scoring_table() -> str:
    """What `benchmarks/scoring.py` came to: one row a set, ours beside scikit-learn."""
    measured, source_line = benchmark("scoring")
    lines = [
        "| images of 1500x1000 px, defect pixels in one half | defects | all figures, s | 1,000 draws, s | peak, MB "
        "| scikit-learn: two figures, s | peak, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    ours, theirs = (
        [row for row in measured["rows"] if row["tool"] == tool] for tool in ("tinydefects", "scikit-learn")
    )
    for one, other in zip(ours, theirs, strict=True):
        name = f"{one['images']:,}, {100 * one['defect_share']:.0f} %"
        cells = [f"{one['defects']:,}", spread(one), f"{one['interval_seconds']:.1f}", f"{one['peak_mb']:,.0f}"]
        beside = (
            ["–", other["skipped"].split(",")[0]] if "skipped" in other else [spread(other), f"{other['peak_mb']:,.0f}"]
        )
        lines.append("| " + " | ".join([name, *cells, *beside]) + " |")
    return "\n".join([*lines, source_line])


def spread(row: dict[str, Any]) -> str:
    """Median seconds, lowest and highest where there are several."""
    seconds = row["all_seconds"]
    within = f" ({min(seconds):.1f} – {max(seconds):.1f})" if len(seconds) > 1 else ""
    return f"{row['seconds']:.1f}{within}"


def efforts_table() -> str:
    """What `benchmarks/efforts.py` came to: one row a method, in passes of the teacher."""
    measured, source_line = benchmark("efforts")
    names = {
        "learning": "learning",
        "scoring": "scoring",
        "against": "for each image learnt from, scoring",
        "once": "once",
    }
    lines = [f"| passes of the teacher | {' | '.join(names.values())} |", "|---|---|---|---|---|"]
    for method, one in measured["passes"].items():
        cells = [f"{one[name]:.2f}" if one[name] else "–" for name in names]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join([*lines, source_line])


def coverage_table() -> str:
    """What `benchmarks/coverage.py` came to: one row a figure, one column a factory."""
    measured, source_line = benchmark("coverage")
    factories = measured["factories"]
    names = next(iter(factories.values()))["coverage_percent"]
    lines = ["| held the truth, % | " + " | ".join(factories) + " |", "|" + "---|" * (len(factories) + 1)]
    for name in names:
        cells = [f"{factory['coverage_percent'][name]:.1f}" for factory in factories.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, source_line])


def tiling_table() -> str:
    """What `benchmarks/tiling.py` came to: one row an image size."""
    measured, source_line = benchmark("tiling")
    lines = [
        "| image | passes | s | peak, MB | before, MB | image and map, MB | on top, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in measured["rows"]:
        memory = (one[name] for name in ("peak_mb", "before_mb", "image_and_map_mb", "on_top_mb"))
        cells = [f"{one['width']:,} x {one['height']:,} px", f"{one['passes']:,}", f"{one['seconds']:.1f}"]
        lines.append("| " + " | ".join([*cells, *(f"{size:,.0f}" for size in memory)]) + " |")
    return "\n".join([*lines, source_line])


def export_table() -> str:
    """What `benchmarks/export.py` came to: one row a way to compute, at each resolution."""
    measured, source_line = benchmark("export")
    lines = [
        "| computed by | at, px | ms (lowest – highest) | times as quick | map moved by |",
        "|---|---|---|---|---|",
    ]
    for one in measured["rows"]:
        spread_ms = f"{one['median_ms']:,.0f} ({one['lowest_ms']:,.0f} – {one['highest_ms']:,.0f})"
        quicker, bar = one["times_quicker_than_published"], measured["bars"].get(one["variant"])
        aim = f" (aim {bar})" if bar else ""
        cells = [
            one["variant"],
            str(one["resolution"]),
            spread_ms,
            f"{quicker:.2f}{aim}",
            f"{one['map_difference']:.1g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, source_line])


def export_accuracy_table() -> str:
    """What `benchmarks/export.py accuracy` came to: AUPRO by disjoint size quartile, one row a way to compute."""
    measured, source_line = benchmark("export_accuracy")
    head = ["AUPRO@5 %", "all", "Q1 (smallest)", "Q2", "Q3", "Q4", "image AUROC"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in measured["rows"]:
        figures = [one["aupro"], *one["aupro_by_quartile"], one["image_auroc"]]
        lines.append("| " + " | ".join([one["variant"], *(f"{figure:.4f}" for figure in figures)]) + " |")
    return "\n".join([*lines, source_line])


def stride_table() -> str:
    """What `benchmarks/stride.py` came to: one row a family and input."""
    measured, source_line = benchmark("stride")
    columns = [
        "drawn parts",
        "input",
        "passes (patches)",
        "ms an image",
        "AUPRO@5 % Q1",
        "gain",
        "AUPRO@5 % all",
        "gain",
    ]
    columns += ["image AUROC"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for one in measured["rows"]:
        gains = [gain(one["against_one_pass"].get(figure)) for figure in ("aupro_Q1@0.05", "aupro@0.05")]
        cells = [one["family"], one["input"], f"{one['passes']} ({one['patches']:,})", f"{one['ms_an_image']:,.0f}"]
        cells += [
            f"{one['aupro_Q1@0.05']:.3f}",
            gains[0],
            f"{one['aupro@0.05']:.3f}",
            gains[1],
            f"{one['image_auroc']:.3f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, source_line])


def gain(against: dict[str, float] | None) -> str:
    """A paired difference with its interval."""
    return "–" if against is None else f"{against['gain']:+.3f} [{against['low']:+.3f}, {against['high']:+.3f}]"


GPU_PASSES, AIMED_AT = "gpu_passes_cuda", "vit_base_patch14_reg4_dinov2, 1036"
WHOLE_IMAGE = {
    "published": "published, ms",
    "ours, square": "ours, same square",
    "ours": "ours, own proportions",
    "ours, folder": "in a folder",
    "ours, compiled": "compiled",
    "ours, bfloat16": "bfloat16",
    "ours, bfloat16, folder": "bfloat16, in a folder",
}


def inference_table(file: str = "inference") -> str:
    """What `benchmarks/inference.py` came to: one row a teacher and resolution, from file to map and score."""
    measured, source_line = benchmark(file)
    variants = [name for name in WHOLE_IMAGE if name in measured["rows"][0]["times"]]
    header = ["teacher, px", *(WHOLE_IMAGE[name] for name in variants), "floor, float32"]
    header += ["outside the teacher", "the same in a folder", "map moved by"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in measured["rows"]:
        cells = []
        for name in variants:
            time, quicker = row["times"][name], row["times_quicker_than_published"][name]
            factor = "" if name == "published" else f" · {quicker:.2f}x"
            cells.append(f"{time['median_ms']:,.0f} ({time['lowest_ms']:,.0f} – {time['highest_ms']:,.0f}){factor}")
        cells.append(f"{row['floor_ms']['float32']:,.0f}")
        cells += [f"{100 * row[f'share_outside_teacher{where}']:.1f} %" for where in ("", "_in_a_folder")]
        moved, exactly = (row.get(f"largest_map_difference{how}") for how in ("", "_without_tf32"))
        cells.append(f"{moved:.0e}" if exactly in {None, moved} else f"{moved:.0e}, without TF32 {exactly:.0e}")
        lines.append("| " + " | ".join([f"{row['teacher']}, {row['resolution']}", *cells]) + " |")
    limits = measured["ceilings"]
    kinds = ", ".join(
        f"{kind} {1e3 * limits[f'{kind}_tflops']:,.0f}" for kind in ("highest", "float32", "bfloat16", "int8")
    )
    told = f"\nCeilings, GFLOP/s of square products: {kinds}; copies {limits['copy_gb_per_s']:.0f} GB/s."
    return "\n".join([*lines, told, source_line])


def passes_table() -> str:
    """What `benchmarks/gpu_passes.py` came to: one row a teacher, resolution and road."""
    measured, source_line = benchmark(GPU_PASSES)
    sizes = sorted({row["images"] for row in measured["rows"]})
    header = [*(f"{size} a pass" for size in sizes), "floor", "share of the ceiling", "one from bytes to scores"]
    lines = ["| ms an image | " + " | ".join(header) + " |", "|" + "---|" * (len(header) + 1)]
    for case, road in dict.fromkeys((_case(row), row["road"]) for row in measured["rows"]):
        of = {row["images"]: row for row in measured["rows"] if (_case(row), row["road"]) == (case, road)}
        times = [f"{of[size]['ms_per_image']:.2f}" if size in of else "–" for size in sizes]
        best = max(of.values(), key=lambda row: row["share_of_ceiling"])
        alone = f"{of[1]['with_transfer_ms_per_image']:.2f}" if 1 in of else "–"
        cells = [f"{case}: {road}", *times, f"{best['floor_ms']:.2f}", f"{100 * best['share_of_ceiling']:.0f} %", alone]
        lines.append("| " + " | ".join(cells) + " |")
    limits = measured["ceilings"]
    told = f"\nCeilings: bfloat16 {limits['bfloat16_tflops']:,.0f}, float32 {limits['float32_tflops']:,.0f} TFLOP/s."
    return "\n".join([*lines, told, source_line])


def _case(row: dict[str, Any]) -> str:
    return f"{row['teacher']}, {row['resolution']}"


def profiles_table() -> str:
    """Where the time of a pass goes on a GPU: kernels, when any ran, gaps; attention by library."""
    measured, source_line = benchmark(GPU_PASSES)
    lines = ["| one pass | kernels | ms in all | any running | gaps | longest |", "|---|---|---|---|---|---|"]
    for one in measured["profiles"]:
        longest: dict[str, Any] = one["longest"][0] if one["longest"] else {"name": "–", "ms": 0.0}
        times = [f"{one[f'{name}_ms']:.2f}" for name in ("span", "busy", "gaps")]
        cells = [f"{one['images']} a pass, {one['road']}", f"{one['n']:,}", *times]
        lines.append("| " + " | ".join([*cells, f"`{longest['name'][:40]}` {longest['ms']:.2f} ms"]) + " |")
    speeds = [(one, f"{one['ms_a_block']:.2f} ms ({one['tflops']:.0f} TFLOP/s)") for one in measured["attention"]]
    told = [f"{one['library']} {speed} at {one['images']} a pass" for one, speed in speeds]
    waits = [f"{len(found or ())} at {images} a pass" for images, found in measured.get("waits", {}).items()]
    lines.append(
        f"\nAttention of one block: {'; '.join(told)}. Waits for the GPU until the scores: {', '.join(waits)}."
    )
    return "\n".join([*lines, source_line])


def aims_table() -> str:
    """What was wished of ViT-B at 1036 px on a data-centre GPU, and what was measured, as far as it was."""
    lines = ["| wished, ViT-B at 1036 px | measured | |", "|---|---|---|"]
    with contextlib.suppress(FileNotFoundError):
        rows = [row for row in benchmark(GPU_PASSES)[0]["rows"] if _case(row) == AIMED_AT]
        for road in dict.fromkeys(row["road"] for row in rows if row["images"] == 1):
            alone = next(row for row in rows if (row["road"], row["images"]) == (road, 1))
            ms = f"{alone['ms_per_image']:.1f} ms, {alone['with_transfer_ms_per_image']:.1f} from bytes to scores"
            lines.append(f"| at most 8 ms, one image a pass | {ms} | {road} |")
        best = max(rows, key=lambda row: row["share_of_ceiling"])
        share, by = f"{100 * best['share_of_ceiling']:.0f} %", f"{best['road']}, {best['images']} a pass"
        lines.append(f"| 55 % of the bfloat16 ceiling or more | {share} | {by} |")
    row = next(row for row in benchmark("inference_cuda")[0]["rows"] if _case(row) == AIMED_AT)
    name, quicker = max(row["times_quicker_than_published"].items(), key=lambda one: one[1])
    lines.append(f"| 6 times as quick as published or more | {quicker:.1f} times | {WHOLE_IMAGE[name]} |")
    return "\n".join(lines)


def stages_table(file: str = "inference") -> str:
    """The stages of `benchmarks/inference.py`: medians in ms."""
    measured, source_line = benchmark(file)
    stages = [name for name in measured["rows"][0]["times"] if name not in WHOLE_IMAGE]
    header = ["decode PNG" if name == "decode" else name for name in stages]
    lines = ["| ms | " + " | ".join(header) + " |", "|" + "---|" * (len(stages) + 1)]
    for row in measured["rows"]:
        cells = [f"{row['times'][name]['median_ms']:,.1f}" for name in stages]
        lines.append("| " + " | ".join([f"{row['teacher']}, {row['resolution']}", *cells]) + " |")
    return "\n".join([*lines, source_line])


def training_table(*files: str) -> str:
    """What `benchmarks/training.py` came to: one row a way to train, one table a file of those that are there."""
    parts = []
    for name in [file for file in files if (STORED / f"{file}.json").exists()] or files[:1]:
        measured, source_line = benchmark(name)
        lines = ["| | teacher, s | epochs | until the same loss, s | |", "|---|---|---|---|---|"]
        published, *others = measured["rows"]
        epochs, seconds = len(published["losses"]), published["seconds_extrapolated"]
        lines.append(
            f"| published (from {published['timed_images']} images) | in every epoch | {epochs} | {seconds:,.0f} | 1x |"
        )
        for row in others:
            cells = [row["name"], f"{row['teacher_seconds']:,.0f}", *trained(row)]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join([*lines, source_line]))
    return "\n\n".join(parts)


def trained(row: dict[str, Any]) -> list[str]:
    """Epochs, seconds and speed of one way to train, or that it did not arrive."""
    if row["epochs_to_loss"] is None:
        return [f"not in {len(row['losses'])}", "–", "–"]
    return [str(row["epochs_to_loss"]), f"{row['seconds_to_loss']:,.0f}", f"{row['times_quicker_than_published']:.1f}x"]


def training_options_table() -> str:
    """What `benchmarks/training_options.py` came to: one row a family and variant."""
    measured, source_line = benchmark("training_options")
    limits = measured["fpr_limits"]
    columns = ["", "epochs", "s", "cache, MB", "loss", *(f"AUPRO@{100 * limit:.0f} %" for limit in limits)]
    columns += [f"AUPRO@{100 * min(limits):.0f} % Q1", "image AUROC", "an image score moved by"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in measured["rows"]:
        fit = epochs_and_costs(row) if "loss" in row else [""] * 4
        smallest = row["aupro_q1"][limits.index(min(limits))]
        figures = [f"{value:.4f}" for value in (*row["aupro"], smallest, row["image_auroc"])]
        moved_by = f"{row['largest_score_difference']:.4f}" if "float16" in row["name"] else ""
        name = f"{row['family'].split('/')[-1]}: {row['name']}"
        lines.append("| " + " | ".join([name, *fit, *figures, moved_by]) + " |")
    return "\n".join([*lines, source_line])


def epochs_and_costs(row: dict[str, Any]) -> list[str]:
    """Epochs with those whose students were kept, seconds, megabytes and loss of one variant."""
    kept = f" (kept {row['kept_epoch']})" if row["kept_epoch"] < row["epochs"] else ""
    return [f"{row['epochs']}{kept}", f"{row['seconds']:.1f}", f"{row['cache_mb']:.0f}", f"{row['loss']:.4f}"]


def growth_table() -> str:
    """What `benchmarks/growth.py` came to: one row a point."""
    measured, source_line = benchmark("growth")
    lines = ["| | seconds | peak, MB |", "|---|---|---|"]
    lines += [
        f"| {row['kind']} {row['value']} | {row['seconds']:.2f} | {row['peak_mb']:,.0f} |" for row in measured["rows"]
    ]
    powers = [
        f"{kind} {found['seconds']:.2f} and {found['peak_mb']:.2f}" for kind, found in measured["exponents"].items()
    ]
    told = f"\nExponents of time and memory between the last two points: {', '.join(powers)}."
    return "\n".join([*lines, told, source_line])


def scaling_measured_table() -> str:
    """What `benchmarks/scaling.py` measured."""
    measured, source_line = benchmark("scaling")
    found = measured["measured"]
    processes, dask = found["executors"]
    image = found["image"]
    rows = [
        (f"a job that does nothing, `{name}`", f"{row['ms_per_job']:.1f} ms ({row['wall_ms_per_job']:.0f} ms wall)")
        for name, row in (("--workers", processes), ("--cluster local", dask))
    ]
    rows += [
        ("decode 1036 x 1036 px, PNG, JPEG", f"{image['decode_png_ms']:.1f} ms, {image['decode_jpg_ms']:.1f} ms"),
        ("draw a map from 74 x 74 patches", f"{image['draw_map_ms']:.1f} ms"),
        ("write it as TIFF", f"{image['write_map_ms']:.0f} ms, {image['map_bytes'] / 1e6:.1f} MB"),
    ]
    lines = ["| measured | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([*lines, source_line])


def scaling_plan_table(name: str) -> str:
    """A plan of `benchmarks/scaling.py`: quantity, arithmetic, value."""
    measured, _ = benchmark("scaling")
    rows = [f"| {row['quantity']} | {row['arithmetic']} | {row['value']} |" for row in measured["plans"][name]]
    return "\n".join(["| what | arithmetic | comes to |", "|---|---|---|", *rows])


def service_table() -> str:
    """What `benchmarks/service.py` came to: throughput, answers at half load, memory."""
    measured, source_line = benchmark("service")
    rates, share = measured["throughput"]["photographs_a_second"], measured["throughput"]["service_share"]
    latency, memory = measured["latency"], measured["memory"]
    spread_of_share = f"{share['lowest']:.2f} to {share['highest']:.2f}"
    rows = [
        ["photographs a second, `predict` in one process", f"{rates['predict']['median']:.2f}"],
        ["photographs a second, sent to the service", f"{rates['service']['median']:.2f}"],
        ["the second as a share of the first", f"{share['median']:.2f} ({spread_of_share})"],
        [
            "answer at half load, median and 99th percentile",
            f"{latency['median_ms']:.0f} and {latency['p99_ms']:.0f} ms",
        ],
        [
            f"memory over {memory['requests']:,} requests to a model that takes the mean",
            f"{memory['second_tenth_mb']:.0f} to {memory['last_tenth_mb']:.0f} MB",
        ],
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([*lines, source_line])


def when_measured(table: Callable[[], str]) -> Callable[[], str]:
    """The table, or the file that it waits for."""

    def make() -> str:
        try:
            return table()
        except FileNotFoundError as error:
            return f"Not measured yet: `benchmarks/` has the script that writes `{Path(error.filename).name}`."

    return make


TABLES: dict[str, Callable[[], str]] = {
    "scaling_measured": scaling_measured_table,
    "service": service_table,
    "scaling_benchmark": partial(scaling_plan_table, "benchmark"),
    "scaling_day": partial(scaling_plan_table, "day"),
    "inference": inference_table,
    "stages": stages_table,
    "training": partial(training_table, "training", "training_1036"),
    "inference_gpu": partial(inference_table, "inference_cuda"),
    "stages_gpu": partial(stages_table, "inference_cuda"),
    "passes_gpu": passes_table,
    "profiles_gpu": profiles_table,
    "aims_gpu": aims_table,
    "training_gpu": partial(training_table, "training_cuda", "training_1036_cuda"),
    "training_options": training_options_table,
    "growth": growth_table,
    "efforts": efforts_table,
    "tiling": tiling_table,
    "stride": stride_table,
    "export": export_table,
    "export_accuracy": export_accuracy_table,
    "scoring": scoring_table,
    "coverage": coverage_table,
}
SPEED_TABLES = {name: when_measured(table) for name, table in TABLES.items()}
