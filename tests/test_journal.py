"""What one looks at while a model trains: metrics.jsonl, VisualDL as its own reader reads it, curves and clips."""

from __future__ import annotations

import json
import logging.handlers
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from paddlevid.journal import Journal, read_metrics
from paddlevid.journal.curves import best_validation, plot_curves
from paddlevid.pictures import CAPTION_HEIGHT, GAP, as_rgb, clip_grid, encode_png, spread
from paddlevid.runtime import logger


def visualdl_log(output: Path):
    """The one log of a run, read by VisualDL."""
    from visualdl import LogReader

    (path,) = (output / "visualdl").iterdir()
    return LogReader(file_path=str(path))


def scalars(output: Path, tag: str) -> list[tuple[int, float]]:
    return [(value.id, pytest.approx(value.value)) for value in visualdl_log(output).get_data("scalar", tag)]


def clips(num_clips: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_clips, 1, 4, 32, 32, 3), np.uint8)


def fill(journal: Journal, steps: range, valid_every: int = 2) -> None:
    for step in steps:
        journal.write("train", step, loss=1 / step, lr=0.1 * step)
        if step % valid_every == 0:
            journal.write("valid", step, top1=step / 10)


def test_all_that_is_written_is_there(tmp_path):
    journal = Journal(tmp_path)
    journal.clips(clips(), ["left", "right"])
    fill(journal, range(1, 5))
    weight = paddle.to_tensor(np.arange(100, dtype=np.float32))
    journal.histograms(4, [("head.weight", weight)], {"head.weight": weight.astype("bfloat16") * 0 + 2})
    journal.plot()
    journal.close()

    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[0] == {"split": "train", "step": 1, "loss": 1.0, "lr": 0.1}
    assert [(row["split"], row["step"]) for row in rows if row["split"] == "valid"] == [("valid", 2), ("valid", 4)]
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]
    assert scalars(tmp_path, "valid/top1") == [(2, 0.2), (4, 0.4)]
    log = visualdl_log(tmp_path)
    (picture,) = log.get_data("image", "train/clips")
    assert picture.image.encoded_image_string == (tmp_path / "train_clips.png").read_bytes()
    (weights,) = log.get_data("histogram", "weights/head.weight")
    assert (weights.id, weights.histogram.hist, weights.histogram.bin_edges[0]) == (4, [2.0] * 50, 0.0)
    (gradients,) = log.get_data("histogram", "gradients/head.weight")
    assert sum(gradients.histogram.hist) == 100
    assert gradients.histogram.bin_edges[0] <= 2 <= gradients.histogram.bin_edges[-1]
    assert cv2.imread(str(tmp_path / "curves.png")).shape[0] > 300


@pytest.mark.parametrize("keep_valid", [True, False])
def test_a_resumed_run_has_each_step_once(tmp_path, keep_valid):
    first = Journal(tmp_path)
    first.clips(clips(), ["left", "right"])
    fill(first, range(1, 8))
    first.histograms(6, [("w", np.ones(3, np.float32))])
    first.histograms(7, [("w", np.ones(3, np.float32))])
    first.close()
    before = {value.id: value.timestamp for value in visualdl_log(tmp_path).get_data("scalar", "train/loss")}

    Journal(tmp_path, 6, keep_valid_at_start=keep_valid).clips(clips(), ["up", "down"])
    resumed = Journal(tmp_path, 6, keep_valid_at_start=keep_valid)
    resumed.clips(clips(), ["up", "down"])
    steps = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if row["split"] == "valid"]
    assert steps == ([2, 4, 6] if keep_valid else [2, 4])
    if not keep_valid:
        resumed.write("valid", 6, top1=0.9)
    fill(resumed, range(7, 10))
    resumed.histograms(7, [("w", np.ones(5, np.float32))])
    resumed.close()
    assert scalars(tmp_path, "train/loss") == [(step, 1 / step) for step in range(1, 10)]
    assert scalars(tmp_path, "valid/top1") == [(2, 0.2), (4, 0.4), (6, 0.6 if keep_valid else 0.9), (8, 0.8)]
    log = visualdl_log(tmp_path)
    assert [value.id for value in log.get_data("image", "train/clips")] == [0, 6]
    assert [(v.id, sum(v.histogram.hist)) for v in log.get_data("histogram", "weights/w")] == [(6, 3), (7, 5)]
    after = {value.id: value.timestamp for value in log.get_data("scalar", "train/loss")}
    assert {step: after[step] for step in range(1, 7)} == {step: before[step] for step in range(1, 7)}


