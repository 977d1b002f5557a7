from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.data.loader import TrainPlan, train_batches, view_batches


def batches_of(cfg, workers):
    dataset = build.build_train_dataset(cfg)
    plan = TrainPlan(len(dataset), 6, 4, epochs=2, seed=cfg.seed)
    return [
        (batch["frames"].numpy(), batch["targets"].numpy(), batch["indices"].numpy())
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


@pytest.fixture
def half_broken(tiny_recipe, motion_set, tmp_path):
    """A dataset of four videos of which those at 1 and 2 cannot be read."""
    lines = (motion_set / "train.txt").read_text().splitlines()
    broken, listed = tmp_path / "broken.mp4", tmp_path / "list.txt"
    broken.write_text("no video")
    listed.write_text(f"{lines[0]}\n{broken} 1\n{broken} 2\n{lines[1]}\n")
    overrides = ["train.max_bad_share=1", "train.transforms=[{kind: color_jitter}, {kind: random_resized_crop}]"]
    return build.build_train_dataset(load_config(tiny_recipe(), [f"train.list={listed}", *overrides]))


def test_an_unreadable_video_is_replaced_by_another_and_named(half_broken):
    dataset, replaced = half_broken, 0
    for epoch in range(12):
        sample = dataset[epoch, 1]
        draws = []
        for attempt in range(1, 21):  # the first that is readable, with the randomness of that attempt
            rng = np.random.default_rng([dataset.seed, epoch, 1, attempt])
            draws.append(int(rng.integers(4)))
            if draws[-1] in (0, 3):
                break
        with dataset.source.open(dataset.records[draws[-1]]) as reader:
            frames = reader.read(dataset.sampling(reader.num_frames, reader.fps, rng=rng).reshape(-1))
        for transform in dataset.transforms:
            frames = transform(frames, rng)
        np.testing.assert_array_equal(sample["frames"], frames[None])
        assert sample["index"] == draws[-1]
        assert sample["target"].tolist() == np.eye(8)[dataset.records[draws[-1]].label].tolist()
        assert [index for index, _ in sample["failures"]] == [1, *draws[:-1]]
        assert all("broken.mp4" in reason for _, reason in sample["failures"])
        assert sample["error"] == ""
        replaced += len(draws) > 1
    assert replaced, "a replacement that is broken itself is replaced too"
    good = dataset[0, 3]
    assert (good["index"], good["failures"], good["error"]) == (3, [], "")


def test_a_first_attempt_draws_from_seed_epoch_and_index():
    # Were it not so, every clip would be another one than it was in runs of earlier versions
    one, other = np.random.default_rng([5, 6, 7]), np.random.default_rng([5, 6, 7, 0])
    assert one.random(4).tolist() == other.random(4).tolist()


def test_a_sample_is_blank_and_says_so_only_where_no_video_can_be_read(half_broken):
    dataset = dataclasses.replace(half_broken, records=half_broken.records[1:3])
    sample = dataset[0, 1]
    assert (sample["frames"].shape, sample["frames"].any()) == ((1, 4, 32, 32, 3), False)
    assert len(sample["failures"]) == 21
    assert "broken.mp4" in sample["error"]
    assert "20" in sample["error"]
    plan = TrainPlan(2, 2, 2, epochs=1, seed=0)
    for workers in (0, 1):
        (batch,) = train_batches(dataset, plan, start_step=0, rank=0, world=1, num_workers=workers)
        assert len(batch["errors"]) == 2
        assert all(type(failure) is tuple for failure in batch["failures"])
        assert len(batch["failures"]) == 42


def test_targets_are_one_hot_or_multi_hot(tiny_recipe):
    dataset = build.build_train_dataset(load_config(tiny_recipe()))
    record = dataset.records[0]
    several = [dataclasses.replace(record, label=None, labels=labels) for labels in ((), (0, 3, 7))]
    dataset = dataclasses.replace(dataset, records=[record, *several])
    targets = [dataset[0, index]["target"] for index in range(3)]
    assert {target.dtype for target in targets} == {np.dtype(np.float32)}
    assert targets[0].tolist() == [float(label == record.label) for label in range(8)]
    assert targets[1].tolist() == [0.0] * 8
    assert targets[2].tolist() == [1, 0, 0, 1, 0, 0, 0, 1]


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
