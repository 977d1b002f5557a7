"""What a step is made of does not depend on how it is divided, nor a run on where it was resumed."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.data.loader import MicroBatch, TrainPlan, read_micro_batch, train_batches
from paddlevid.data.mixing import mix_frames, mix_targets

# ---- plans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize(("num_samples", "global_batch", "batch_size"), [(10, 4, 2), (7, 8, 3), (23, 6, 8), (1, 4, 1)])
def test_an_epoch_has_each_sample_once_whatever_the_division(world, num_samples, global_batch, batch_size):
    plan = TrainPlan(num_samples, global_batch, batch_size, epochs=3, seed=0)
    for epoch in range(3):
        seen = []
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            shares = [plan.micro_batches(step, rank, world) for rank in range(world)]
            assert len({len(share) for share in shares}) == 1, "processes must meet at the same micro-batches"
            pieces = [piece for share in shares for piece in share]
            assert sum(piece.weights.sum() for piece in pieces) == pytest.approx(1.0, abs=1e-6)
            assert all(len(piece.keys) <= batch_size for piece in pieces)
            for piece in pieces:
                seen += [key for key, weight in zip(piece.keys, piece.weights, strict=True) if weight > 0]
        assert sorted(seen) == [(epoch, index) for index in range(num_samples)]


def step_keys(plan, step):
    """The keys of a step in their order."""
    (piece,) = dataclasses.replace(plan, batch_size=10**6).micro_batches(step, 0, 1)
    return piece.keys


@pytest.mark.parametrize("labels", [None, [0] * 40 + [1] * 7 + [3] * 3])
def test_a_step_holds_the_same_samples_with_the_same_partners_however_it_is_divided(labels):
    plan = TrainPlan(50, 13, 5, epochs=2, seed=3, labels=labels)  # 13, 13, 13 and 11 a step
    for step in range(plan.total_steps):
        group = step_keys(plan, step)
        partners = {group[i]: group[i + 1 if i % 2 == 0 else i - 1] for i in range(len(group) - 1)}
        partners[group[-1]] = group[0]
        for world in (1, 2, 3, 4):
            for batch_size in (1, 2, 3, 8):
                divided = dataclasses.replace(plan, batch_size=batch_size)
                pieces = [piece for rank in range(world) for piece in divided.micro_batches(step, rank, world)]
                rows = [row for p in pieces for row in zip(p.keys, p.weights, p.partners, strict=True)]
                learned = [(key, partner) for key, weight, partner in rows if weight > 0]
                assert learned == [(key, partners[key]) for key in group]
                alone = [(key, partner) for key, weight, partner in rows if weight == 0]
                assert all(row == (group[0], group[0]) for row in alone)
                assert np.sum([weight for _, weight, _ in rows]) == pytest.approx(1, abs=1e-6)


def test_a_step_of_one_sample_is_its_own_partner():
    plan = TrainPlan(5, 4, 4, epochs=1, seed=0)
    (piece,) = plan.micro_batches(1, 0, 1)
    assert piece.partners == piece.keys


def test_epochs_and_seeds_shuffle_differently():
    def order(seed, epoch):
        plan = TrainPlan(40, 40, 40, epochs=2, seed=seed)
        return [index for _, index in plan.micro_batches(epoch, 0, 1)[0].keys]

    assert order(0, 0) != order(0, 1) != order(1, 1)
    assert order(0, 1) == order(0, 1)


def test_weights_are_equal_within_a_step():
    plan = TrainPlan(10, 4, 4, epochs=1, seed=0)
    assert np.allclose(plan.micro_batches(0, 0, 1)[0].weights, 1 / 4)
    assert np.allclose(plan.micro_batches(2, 0, 1)[0].weights, 1 / 2), "the last step has two samples"


def epoch_draws(plan, epoch):
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    return [key for step in steps for key in step_keys(plan, step)]


@pytest.mark.parametrize("counts", [{0: 80, 2: 15, 5: 4, 9: 1}, {0: 3, 1: 3, 2: 3}, {4: 6}, {0: 50, 1: 1}])
def test_classes_are_as_even_as_can_be_and_their_videos_come_in_turn(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(list(counts), list(counts.values())))
    plan = TrainPlan(len(labels), 8, 4, epochs=7, seed=5, labels=labels.tolist())
    every_key, by_class, by_video = [], Counter(), Counter()
    for epoch in range(7):
        keys = epoch_draws(plan, epoch)
        assert len(keys) == len(labels)
        drawn = Counter(labels[index] for _, index in keys)
        assert drawn.keys() == counts.keys(), "classes without videos are left out"
        assert max(drawn.values()) - min(drawn.values()) <= 1
        by_class += drawn
        by_video += Counter(index for _, index in keys)
        every_key += keys
        assert max(by_class.values()) - min(by_class.values()) <= 1, "what is left over goes round"
        for label in counts:
            of_class = [by_video[index] for index in np.flatnonzero(labels == label)]
            assert max(of_class) - min(of_class) <= 1, "in turn, over all epochs"
    assert len(set(every_key)) == len(every_key), "or a video would be augmented in the same way twice"


def test_a_balanced_epoch_depends_on_seed_and_epoch_alone():
    labels = [0] * 20 + [1] * 5 + [2] * 2
    plan = TrainPlan(27, 5, 5, epochs=40, seed=5, labels=labels)
    late = epoch_draws(plan, 39)
    again = TrainPlan(27, 5, 5, epochs=40, seed=5, labels=labels)
    assert [epoch_draws(again, epoch) for epoch in range(40)][39] == late
    assert epoch_draws(dataclasses.replace(plan, seed=6), 39) != late
    plan = TrainPlan(20, 5, 5, epochs=4, seed=0, labels=[0] * 15 + [1] * 5)  # 10 of each class an epoch
    first, fourth = ({index for _, index in epoch_draws(plan, epoch) if index < 15} for epoch in (0, 3))
    assert first != fourth, "10 of the 15, at the beginning of the turns 0 and 2: each turn has an order of its own"
    ranks = [labels[index] for _, index in late]
    assert ranks != sorted(ranks), "classes are shuffled"


@pytest.mark.parametrize("balanced", [False, True])
def test_a_late_step_costs_no_more_than_an_early_one_and_memory_does_not_grow(balanced):
    num = 20_000
    labels = np.random.default_rng(0).integers(0, 50, num).tolist() if balanced else None
    plan = TrainPlan(num, 64, 16, epochs=10**6, seed=0, labels=labels)
    started = time.perf_counter()
    assert plan.micro_batches(plan.total_steps - 1, 0, 1)
    assert time.perf_counter() - started < 10, "all epochs before it would take hours"
    tracemalloc.start()
    try:
        for epoch in range(30):
            plan.micro_batches(epoch * plan.steps_per_epoch, 0, 1)
            if epoch == 4:
                early, _ = tracemalloc.get_traced_memory()
        late, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert late - early < 100_000, "an epoch's order is 320,000 bytes"


# ---- batches ---------------------------------------------------------------------------------------------------------

MIXING = "train.mixing={prob: 0.8}"


@pytest.mark.parametrize("labels", [None, [0, 0, 0, 1] * 30])
def test_samples_of_few_shards_are_mixed_at_a_time(labels):
    shards = np.repeat(np.arange(12), 10)
    plan = TrainPlan(120, 10, 10, epochs=2, seed=0, labels=labels, shards=shards, shards_at_once=2)
    for epoch in range(2):
        keys = epoch_draws(plan, epoch)
        order = [shards[index] for _, index in keys]
        open_shards = [set(order[:place]) & set(order[place:]) for place in range(121)]
        assert max(map(len, open_shards)) == 2
        plain = TrainPlan(120, 10, 10, epochs=2, seed=0, labels=labels)
        assert sorted(keys) == sorted(epoch_draws(plain, epoch))
    assert epoch_draws(plan, 0) != epoch_draws(plan, 1)


@pytest.fixture
def with_broken(tiny_recipe, motion_set, tmp_path):
    """A recipe whose list has 16 good videos and three that cannot be read, and its indices."""
    lines = (motion_set / "train.txt").read_text().splitlines()
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.write_bytes(b"")
    text.write_text("no video")
    for position, path in ((3, empty), (7, text), (8, empty)):
        lines.insert(position, f"{path} 1")
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(lines) + "\n")
    return load_config(tiny_recipe(), [f"train.list={listed}", "train.max_bad_share=0.5", MIXING]), {3, 7, 8}


def rows_of(dataset, plan, *, world=1, workers=0, start_step=0):
    """What is learned from in each step: key -> frames, target and index; and the failures of each step."""
    steps = range(start_step, plan.total_steps)
    rows, failures = [{} for _ in steps], [[] for _ in steps]
    for rank in range(world):
        batches = train_batches(dataset, plan, start_step=start_step, rank=rank, world=world, num_workers=workers)
        for step in steps:
            for piece in plan.micro_batches(step, rank, world):
                batch = next(batches)
                assert batch["errors"] == []
                failures[step - start_step] += batch["failures"]
                arrays = [batch[name].numpy() for name in ("frames", "targets", "indices")]
                assert [array.dtype for array in arrays] == [np.uint8, np.float32, np.int64]
                for key, weight, *row in zip(piece.keys, piece.weights, *arrays, strict=True):
                    if weight > 0:
                        assert key not in rows[step - start_step]
                        rows[step - start_step][key] = row
        assert next(batches, None) is None
    return rows, [sorted(found) for found in failures]


def assert_same(one, other):
    assert one[1] == other[1], "failures"
    for left, right in zip(one[0], other[0], strict=True):
        assert left.keys() == right.keys()
        for key in left:
            for one_array, other_array in zip(left[key], right[key], strict=True):
                np.testing.assert_array_equal(one_array, other_array, err_msg=str(key))


def test_a_step_is_the_same_whatever_the_micro_batches_processes_and_workers(with_broken):
    cfg, broken = with_broken
    dataset = build.build_train_dataset(cfg)
    plan = TrainPlan(len(dataset), 9, 19, epochs=2, seed=cfg.seed)  # steps of 9, 9 and 1
    expected = rows_of(dataset, plan)
    assert {index for found in expected[1] for index, _ in found} >= broken
    for batch_size in (1, 2, 3, 8):
        for world in (1, 2, 3):
            divided = dataclasses.replace(plan, batch_size=batch_size)
            assert_same(rows_of(dataset, divided, world=world), expected)
    for batch_size, world in ((3, 1), (2, 3)):
        divided = dataclasses.replace(plan, batch_size=batch_size)
        assert_same(rows_of(dataset, divided, world=world, workers=2), expected)


def test_clips_are_mixed_with_their_neighbours_in_the_step(with_broken):
    cfg, _ = with_broken
    dataset = build.build_train_dataset(cfg)
    flat = [*dataset.transforms, lambda frames, rng: frames[:, :20]]  # as many rows as columns would hide a swap
    dataset = dataclasses.replace(dataset, transforms=flat)
    plain = dataclasses.replace(dataset, mixing=None)
    plan = TrainPlan(len(dataset), 9, 4, epochs=1, seed=cfg.seed)
    rows, _ = rows_of(dataset, plan)
    num_mixed = 0
    for step, found in enumerate(rows):
        group = step_keys(plan, step)
        for position, key in enumerate(group):
            neighbour = position + 1 if position % 2 == 0 else position - 1
            own, other = plain[key], plain[group[neighbour] if neighbour < len(group) else group[0]]
            frames, target = own["frames"], own["target"]
            mix = dataset.mixing.draw(key, 20, 32)
            if mix is not None and len(group) > 1:
                num_mixed += 1
                frames = mix_frames(frames, other["frames"], mix)
                target = mix_targets(target, other["target"], mix)
            np.testing.assert_array_equal(found[key][0], frames)
            np.testing.assert_array_equal(found[key][1], target)
            assert found[key][2] == own["index"]
    assert 8 <= num_mixed < 19, "of 19 with probability 0.8"


def test_a_sample_that_is_not_learned_from_does_not_tell_of_failures(with_broken):
    cfg, _ = with_broken
    dataset = build.build_train_dataset(cfg)
    keys = [(0, 3), (0, 0), (0, 3)]
    batch = read_micro_batch(dataset, MicroBatch(keys, np.float32([0.5, 0.5, 0]), [(0, 7), (0, 8), (0, 3)]))
    assert [index for index, _ in batch["failures"]].count(3) == 1
    assert {index for index, _ in batch["failures"]} & {7, 8} <= {index for index, _ in dataset[0, 3]["failures"]}


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_has_the_batches_that_were_left(with_broken, balanced, workers):
    cfg, _ = with_broken
    dataset = build.build_train_dataset(cfg)
    plan = TrainPlan(len(dataset), 8, 3, 2, cfg.seed, dataset.labels if balanced else None)
    rows, failures = rows_of(dataset, plan, workers=workers)
    for start_step in range(1, plan.total_steps) if workers == 0 else (4,):
        resumed = rows_of(dataset, plan, start_step=start_step, workers=workers)
        assert_same(resumed, (rows[start_step:], failures[start_step:]))


def test_a_partner_in_the_micro_batch_is_not_read_again(tiny_recipe):
    dataset = build.build_train_dataset(load_config(tiny_recipe(), [MIXING]))
    opened = []
    transform = dataset.transforms[0]

    def counting(frames, rng):
        opened.append(1)
        return transform(frames, rng)

    dataset = dataclasses.replace(dataset, transforms=[counting, *dataset.transforms[1:]])
    plan = TrainPlan(16, 8, 4, epochs=1, seed=0)
    assert len(list(train_batches(dataset, plan, start_step=0, rank=0, world=1, num_workers=0))) == 4
    assert len(opened) == 16


def test_the_recipe_makes_the_plan(tiny_recipe):
    cfg = load_config(tiny_recipe())
    dataset = build.build_train_dataset(cfg)
    plan = build.build_plan(cfg, dataset)
    assert (plan.num_samples, plan.global_batch, plan.batch_size, plan.epochs, plan.labels) == (16, 8, 4, 2, None)
    balanced = load_config(tiny_recipe(), ["train.class_balanced=true"])
    assert build.build_plan(balanced, dataset).labels == [record.label for record in dataset.records]


@pytest.mark.parametrize(("num_batches", "way"), [(1, "close"), (4, "let go"), (12, "close"), (12, "let go")])
def test_workers_end_with_the_iterator(tiny_recipe, num_batches, way):
    dataset = build.build_train_dataset(load_config(tiny_recipe()))
    plan = TrainPlan(16, 4, 4, epochs=3, seed=0)
    before = set(multiprocessing.active_children())
    batches = train_batches(dataset, plan, start_step=0, rank=0, world=1, num_workers=2)
    for _ in range(num_batches):
        next(batches)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    if way == "close":
        batches.close()
    else:
        del batches
    assert not any(process.is_alive() for process in workers)