def test_a_run_from_scratch_keeps_nothing_of_another(tmp_path):
    fill(Journal(tmp_path), range(1, 5))
    Journal(tmp_path).write("train", 1, loss=3.0)
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"split": "train", "step": 1, "loss": 3.0}]
    assert scalars(tmp_path, "train/loss") == [(1, 3.0)]


def test_files_that_a_killed_process_left_torn(tmp_path):
    killed = Journal(tmp_path)
    killed.clips(clips(), ["left", "right"])
    fill(killed, range(1, 5))
    (log,) = (tmp_path / "visualdl").iterdir()
    log.write_bytes(log.read_bytes()[:-9])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"split": "train", "step": 5, "lo\xc3')
    resumed = Journal(tmp_path, 4)
    fill(resumed, range(5, 7))
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    assert scalars(tmp_path, "train/lr") == [(step, 0.1 * step) for step in range(1, 7)]
    assert scalars(tmp_path, "valid/top1") == [(2, 0.2), (4, 0.4), (6, 0.6)]


def test_a_log_of_visualdls_own_writer_is_continued(tmp_path):
    from visualdl import LogWriter

    with LogWriter(str(tmp_path / "visualdl")) as writer:
        writer.add_scalar("train/loss", 5.0, 1, walltime=123)
        writer.add_histogram("weights/w", np.ones(7), 1)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"split": "train", "step": 1, "loss": 5.0}) + "\n")
    Journal(tmp_path, 1).write("train", 2, loss=4.0)
    assert scalars(tmp_path, "train/loss") == [(1, 5.0), (2, 4.0)]
    log = visualdl_log(tmp_path)
    assert log.get_data("scalar", "train/loss")[0].timestamp == 123
    assert sum(log.get_data("histogram", "weights/w")[0].histogram.hist) == 7


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond: a write stops in the middle, as on a full disk."""
    resource = pytest.importorskip("resource", reason="limits are set as on Unix")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_does_not_end_a_run_and_nothing_is_lost(tmp_path, monkeypatch):
    said = logging.handlers.BufferingHandler(capacity=1000)
    monkeypatch.setattr(logger, "handlers", [said])
    journal = Journal(tmp_path)
    fill(journal, range(1, 3))
    (log,) = (tmp_path / "visualdl").iterdir()
    whole = (tmp_path / "metrics.jsonl").read_bytes(), log.read_bytes()
    assert len(whole[0]) + 10 < len(whole[1])
    with files_of_at_most(len(whole[0]) + 10):
        fill(journal, range(3, 7))
        journal.clips(clips(), ["left", "right"])
        journal.histograms(6, [("w", np.ones(3, np.float32))])
        journal.plot()
        journal.close()
        assert ((tmp_path / "metrics.jsonl").read_bytes(), log.read_bytes()) == whole, "nothing stays half written"
    assert not (tmp_path / "curves.png").exists()
    (warning,) = said.buffer
    assert "metrics.jsonl: File too large; training goes on" in warning.getMessage()
    fill(journal, range(7, 9))
    journal.close()
    assert scalars(tmp_path, "train/loss") == [(step, 1 / step) for step in range(1, 9)]
    steps = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if row["split"] == "train"]
    assert steps == list(range(1, 9))
    assert len(visualdl_log(tmp_path).get_data("image", "train/clips")) == 1


def test_histograms_leave_out_what_is_no_number(tmp_path):
    journal = Journal(tmp_path)
    journal.histograms(1, [("a", np.array([1, np.nan, 3, np.inf], np.float32)), ("b", np.array([np.nan], np.float32))])
    log = visualdl_log(tmp_path)
    assert sum(log.get_data("histogram", "weights/a")[0].histogram.hist) == 2
    assert log.get_data("histogram", "weights/b") == []


def test_a_log_that_claims_a_record_beyond_its_end(tmp_path):
    journal = Journal(tmp_path)
    fill(journal, range(1, 3))
    (log,) = (tmp_path / "visualdl").iterdir()
    with log.open("ab") as file:
        file.write(struct.pack("<Q", 2**62) + b"x" * 30)
    Journal(tmp_path, 2).close()
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 0.5)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], None),
        ([("train", 1, {"top1": 1.0})], None),
        ([("valid", 2, {"top1": 0.5}), ("valid", 4, {"top1": 0.7}), ("valid", 6, {"top1": 0.7})], (4, "top1", 0.7)),
        ([("valid", 2, {"mAP": 0.3, "top1": 0.9}), ("valid", 4, {"mAP": 0.4, "top1": 0.8})], (4, "mAP", 0.4)),
    ],
)
def test_the_best_validation(rows, expected):
    assert best_validation([{"split": split, "step": step, **values} for split, step, values in rows]) == expected


def test_the_best_epoch_is_marked_in_green_where_it_is(tmp_path):
    rows = [{"split": "train", "step": step, "loss": 1.0, "lr": 0.1, "grad_norm": 1.0} for step in range(0, 101, 10)]

    def green_columns(rows):
        plot_curves(rows, tmp_path / "curves.png")
        blue, green, red = cv2.imread(str(tmp_path / "curves.png")).astype(int).transpose(2, 0, 1)
        return np.flatnonzero(((green > 130) & (red < 80) & (blue < 120)).any(axis=0))

    assert not len(green_columns(rows))
    valid = [{"split": "valid", "step": step, "top1": top1} for step, top1 in ((0, 0.1), (50, 0.9), (100, 0.2))]
    width = cv2.imread(str(tmp_path / "curves.png")).shape[1]
    columns = green_columns([*rows, *valid]) / width
    # The axes of the left panels span about 0.04 to 0.49 of the width, those of the right ones 0.54 to 0.99
    assert ((abs(columns - 0.265) < 0.03) | (abs(columns - 0.765) < 0.03)).all(), "the middle of the panels"
    assert (columns < 0.5).any()
    assert (columns > 0.5).any()


def test_curves_of_odd_rows(tmp_path):
    rows = [{"split": "train", "step": step, "loss": float("nan"), "grad_norm": 0.0} for step in range(100)]
    rows += [{"split": "valid", "step": 3, "mAP": float("nan")}, {"split": "ema", "step": 3, "top1": 0.3}]
    plot_curves(rows, tmp_path / "odd.png")
    plot_curves([], tmp_path / "none.png")
    assert (tmp_path / "odd.png").stat().st_size > (tmp_path / "none.png").stat().st_size > 1000


def test_a_grid_of_clips():
    values = np.arange(2 * 3, dtype=np.uint8).reshape(2, 1, 3, 1, 1, 1) * 40
    grid = clip_grid(np.tile(values, (1, 1, 1, 50, 100, 3)), ["one", "two $ $"], height=80)
    row_height = CAPTION_HEIGHT + 80 + GAP
    assert grid.shape == (2 * row_height + GAP, 3 * (160 + GAP) + GAP, 3)
    for row in range(2):
        for column in range(3):
            top, left = row * row_height + CAPTION_HEIGHT, GAP + column * (160 + GAP)
            frame = grid[top : top + 80, left : left + 160]
            np.testing.assert_array_equal(frame, np.full((80, 160, 3), 40 * (3 * row + column)))
        caption = grid[row * row_height + GAP : row * row_height + CAPTION_HEIGHT - 2]
        assert (caption < 100).any(), "a caption is written"
        assert (caption[:, 200:] == 255).all()


def test_a_grid_has_a_bounded_size():
    grid = clip_grid(np.zeros((20, 1, 64, 8, 8, 2), np.uint8), [""] * 20)
    assert grid.shape == (8 * (CAPTION_HEIGHT + 112 + GAP) + GAP, 8 * (112 + GAP) + GAP, 3)


def test_which_frames_of_many():
    assert spread(4, 8).tolist() == [0, 1, 2, 3]
    assert spread(64, 8).tolist() == [0, 9, 18, 27, 36, 45, 54, 63]
    assert spread(1, 8).tolist() == [0]


def test_channels_become_colours():
    assert as_rgb(np.array([[7]], np.uint8)).tolist() == [[7, 7, 7]]
    still, right = [128, 127], [255, 128]  # flow: white, and the first hue of the wheel
    assert as_rgb(np.array([still, right], np.uint8)).tolist() == [[255, 255, 255], [255, 0, 0]]
    assert as_rgb(np.array([[7, 9, 11]], np.uint8)).tolist() == [[7, 9, 11]]


def test_a_png_keeps_its_colours():
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
    decoded = cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., [2, 1, 0, 3]], picture)
