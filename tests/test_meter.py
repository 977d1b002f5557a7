"""What a user is told whose model waits for its data."""

import pytest

from paddlevid.training import meter
from paddlevid.training.meter import Averages, advice_on_waiting


def averages(clips_per_second, data_wait_share):
    return Averages(1.0, 0.5, 1.0, clips_per_second, data_wait_share, 1.0, 0, 0)


@pytest.mark.parametrize(
    ("cores", "workers", "processes", "cure"),
    [
        (16, 4, 1, "set train.num_workers=16 (16 cores here; 20 would be enough)"),
        (64, 4, 1, "set train.num_workers=20 (64 cores here; 20 would be enough)"),
        (64, 4, 8, "set train.num_workers=8 (64 cores here; 20 would be enough)"),
        (16, 0, 1, "set train.num_workers=5 (16 cores here; 5 would be enough)"),
        (2, 0, 1, "set train.num_workers=2 (2 cores here; 5 would be enough)"),
        (4, 4, 1, "with 4 cores here, more workers would hardly help"),
        (16, 4, 8, "with 16 cores here, more workers would hardly help"),
    ],
)
def test_the_cure_is_within_what_the_host_has(monkeypatch, cores, workers, processes, cure):
    monkeypatch.setattr(meter, "num_cores", lambda: cores)
    advice = advice_on_waiting(averages(3.0, 0.8), workers, processes)
    assert "80% of the time: 3 clips a second" in advice
    assert "the model could take 15;" in advice  # 3 of them in a fifth of the time
    assert cure in advice
