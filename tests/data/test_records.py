"""Records hold what was put into them, in few bytes, and travel to other processes."""

import pickle
import tracemalloc

import numpy as np
import pytest

from paddlevid.data.records import Record, Records, digest_of, labels_of

FIELDS = [
    ("a b,c.mp4", 3, None, None),
    ("ünï/码.avi", None, 12, None),
    ("/abs/x.mp4", None, None, (0, 4, 7)),
    ("", 0, 1, None),
    ("none.mp4", None, None, ()),
]


@pytest.fixture
def records():
    records = Records("root")
    for name, label, num_frames, labels in FIELDS:
        records.append(name, label, num_frames, labels)
    return records


def test_records_are_those_that_were_added(records):
    paths = ["root/a b,c.mp4", "root/ünï/码.avi", "/abs/x.mp4", "root/", "root/none.mp4"]
    expected = [
        Record(path, label, num_frames, name, labels)
        for path, (name, label, num_frames, labels) in zip(paths, FIELDS, strict=True)
    ]
    assert list(records) == expected
    assert records == expected
    assert list(records.paths()) == paths
    assert records != expected[:-1]
    assert records[-1] == expected[-1]
    assert records[np.int64(1)] == expected[1]
    assert records[1:4:2] == expected[1:4:2]
    assert pickle.loads(pickle.dumps(records)) == expected
    with pytest.raises(IndexError):
        records[5]
    np.testing.assert_array_equal(labels_of(records, -1), [3, -1, -1, 0, -1])
    np.testing.assert_array_equal(labels_of(expected, -1), [3, -1, -1, 0, -1])


def test_a_long_list_costs_little_more_than_its_text():
    tracemalloc.start()
    records = Records("root")
    for number in range(20_000):
        records.append(f"class_{number % 400:03d}/{number:011x}.mp4", number % 400)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 4 * 26 * len(records)  # 26 bytes a name
    assert len(pickle.dumps(records)) < 3 * 26 * len(records)


def test_a_digest_tells_other_names_labels_and_orders(records):
    changes = [("x", 3, None, None), ("a b,c.mp4", 4, None, None), ("a b,c.mp4", None, None, (3,))]
    lists = [FIELDS, FIELDS[::-1], FIELDS[:-1], *([change, *FIELDS[1:]] for change in changes)]
    digests = set()
    for fields in lists:
        other = Records("another root")
        for field in fields:
            other.append(*field)
        assert digest_of(list(other)) == digest_of(other)
        digests.add(digest_of(other))
    assert len(digests) == len(lists)
    assert digest_of(records) in digests
