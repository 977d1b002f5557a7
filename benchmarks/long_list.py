"""What a list of a million videos costs: the time to the first batch, and the memory of each worker.

    python benchmarks/long_list.py [--lines 1000000] [--workers 2]

A list with so many lines is compared with one of 16, side by side. All lines have names of their own, and the files are
links to one video, so that only the list is long. Memory is what a worker has for itself (its private pages), and its
whole resident set.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PER_FOLDER = 1000
SHORT = 16


def make_tree(root: Path, video: Path, num_lines: int) -> Path:
    """Folders of links to one video, and a list of them."""
    files = root / "files"
    files.mkdir()
    os.link(video, files / "000.mp4")
    for number in range(1, PER_FOLDER):
        os.link(files / "000.mp4", files / f"{number:03d}.mp4")
    list_path = root / f"{num_lines}.txt"
    with list_path.open("w") as lines:
        for number in range(num_lines):
            folder = f"class_number_{number // PER_FOLDER:05d}"
            if number % PER_FOLDER == 0:
                os.symlink("files", root / folder)
            lines.write(f"{folder}/{number % PER_FOLDER:03d}.mp4 {number % 400}\n")
    return list_path


def measure(list_path: Path, num_workers: int) -> None:
    """In a process of its own: print as JSON how long the first batch takes, and what the workers hold."""
    from paddlevid import build
    from paddlevid.config import load_config
    from paddlevid.data.loader import train_batches
    from paddlevid.training.resume import describe_data

    started = time.perf_counter()
    recipe = Path(__file__).resolve().parent.parent / "configs" / "tsm_k400.yaml"
    overrides = [f"train.list={list_path}", f"data.root={list_path.parent}", "train.batch_size=2"]
    cfg = load_config(str(recipe), overrides)
    dataset = build.build_train_dataset(cfg)
    describe_data(dataset)
    plan = build.build_plan(cfg, dataset)
    read_after = time.perf_counter() - started
    batches = train_batches(dataset, plan, start_step=0, rank=0, world=1, num_workers=num_workers)
    for _ in range(2 * num_workers):
        next(batches)
    first_after = time.perf_counter() - started
    workers = [resident_mb(process.pid) for process in multiprocessing.active_children()]
    batches.close()
    print(json.dumps({"list": read_after, "batches": first_after, "workers": workers, "own": resident_mb(os.getpid())}))


def resident_mb(pid: int | None) -> tuple[float, float]:
    """The private and the whole resident memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}
    return sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Rss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.workers)
        return
    from paddlevid.deploy.measure.sample_video import write_video

    head = ("lines", "text MB", "list s", "first batches s", "worker private MB", "worker RSS MB")
    print("{:>10} {:>8} {:>7} {:>16} {:>18} {:>14}".format(*head))
    for num_lines in (SHORT, args.lines):
        with tempfile.TemporaryDirectory() as folder:
            list_path = make_tree(Path(folder), write_video(Path(folder) / "made.mp4"), num_lines)
            command = [sys.executable, __file__, "--measure", str(list_path), "--workers", str(args.workers)]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(run.stdout.splitlines()[-1])
            text_mb = list_path.stat().st_size / 2**20
            private, resident = (max(sizes[kind] for sizes in found["workers"]) for kind in (0, 1))
            print(
                f"{num_lines:>10} {text_mb:>8.1f} {found['list']:>7.2f} {found['batches']:>16.2f} {private:>18.0f}"
                f" {resident:>14.0f}"
            )


if __name__ == "__main__":
    main()
