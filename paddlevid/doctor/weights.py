"""Whether a file of weights fits the model of a recipe."""

from __future__ import annotations

from collections.abc import Iterator

from paddlevid.doctor.findings import Finding, error, ok, one_line, warning
from paddlevid.errors import UserError
from paddlevid.schema import Config


def check_weights(cfg: Config, path: str) -> Iterator[Finding]:
    """What would become of the tensors of a file, without reading their numbers."""
    from paddlevid.build import build_model
    from paddlevid.weights.load import plan_load

    try:
        report = plan_load(build_model(cfg), path).report
    except UserError as reason:
        yield error("weights", one_line(reason))
        return
    told = f"{len(report.loaded)} tensors fit; {len(report.new)} of the model stay new"
    told += f"; {len(report.dropped)} of the file are left out" if report.dropped else ""
    if report.start_only or report.new:
        yield warning("weights", told, report.start_only or "to train from; to test or to export it needs all of them")
    else:
        yield ok("weights", told)
    if norm := report.norm_warning(cfg.data.mean, cfg.data.std):
        yield warning("mean and std", norm)
