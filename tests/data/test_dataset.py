from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.data.dataset import read_class_names
from paddlevid.data.loader import TrainPlan, train_batches, view_batches
from paddlevid.errors import DataError


def batches_of(cfg, workers):
    dataset = build.build_train_dataset(cfg)
    plan = TrainPlan(len(dataset), 6, 4, epochs=2, seed=cfg.seed)
    return [
        (batch["frames"].numpy(), batch["labels"].numpy(), batch["indices"].numpy())
        for batch in train_batches(dataset, plan, start_step=0, rank=0, world=1, num_workers=workers)
    ]


def test_batches_do_not_depend_on_workers(tiny_recipe):
    cfg = load_config(
        tiny_recipe(),
        ["train.transforms=[{kind: rand_augment}, {kind: color_jitter}, {kind: random_resized_crop}]"],
    )
    plain = batches_of(cfg, 0)
    assert plain[0][0].dtype == np.uint8
    assert plain[0][0].shape == (4, 1, 4, 32, 32, 3)
    for workers in (1, 4):
        for one, other in zip(plain, batches_of(cfg, workers), strict=True):
            for left, right in zip(one, other, strict=True):
                np.testing.assert_array_equal(left, right)


def test_a_sample_depends_on_seed_epoch_and_index(tiny_recipe):
    dataset = build.build_train_dataset(load_config(tiny_recipe()))
    reseeded = build.build_train_dataset(load_config(tiny_recipe(), ["seed=1"]))
    first = dataset[0, 3]["frames"]
    np.testing.assert_array_equal(first, dataset[0, 3]["frames"])
    assert (first != dataset[1, 3]["frames"]).any()
    assert (first != reseeded[0, 3]["frames"]).any()


def test_views_are_clips_times_crops_with_clips_outside(tiny_recipe):
    overrides = ["test.num_clips=2", "test.crop=three", "data.sampling.kind=dense", "data.sampling.window=8"]
    cfg = load_config(tiny_recipe(), overrides)
    dataset = build.build_eval_dataset(cfg, cfg.test)
    frames = dataset[0]["frames"]
    assert frames.shape == (6, 4, 32, 32, 3)
    one_clip = load_config(tiny_recipe(), ["test.crop=center", *overrides[:1], *overrides[2:]])
    centre = build.build_eval_dataset(one_clip, one_clip.test)[0]["frames"]  # [2, T, H, W, C]
    np.testing.assert_array_equal(frames[1], centre[0])
    np.testing.assert_array_equal(frames[4], centre[1])


def test_view_batches_give_each_video_to_one_process(tiny_recipe):
    cfg = load_config(tiny_recipe())
    dataset = build.build_eval_dataset(cfg, cfg.test)
    seen = [
        index
        for rank in range(3)
        for batch in view_batches(dataset, videos_per_batch=2, rank=rank, world=3, num_workers=0)
        for index in batch["indices"].numpy().tolist()
    ]
    assert sorted(seen) == list(range(7))


def test_frame_folders_give_the_pictures(tiny_recipe, tmp_path):
    import cv2

    folder = tmp_path / "walk the dog"
    folder.mkdir()
    for number in range(1, 9):
        cv2.imwrite(str(folder / f"{number:06d}.png"), np.full((40, 56, 3), 20 * number, np.uint8))
    listed = tmp_path / "frames.txt"
    listed.write_text("walk the dog 8 5\n")
    overrides = ["data.format=frames", "data.frame_template='{:06d}.png'", f"data.root={tmp_path}"]
    cfg = load_config(tiny_recipe(), [*overrides, f"test.list={listed}", "data.sampling.kind=linspace"])
    sample = build.build_eval_dataset(cfg, cfg.test)[0]
    assert sample["label"] == 5
    assert sample["frames"][0, :, 0, 0, 0].tolist() == [20, 60, 100, 160]  # frames 0, 2, 4, 7 of linspace(0, 7, 4)


def test_a_bug_in_a_dataset_is_raised_and_does_not_hang(tiny_recipe):
    dataset = build.build_train_dataset(load_config(tiny_recipe()))
    dataset = dataclasses.replace(dataset, transforms=[lambda frames, rng: 1 / 0])
    plan = TrainPlan(16, 4, 4, epochs=1, seed=0)
    with pytest.raises(ZeroDivisionError):
        list(train_batches(dataset, plan, start_step=0, rank=0, world=1, num_workers=0))


def test_class_names():
    assert read_class_names("kinetics400", 400)[5] == "archery"
    assert read_class_names(None, 3) == ["0", "1", "2"]
    with pytest.raises(DataError, match=r"400 names for data\.num_classes 2"):
        read_class_names("kinetics400", 2)
    with pytest.raises(DataError, match="no_such_list"):
        read_class_names("no_such_list", 2)
