import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from paddlevid.weights.zoo import FAMILIES, list_weights, sha256_in_name

ROOT = Path(__file__).resolve().parents[2]
TABLE = list_weights()


def run_tool(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "list_weights.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_names_and_addresses_are_unique_and_no_paths():
    names = [weights.name for weights in TABLE]
    assert len(set(names)) == len({weights.url for weights in TABLE}) == len(TABLE)
    for name in names:
        assert re.fullmatch(r"[a-z0-9_]+", name)


@pytest.mark.parametrize("weights", TABLE, ids=lambda weights: weights.name)
def test_rows_hold_together(weights):
    parts = urlsplit(weights.url)
    assert parts.scheme == "https"
    assert parts.path.endswith((".pdparams", ".pyth", ".pth", ".safetensors"))
    assert weights.family in FAMILIES
    assert weights.name.startswith(weights.family) == (weights.family != "image")
    assert weights.licence
    for score in (weights.top1, weights.top5):
        assert score is None or 0 < score < 100
    if weights.top1 is not None and weights.top5 is not None:
        assert weights.top1 < weights.top5
    assert (weights.top1 is None) == (weights.protocol == "-") == (weights.family == "image")
    assert weights.sha256 is None or re.fullmatch("[0-9a-f]{8,64}", weights.sha256)
    assert weights.md5 is None or re.fullmatch("[0-9a-f]{32}", weights.md5)
    # what an address says of its file agrees with its row
    assert re.search(
        {"SSv2": "ssv2|somethingv2|sthv2", "K400": "k400|kinetics"}.get(weights.data, ""), weights.url, re.I
    )
    depth = re.match(r"R(\d+)", weights.clip)
    assert depth is None or weights.source == "PaddleVideo" or re.search(f"r(esnet)?{depth[1]}", weights.url)


def test_an_address_that_the_readme_of_mmaction2_gives():
    weights = next(weights for weights in TABLE if weights.name == "tsm_r101_ssv2_mmaction2")
    assert weights.url == (
        "https://download.openmmlab.com/mmaction/v1.0/recognition/tsm/"
        "tsm_imagenet-pretrained-r101_8xb16-1x1x8-50e_sthv2-rgb/"
        "tsm_imagenet-pretrained-r101_8xb16-1x1x8-50e_sthv2-rgb_20230320-efcc0d1b.pth"
    )
    assert weights.sha256 == "efcc0d1b"


def test_what_costs_accuracy_is_noted():
    for weights in TABLE:
        if weights.family == "timesformer":
            assert ("BGR" in weights.note) == (weights.data == "SSv2")
            assert ("mean 0.5" in weights.note) == (weights.source == "MMAction2")


def test_hashes_are_read_from_names_of_known_hosts_alone():
    assert sha256_in_name("https://download.pytorch.org/models/resnet50-0676ba61.pth") == "0676ba61"
    assert sha256_in_name("https://download.pytorch.org/models/resnet50.pth") is None
    assert sha256_in_name("https://example.org/resnet50-0676ba61.pth") is None


def test_the_tool_prints_an_aligned_table_without_paddle():
    code = (
        f"import runpy, sys; sys.argv = ['list_weights.py']; sys.path.insert(0, {str(ROOT)!r})\n"
        f"runpy.run_path({str(ROOT / 'tools' / 'list_weights.py')!r}, run_name='__main__')\n"
        "assert not {'paddle', 'numpy'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"COLUMNS": "120"})
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    header, rows = lines[0], lines[1 : len(TABLE) + 1]
    assert [row.split()[0] for row in rows] == [weights.name for weights in TABLE]
    for row, weights in zip(rows, TABLE, strict=True):
        assert row[header.index("licence") :].startswith(weights.licence)
        assert row[header.index("top-1") :].startswith("-" if weights.top1 is None else str(weights.top1))


def test_the_tool_selects():
    addresses = run_tool("--family", "tsm", "--urls", "*_SSv2").stdout.split()
    assert addresses[::2] == ["tsm_r50_ssv2", "tsm_r50_16f_ssv2", "tsm_r101_ssv2"]
    assert all(address.startswith("https://") for address in addresses[1::2])
    table = json.loads(run_tool("--json", "resnet50").stdout)
    assert {row["name"]: row["sha256"] for row in table}["resnet50_imagenet_torchvision"] == "0676ba61"
    nothing = run_tool("--family", "tsn", "ssv2")
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("error: no public weights of the family tsn have a name like 'ssv2'")
