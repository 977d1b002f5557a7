"""What a test leaves behind: a summary, the scores of each video, and a page to look at."""

from paddlevid.report.page import write_report
from paddlevid.report.scores import protocol, read_scores, summarize, write_scores

__all__ = ["protocol", "read_scores", "summarize", "write_report", "write_scores"]
