"""What the doctor says: one line a finding, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Status = Literal["ok", "warning", "error"]

STATUS_WIDTH = len("warning")
WHAT_WIDTH = 16


class Finding(NamedTuple):
    """`found` about `what`, in a few words each; `advice` is what to do about it."""

    status: Status
    what: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        text = f"  {self.status:{STATUS_WIDTH}}  {self.what:{WHAT_WIDTH}}  {self.found}"
        return f"{text}\n{' ' * (STATUS_WIDTH + WHAT_WIDTH + 6)}-> {self.advice}" if self.advice else text


def ok(what: str, found: str, advice: str = "") -> Finding:
    return Finding("ok", what, found, advice)


def warning(what: str, found: str, advice: str = "") -> Finding:
    return Finding("warning", what, found, advice)


def error(what: str, found: str, advice: str = "") -> Finding:
    return Finding("error", what, found, advice)


def first_few(words: Iterable[object], limit: int = 3) -> str:
    """The first of some words, and how many more there are."""
    texts = [str(word) for word in words]
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more" if len(texts) > limit else "")


def one_line(text: object, limit: int = 300) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()[:limit]


def gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g} GB"
