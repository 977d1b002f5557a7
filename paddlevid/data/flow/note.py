"""`flow.json`: what the pictures of a folder of stored flow are."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddlevid.errors import DataError

NOTE_FILE = "flow.json"


@dataclass(frozen=True)
class FlowNote:
    """How flow was computed, as in `FlowMethod`, and how its pictures are called."""

    algorithm: str
    bound: float
    short_side: int | None
    warp: bool
    template: str

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def read_note(folder: str | os.PathLike[str]) -> FlowNote | None:
    """The note of a folder; None where there is none.

    Raises:
        DataError: it cannot be read, or is none of flow.
    """
    path = Path(folder) / NOTE_FILE
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return FlowNote(**found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a note of flow that tools/extract_flow.py wrote: {error}") from None
