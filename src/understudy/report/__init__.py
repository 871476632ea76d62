"""The HTML report: what a run found, in one file that opens offline."""

from understudy.report.embedding import place
from understudy.report.gallery import changed_minds, drawn, seen_by_both, trusted, worst_mistakes
from understudy.report.page import rebuild, render, write
from understudy.report.record import CoverageCurve, EmbeddingMap, Exhibit, Gallery, ModelFacts, ReportRecord, Score, Stage, load, save

__all__ = [
    "CoverageCurve", "EmbeddingMap", "Exhibit", "Gallery", "ModelFacts", "ReportRecord", "Score", "Stage", "changed_minds", "drawn", "load", "place", "rebuild",
    "render", "save", "seen_by_both", "trusted", "worst_mistakes", "write",
]  # fmt: skip
