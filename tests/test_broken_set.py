"""A set with broken files, through a whole run: half a percent of it is lived with, five percent are not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from broken_videos import CONTAINERS, KINDS, break_file, write_clip

from paddlevid.data.motion import write_motion_set

av = pytest.importorskip("av")


def write_set(folder: Path, num_good: int, num_each: int) -> tuple[Path, list[str]]:
    """A list of good motion videos and `num_each` broken ones of each of the 8 kinds, in turn in 5 containers."""
    write_motion_set(folder, train=num_good, valid=2, test=2, size=48, frames=8, workers=2)
    lines = (folder / "train.txt").read_text().splitlines()
    containers = list(CONTAINERS.items())
    good = {name: write_clip(folder / f"good{c.suffix}", c, num_frames=30, size=64) for name, c in containers}
    broken = []
    for i, kind in enumerate(KINDS * num_each):
        name, container = containers[i % len(containers)]
        path = folder / f"{kind}_{i}{container.suffix}"
        break_file(path, kind, good[name], container)
        broken.append(path.name)
        lines.insert(7 * i, f"{path.name} {i % 8}")
    listed = folder / "with_broken.txt"
    listed.write_text("\n".join(lines))
    return listed, broken


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_half_a_percent_is_named_and_five_are_too_many(tiny_recipe, tmp_path, run_main, capsys, workers):
    listed, broken = write_set(tmp_path / "few", num_good=1592, num_each=1)
    common = ["-c", tiny_recipe(), "-o", f"train.num_workers={workers}", "-o", "train.epochs=1"]
    common += ["-o", "train.global_batch=64", "-o", "train.batch_size=64", "-o", "data.class_names=null"]
    few = ["-o", f"data.root={listed.parent}", "-o", f"train.list={listed}", "-o", f"output_dir={tmp_path / 'o1'}"]
    assert run_main(*common, *few) == 0
    printed = capsys.readouterr().out
    rows = (tmp_path / "o1" / "bad_videos.txt").read_text().splitlines()
    assert Counter(row.split("\t")[0] for row in rows) == Counter(broken)
    assert all(row.split("\t")[1] for row in rows)
    for name in broken:
        assert printed.count(name) == 1, name
    assert "step 25/25" in printed

    listed, _ = write_set(tmp_path / "many", num_good=152, num_each=1)
    many = ["-o", f"data.root={listed.parent}", "-o", f"train.list={listed}", "-o", f"output_dir={tmp_path / 'o2'}"]
    assert run_main(*common, *many) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "of 160 videos could not be read so far, more than train.max_bad_share 0.01 of them" in error
    assert str(tmp_path / "o2" / "bad_videos.txt") in error
