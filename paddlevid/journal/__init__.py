"""What one looks at while a model trains."""

from paddlevid.journal.journal import Journal, read_metrics

__all__ = ["Journal", "read_metrics"]
