"""A folder of features -> one file with all of them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from paddlevid.deploy.features.files import Item, Shard, printable, write_npy, write_shared
from paddlevid.errors import ConfigError, DataError

SET_FORMATS = ("npz", "parquet")


def check_set_format(form: str) -> None:
    """Raises ConfigError where a package is missing, before anything is computed."""
    if form == "parquet" and find_spec("pyarrow") is None:
        raise ConfigError("--format parquet needs pyarrow: pip install pyarrow (or use --format npz)")


def write_set(folder: Path, items: Sequence[Item], form: str, shard: Shard) -> Path:
    """Write `features.npz` or `features.parquet` of all items that have features, in their order.

    npz: `names` `[N]` and `features` `[N, clips, D]`. parquet: a row a clip, with `name`, `clip` and `features`.
    """
    path = folder / f"features.{form}"
    first = _read(folder / items[0].file)
    writer = {"npz": _write_npz, "parquet": _write_parquet}[form]
    write_shared(path, shard, lambda temporary: writer(temporary, folder, items, first))
    return path


def _read(path: Path) -> np.ndarray:
    """Features `[clips, D]`. Raises DataError for a file that holds none."""
    try:
        with path.open("rb") as file:
            features = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # numpy parses headers as Python, and damaged ones fail in as many ways
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read: {reason}; remove it and run again") from None
    if features.ndim != 2:
        raise DataError(f"{path}: {list(features.shape)} are no features of clips; remove it and run again")
    return features


def _read_all(folder: Path, items: Sequence[Item], first: np.ndarray) -> Iterator[np.ndarray]:
    for item in items:
        path = folder / item.file
        features = _read(path)
        if features.shape != first.shape or features.dtype != first.dtype:
            raise DataError(f"{path}: {features.dtype} {list(features.shape)}, others {list(first.shape)}; remove it")
        yield features


def _write_npz(path: str, folder: Path, items: Sequence[Item], first: np.ndarray) -> None:
    names = np.array([item.name for item in items])
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        # A ZipInfo has a fixed date: the same features, the same bytes
        with archive.open(zipfile.ZipInfo("names.npy"), "w", force_zip64=True) as file:
            write_npy(file, names.dtype, names.shape, [names])
        with archive.open(zipfile.ZipInfo("features.npy"), "w", force_zip64=True) as file:
            write_npy(file, first.dtype, (len(items), *first.shape), _read_all(folder, items, first))


def _write_parquet(path: str, folder: Path, items: Sequence[Item], first: np.ndarray, group: int = 1024) -> None:
    import pyarrow
    from pyarrow import parquet

    num_clips, dim = first.shape
    number = pyarrow.from_numpy_dtype(first.dtype)
    schema = pyarrow.schema(
        [("name", pyarrow.string()), ("clip", pyarrow.int32()), ("features", pyarrow.list_(number, dim))]
    )
    features = _read_all(folder, items, first)
    with open(path, "wb") as file, parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(items), group):
            names = [printable(item.name) for item in items[start : start + group]]
            rows = np.stack([next(features) for _ in names])  # [N, clips, D]
            columns = [
                pyarrow.array(np.repeat(names, num_clips).tolist(), pyarrow.string()),
                pyarrow.array(np.tile(np.arange(num_clips, dtype=np.int32), len(names))),
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1), number), dim),
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
