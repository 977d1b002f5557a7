import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from paddlevid.data import motion, moving_shapes
from paddlevid.data.motion import main, write_motion_set
from paddlevid.data.moving_shapes import MOTIONS, render_clip
from paddlevid.errors import DataError

OPPOSITES = [("left", "right"), ("up", "down"), ("clockwise", "counter-clockwise"), ("growing", "shrinking")]
SMALL = {"train": 8, "valid": 0, "test": 8, "size": 48, "frames": 10}


def decode(path: Path) -> tuple[np.ndarray, str]:
    """Frames uint8 `[T, H, W, 3]` and the name of the codec."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return np.stack(frames), container.streams.video[0].codec_context.name


def shape_mask(frames_thwc: np.ndarray) -> np.ndarray:
    """Where the shape is, bool `[T, H, W]`: OUTLINES are drawn in white on black by the fixture `plain`."""
    return frames_thwc[..., 0] > 127


@pytest.fixture
def plain(monkeypatch):
    """White shapes on black, so that place, size and angle can be read off the pixels."""
    monkeypatch.setattr(moving_shapes, "_colours", lambda rng: (np.zeros(3), np.ones(3)))
    monkeypatch.setattr(moving_shapes, "_noise", lambda rng, size, cells: np.zeros((size, size, 3), np.float32))


def measure(frames_thwc: np.ndarray) -> np.ndarray:
    """Per frame: x and y of the centroid, area (all in fractions of the side), float64 `[T, 3]`."""
    side = frames_thwc.shape[1]
    rows = []
    for frame in frames_thwc[..., 0] / 255.0:
        area = frame.sum()
        grid = np.arange(side) + 0.5
        rows.append([frame.sum(0) @ grid / area / side, frame.sum(1) @ grid / area / side, area / side**2])
    return np.array(rows)


@pytest.mark.parametrize(("one", "other"), OPPOSITES)
def test_opposites_are_each_other_backwards(one, other):
    there = render_clip(one, np.random.default_rng(7), 12, 64)
    back = render_clip(other, np.random.default_rng(7), 12, 64)
    assert there.shape == (12, 64, 64, 3)
    assert there.dtype == np.uint8
    np.testing.assert_array_equal(there, back[::-1])
    assert not np.array_equal(there, back)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MOTIONS)
def test_only_the_named_coordinate_moves(plain, name, seed):
    x, y, area = measure(render_clip(name, np.random.default_rng(seed), 16, 96)).T
    steps = {"x": np.diff(x), "y": np.diff(y), "area": np.diff(np.sqrt(area))}
    moving, sign = {
        "left": ("x", -1),
        "right": ("x", 1),
        "up": ("y", -1),
        "down": ("y", 1),
        "growing": ("area", 1),
        "shrinking": ("area", -1),
    }.get(name, (None, 0))
    for coordinate, step in steps.items():
        if coordinate == moving:
            assert (sign * step > 0).all()
        else:
            assert np.abs(step).max() < 0.005


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("name", "sign"), [("clockwise", 1), ("counter-clockwise", -1)])
def test_a_turning_shape_turns_the_way_it_is_called(plain, name, sign, seed):
    """Against the first frame turned by known angles: the best match turns on, by 110 to 150 degrees in all."""
    import cv2

    frames = render_clip(name, np.random.default_rng(seed), 24, 96)
    x, y, _ = measure(frames)[0] * 96 - 0.5
    degrees = np.arange(0, 360, 2)
    # OpenCV's positive angle is counter-clockwise
    turned = [
        cv2.warpAffine(frames[0, ..., 0], cv2.getRotationMatrix2D((x, y), -sign * float(d), 1), (96, 96))
        for d in degrees
    ]
    turned = np.stack(turned).astype(np.float32)  # [D, H, W]
    found = [degrees[np.abs(turned - frame[..., 0]).mean((1, 2)).argmin()] for frame in frames]
    assert found[0] == 0
    assert (np.diff(found) >= 0).all()
    assert 108 <= found[-1] <= 152


def test_shapes_stay_inside_the_frame(plain):
    for seed in range(40):
        mask = shape_mask(render_clip(list(MOTIONS)[seed % 8], np.random.default_rng(seed), 8, 64))
        assert not mask[:, [0, -1]].any()
        assert not mask[:, :, [0, -1]].any()
        assert mask.any(axis=(1, 2)).all()


def test_single_frames_are_alike_for_all_classes(plain):
    """Means and spreads of place and size over frames: each class within 4 standard errors of all the others.

    The limit is what independent clips give; a static shape in the middle while others roam, or a range of sizes for
    growing shapes alone, is 10 and more off.
    """
    rng = np.random.default_rng(0)
    clips = 150
    by_class = {}
    for name in MOTIONS:
        values = np.stack([measure(render_clip(name, rng, 6, 32)) for _ in range(clips)])  # [clips, T, 3]
        values[..., 2] = np.log(values[..., 2])
        by_class[name] = values
    everything = np.concatenate(list(by_class.values()))
    centre = everything.mean((0, 1))
    for power in (1, 2):
        per_clip = {name: ((values - centre) ** power).mean(1) for name, values in by_class.items()}  # [clips, 3]
        pooled = np.concatenate(list(per_clip.values()))
        error = pooled.std(0) / np.sqrt(clips)
        for name, values in per_clip.items():
            off = np.abs(values.mean(0) - pooled.mean(0)) / error
            assert off.max() < 4, (name, power, off)


def test_shapes_stand_out_from_the_background():
    rng = np.random.default_rng(1)
    weights = np.array([0.299, 0.587, 0.114])
    for _ in range(300):
        back, shape = moving_shapes._colours(rng)
        assert 0.449 < (shape - back) @ weights < 0.601


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_files_and_lists(tmp_path, codec):
    written = write_motion_set(tmp_path / "set", train=20, valid=0, test=3, size=48, frames=20, codec=codec)
    assert written == (23, 0, codec)
    folder = tmp_path / "set"
    rows = [line.split() for line in (folder / "train.txt").read_text().splitlines()]
    assert len(rows) == 20
    assert (folder / "valid.txt").read_text() == ""
    assert len((folder / "test.txt").read_text().splitlines()) == 3
    assert (folder / "classes.txt").read_text().split() == list(MOTIONS)
    counts = Counter(int(label) for _, label in rows)
    assert set(counts) == set(range(8))
    assert max(counts.values()) - min(counts.values()) <= 1
    lengths = set()
    for name, label in rows:
        assert list(MOTIONS)[int(label)] in name
        frames_thwc, found = decode(folder / name)
        assert found == codec
        assert frames_thwc.shape[1:] == (48, 48, 3)
        lengths.add(len(frames_thwc))
    assert min(lengths) >= 16
    assert max(lengths) <= 24
    assert len(lengths) > 3


def test_a_file_shows_the_clip_that_was_rendered(tmp_path):
    write_motion_set(tmp_path, train=0, valid=0, test=1, seed=3, classes=["up", "down"])
    frames_thwc, _ = decode(tmp_path / "test/00000_up.mp4")
    rng = np.random.default_rng([3, 2, 0])
    num_frames = int(rng.integers(26, 39))
    wanted = render_clip("up", rng, num_frames, 96)
    assert frames_thwc.shape == wanted.shape
    # 30 dB of peak signal to noise: coded, not changed
    assert np.mean((frames_thwc.astype(float) - wanted) ** 2) < 65


def test_seed_split_and_index_alone_make_a_file(tmp_path):
    write_motion_set(tmp_path / "a", **SMALL)
    write_motion_set(tmp_path / "b", **(SMALL | {"train": 11, "valid": 2, "test": 9}), workers=2)
    write_motion_set(tmp_path / "c", **SMALL, seed=1)
    seen = set()
    for split in ("train", "test"):
        for path in sorted((tmp_path / "a" / split).iterdir()):
            frames_thwc, _ = decode(path)
            np.testing.assert_array_equal(frames_thwc, decode(tmp_path / "b" / split / path.name)[0])
            seen.add(frames_thwc.tobytes())
            seen.add(decode(tmp_path / "c" / split / path.name)[0].tobytes())
    assert len(seen) == 32


def test_a_stopped_run_goes_on_and_a_set_grows(tmp_path):
    write_motion_set(tmp_path, **SMALL)
    kept, lost = sorted((tmp_path / "train").iterdir())[:2]
    before, wanted = kept.stat(), decode(lost)[0]
    lost.unlink()
    written = write_motion_set(tmp_path, **(SMALL | {"train": 10}))
    assert written == (3, 15, "h264")
    assert kept.stat().st_mtime_ns == before.st_mtime_ns
    np.testing.assert_array_equal(decode(lost)[0], wanted)
    assert len((tmp_path / "train.txt").read_text().splitlines()) == 10


def test_a_write_that_fails_leaves_no_file(tmp_path, monkeypatch):
    def fail(path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(motion, "_encode", fail)
    with pytest.raises(DataError, match="No space left on device"):
        write_motion_set(tmp_path, **SMALL)
    assert list((tmp_path / "train").iterdir()) == []


@pytest.mark.parametrize("other", [{"seed": 5}, {"size": 64}, {"classes": ["left", "right"]}, {"codec": "mpeg4"}])
def test_other_parameters_are_refused(tmp_path, other):
    write_motion_set(tmp_path, **SMALL)
    with pytest.raises(DataError, match=next(iter(other))):
        write_motion_set(tmp_path, **(SMALL | other))


def test_a_folder_with_other_data_is_refused(tmp_path):
    (tmp_path / "train.txt").write_text("mine.mp4 0\n")
    with pytest.raises(DataError, match=r"train\.txt"):
        write_motion_set(tmp_path, **SMALL)
    assert (tmp_path / "train.txt").read_text() == "mine.mp4 0\n"


@pytest.mark.parametrize("note", ["{", "[]"])
def test_a_broken_note_is_refused(tmp_path, note):
    (tmp_path / "motion.json").write_text(note)
    with pytest.raises(DataError, match=r"motion\.json"):
        write_motion_set(tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("train", -1),
        ("size", 49),
        ("size", 16),
        ("frames", 3),
        ("fps", 0),
        ("codec", "av1"),
        ("seed", -1),
        ("classes", ["left", "sideways"]),
        ("classes", ["left", "left"]),
        ("classes", []),
        ("workers", 0),
    ],
)
def test_bad_values_are_named_before_anything_is_written(tmp_path, option, value):
    with pytest.raises(DataError, match=option.removesuffix("es")):
        write_motion_set(tmp_path / "set", **(SMALL | {option: value}))
    assert not (tmp_path / "set").exists()


def test_no_videos_at_all_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one"):
        write_motion_set(tmp_path, train=0, valid=0, test=0)


def test_an_unknown_motion_is_refused():
    with pytest.raises(DataError, match="sideways"):
        render_clip("sideways", np.random.default_rng(0))


def test_falls_back_to_mpeg4_where_there_is_no_libx264(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    assert main([str(tmp_path), "--train=1", "--valid=0", "--test=0", "--size=32", "--frames=8", "--workers=1"]) == 0
    assert "mpeg4" in capsys.readouterr().err
    assert decode(tmp_path / "train/00000_left.mp4")[1] == "mpeg4"
    assert json.loads((tmp_path / "motion.json").read_text())["codec"] == "mpeg4"


def test_command_line_errors_are_one_line(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main([str(tmp_path), "--train", "-3"]) == 2
    assert main([str(blocked / "set")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "-3" in errors[0]
    assert str(blocked) in errors[1]


def test_runs_as_a_module_over_processes(tmp_path):
    command = [sys.executable, "-m", "paddlevid.data.motion", str(tmp_path), "--train=4", "--valid=0", "--test=0"]
    done = subprocess.run([*command, "--workers=2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "wrote 4 videos" in done.stdout
    assert len(list((tmp_path / "train").iterdir())) == 4
