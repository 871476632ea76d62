"""What a student is worth, with and without labels, and how far each figure can be trusted."""

from understudy.evaluate.answers import solved, solved_within
from understudy.evaluate.boxes import BoxMatches
from understudy.evaluate.comparison import Coverage, Fidelity, coverage_curve, fidelity
from understudy.evaluate.drawn import counts, drawn
from understudy.evaluate.evaluation import Evaluation, LabelFree, evaluate, label_free
from understudy.evaluate.metrics import Gain, Proportion, accuracy, confusion, macro_f1, paired_gain
from understudy.evaluate.probes import FewShot, few_shot, finetune_probe, knn, linear_probe
from understudy.evaluate.scenes import PixelCounts, mean_iou, mean_iou_gain, pixel_counts
from understudy.evaluate.speed import SizeAndSpeed, size_and_speed
from understudy.models.predict import features, predict

__all__ = [
    "BoxMatches", "Coverage", "Evaluation", "Fidelity", "FewShot", "Gain", "LabelFree", "PixelCounts", "Proportion", "SizeAndSpeed", "accuracy", "confusion", "counts", "coverage_curve", "drawn", "evaluate",
    "features", "few_shot", "fidelity", "finetune_probe", "knn", "label_free", "linear_probe", "macro_f1", "mean_iou", "mean_iou_gain", "paired_gain", "pixel_counts", "predict", "size_and_speed", "solved", "solved_within",
]  # fmt: skip
