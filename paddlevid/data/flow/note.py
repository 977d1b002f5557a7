"""`flow.json`: what the pictures of a folder of stored flow are."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddlevid.errors import DataError

NOTE_FILE = "flow.json"
_TYPES: dict[str, tuple[type, ...]] = {
    "algorithm": (str,),
    "bound": (int, float),
    "short_side": (int, type(None)),
    "warp": (bool,),
    "template": (str,),
    "start_index": (int,),
    "fps": (int, float, type(None)),
}


@dataclass(frozen=True)
class FlowNote:
    """How flow was computed, as in `FlowMethod`, how its pictures are called, and the number of the first.

    `fps` is that of the frames between which it was computed; None stands for all frames of a video.
    """

    algorithm: str
    bound: float
    short_side: int | None
    warp: bool
    template: str
    start_index: int = 1
    fps: float | None = None

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def read_note(folder: str | os.PathLike[str]) -> FlowNote | None:
    """The note of a folder; None where there is none. What later versions may add is passed over.

    Raises:
        DataError: it cannot be read, or is none of flow.
    """
    path = Path(folder) / NOTE_FILE
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a note of flow that tools/extract_flow.py wrote: {error}") from None
    known = {key: found[key] for key in _TYPES if key in found} if isinstance(found, dict) else {}
    wrong = [key for key, value in known.items() if not isinstance(value, _TYPES[key])]
    missing = [key for key in ("algorithm", "bound", "short_side", "warp", "template") if key not in known]
    if wrong or missing:
        reason = f"{wrong[0]} is {known[wrong[0]]!r}" if wrong else f"it has no {missing[0]}"
        raise DataError(f"{path}: not a note of flow that tools/extract_flow.py wrote: {reason}")
    return FlowNote(**known)


def find_note(path: str | os.PathLike[str]) -> tuple[Path, FlowNote] | None:
    """The note nearest above a folder of flow, and where it lies; None where there is none.

    Raises: as `read_note`.
    """
    for folder in Path(os.path.abspath(path)).parents:
        note = read_note(folder)
        if note is not None:
            return folder, note
    return None
