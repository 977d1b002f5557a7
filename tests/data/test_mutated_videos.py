"""Mutated files through every decoder, each in a process that may die: none of them may, and none may take long."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from paddlevid.data.isolated import NoResult, run_isolated
from paddlevid.data.video import open_video
from paddlevid.errors import DataError

av = pytest.importorskip("av")
from mutated_videos import MUTATIONS, SOURCES, Outcome, read_clip, write_mutated  # noqa: E402
from video_kinds import KINDS, write_kind  # noqa: E402

DECODERS = ("pyav", "decord", "opencv")
MAX_SECONDS = 10.0
MAX_MIB = 1500.0  # of a process, with its libraries


def read_mutated(folder: Path, numbers: range) -> dict[str, list[Outcome]]:
    """What came of each file; fails if a process died or hung."""
    missing = {KINDS[name].codec for name in SOURCES} - set(av.codecs_available)
    if missing:
        pytest.skip(f"this PyAV cannot write {', '.join(missing)}")
    for name in ("decord", "cv2"):
        pytest.importorskip(name)
    jobs = [(write_mutated(folder, number), decoder) for number in numbers for decoder in DECODERS]
    outcomes: dict[str, list[Outcome]] = {decoder: [] for decoder in DECODERS}
    failures = []
    for index, answer in run_isolated(read_clip, jobs, num_workers=2, timeout_sec=MAX_SECONDS):
        path, decoder = jobs[index]
        if isinstance(answer, NoResult):
            failures.append(f"{decoder} {path.name}: {answer.reason}")
        else:
            outcomes[decoder].append(answer)
            assert "\n" not in answer.message
    assert not failures
    return outcomes


def check_outcomes(outcomes: dict[str, list[Outcome]], count: int) -> None:
    for decoder, row in outcomes.items():
        assert len(row) == count
        num_read = sum(not outcome.message for outcome in row)
        assert 0 < num_read < count, f"{decoder}: of {count} mutated files {num_read} are read"
        assert max(outcome.seconds for outcome in row) < MAX_SECONDS
        assert max(outcome.peak_mib for outcome in row) < MAX_MIB


def test_some(tmp_path: Path) -> None:
    numbers = range(1, 2 * len(MUTATIONS) * len(SOURCES), len(SOURCES) + 1)
    assert len(numbers) == 10
    check_outcomes(read_mutated(tmp_path, numbers), len(numbers))


@pytest.mark.slow
def test_300(tmp_path: Path) -> None:
    check_outcomes(read_mutated(tmp_path, range(300)), 300)


def test_each_mutation_changes_each_source(tmp_path: Path) -> None:
    for number in range(len(MUTATIONS) * len(SOURCES)):
        path = write_mutated(tmp_path, number)
        assert path.read_bytes() != (tmp_path / SOURCES[number % len(SOURCES)]).read_bytes()


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_head_that_promises_huge_pictures(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "huge.avi"
    content = bytearray(write_kind(tmp_path, "huffyuv.avi").read_bytes())
    at = content.index(b"strf") + 8 + 4  # BITMAPINFOHEADER: size, width, height
    assert struct.unpack_from("<2i", content, at) == (96, 64)
    struct.pack_into("<2i", content, at, 16000, 16000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"huge\.avi: {decoder} cannot open this video: .*16000x16000 pixels"):
        open_video(path, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_tables_that_promise_two_billion_frames(tmp_path: Path, decoder: str) -> None:
    """Samples of one size need no table of sizes: the count alone says how many there are."""
    source = write_kind(tmp_path, "intra.mp4").read_bytes()
    path = tmp_path / "many.mp4"
    content = bytearray(source)
    sizes = content.index(b"stsz") + 8
    struct.pack_into(">2I", content, sizes, 1, 2**31 - 1)
    runs = content.index(b"stsc") + 8
    struct.pack_into(">4I", content, runs, 1, 1, 2**31 - 1, 1)
    times = content.index(b"stts") + 8
    struct.pack_into(">3I", content, times, 1, 2**31 - 1, 512)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"many\.mp4: "):
        open_video(path, decoder)


def test_a_track_that_promises_more_frames_than_bytes(tmp_path: Path) -> None:
    """decord 0.6 makes room for them before it looks, and ends the process: in `stts`, of a run too many."""
    content = bytearray(write_kind(tmp_path, "uneven.mp4").read_bytes())
    times = content.index(b"stts") + 8
    assert struct.unpack_from(">2I", content, times)[1] < 2**31
    content[times + 4] |= 0x80
    path = tmp_path / "more.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"more\.mp4: damaged: its head promises 2147483\d+ frames"):
        open_video(path, "decord")
