"""The first thing to run when something is odd: python tools/doctor.py [CONFIG]"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.errors import UserError
from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.doctor.findings import Finding
    from paddlevid.doctor.lists import Lists
    from paddlevid.schema import Config

Sections = dict[str, "list[Finding]"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Look at this machine, what is installed on it and its decoders and, with a recipe, at its lists, "
        "a sample of its videos, and how fast they are read. Each line is ok, a warning or an error, and says what to "
        "do. Exit code 1 if there are errors. Takes less than a minute unless asked for more."
    )
    recipe = parser.add_mutually_exclusive_group()
    recipe.add_argument("recipe", nargs="?", metavar="CONFIG", help="a recipe")
    recipe.add_argument("-c", "--config", help="the same")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("-w", "--weights", help="see whether these fit the model of the recipe")
    parser.add_argument("--all", action="store_true", help="look for every file of the lists, not for a sample of them")
    parser.add_argument("--duplicates", action="store_true", help="also compare the videos by their contents")
    parser.add_argument("--videos", type=int, default=24, metavar="N", help="how many videos are opened (24)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write it for a report of a bug")
    args = parser.parse_args()
    args.config = args.config or args.recipe
    if args.config is None and (args.override or args.weights or args.all or args.duplicates):
        parser.error("--override, --weights, --all and --duplicates are about a recipe: give CONFIG")
    if args.videos < 1:
        parser.error("--videos must be at least 1")
    return args


def main() -> int:
    args = parse_arguments()
    sections: Sections = {}
    cfg = examine_recipe(args, sections) if args.config else None
    decoder = cfg.data.decoder if cfg else "auto"

    def environment() -> "Iterator[Finding]":
        from paddlevid.doctor.environment import check_environment

        return check_environment(cfg.output_dir if cfg else None, cfg is not None and cfg.device == "gpu", decoder)

    def decoders() -> "Iterator[Finding]":
        from paddlevid.doctor.decoders import check_decoders

        return check_decoders(decoder)

    examine(sections, "environment", environment)
    examine(sections, "decoders", decoders)
    if cfg is not None:
        examine_data(args, cfg, sections)
    findings = [finding for section in sections.values() for finding in section]
    counts = {status: sum(finding.status == status for finding in findings) for status in ("error", "warning")}
    print("\n" + ", ".join(f"{count} {status}{'' if count == 1 else 's'}" for status, count in counts.items()))
    if args.json:
        write_json(args, sections)
    return int(counts["error"] > 0)


def examine(sections: Sections, name: str, look: "Callable[[], Iterable[Finding]]") -> None:
    """Print what is found as it is found; what keeps a section from looking is a finding, too."""
    from paddlevid.doctor.findings import error, one_line

    if name not in sections:
        print(f"{'' if not sections else chr(10)}{name}", flush=True)
    found = sections.setdefault(name, [])

    def add(finding: "Finding") -> None:
        found.append(finding)
        print(finding, flush=True)

    try:
        for finding in look():
            add(finding)
    except (ImportError, OSError, UserError) as reason:
        add(error(name, f"cannot be looked at: {one_line(reason)}", "install what is missing: see environment"))


def examine_recipe(args: argparse.Namespace, sections: Sections) -> "Config | None":
    """The recipe, None where it cannot be read."""
    configs: list[Config] = []

    def look() -> "Iterator[Finding]":
        from paddlevid.config import load_config
        from paddlevid.doctor.findings import error, ok

        try:
            configs.append(load_config(args.config, args.override))
        except UserError as reason:
            yield error("recipe", str(reason).replace("\n", "\n" + " " * 11))
            return
        cfg = configs[0]
        yield ok("recipe", f"{args.config}: {cfg.model.name}, {cfg.data.num_classes} classes, {cfg.data.format}")

    examine(sections, "recipe", look)
    return configs[0] if configs else None


def examine_data(args: argparse.Namespace, cfg: "Config", sections: Sections) -> None:
    try:
        from paddlevid.doctor import lists as looks
        from paddlevid.doctor import videos as films
    except ImportError as reason:
        missing = reason

        def fail() -> "Iterator[Finding]":
            raise missing

        examine(sections, "lists", fail)
        return
    found: Lists = {}
    examine(sections, "lists", lambda: looks.read_lists(cfg, found))
    examine(sections, "lists", lambda: check_labels(cfg, found))
    examine(sections, "lists", lambda: looks.check_missing(cfg, found, look_at_all=args.all, progress=with_progress))
    examine(sections, "lists", lambda: looks.check_flow(cfg, found))
    examine(sections, "lists", lambda: looks.check_repeats(cfg, found))
    if args.duplicates:
        examine(sections, "lists", lambda: looks.check_copies(found, progress=with_progress))
    if found:
        chosen = films.choose_videos(found, args.videos)
        examine(sections, "videos", lambda: films.check_disk_speed(chosen))
        examine(sections, "videos", lambda: films.check_videos(cfg, chosen))
    if args.weights:
        from paddlevid.doctor.weights import check_weights

        examine(sections, "weights", lambda: check_weights(cfg, args.weights))


def check_labels(cfg: "Config", lists: "Lists") -> "Iterator[Finding]":
    """The names of classes, and the classes of the lists by them."""
    from paddlevid.data.class_names import number_names, read_class_names
    from paddlevid.doctor import lists as looks

    names = number_names(cfg.data.num_classes)
    try:
        names = read_class_names(cfg.data.class_names, cfg.data.num_classes, list_path=cfg.train.list)
        yield looks.check_class_names(cfg, names)
    except UserError:
        pass  # told where the lists were read
    yield from looks.check_classes(cfg, lists, names)


def with_progress(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(items, desc=what, total=total, disable=not sys.stderr.isatty(), leave=False)


def write_json(args: argparse.Namespace, sections: Sections) -> None:
    from paddlevid.runtime import atomic_write

    told = {
        "arguments": sys.argv[1:],
        "sections": {name: [finding._asdict() for finding in section] for name, section in sections.items()},
    }
    text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    atomic_write(args.json, lambda path: Path(path).write_text(text, encoding="utf-8", errors="surrogateescape"))


if __name__ == "__main__":
    run_command(main)
