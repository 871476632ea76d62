"""Students, their backbones and heads, and how they are saved."""

from understudy.models.backbone import Backbone, Features, seeded
from understudy.models.choose import build, published
from understudy.models.detection import Detector
from understudy.models.io import load, save
from understudy.models.policy import Policy
from understudy.models.segmentation import Segmenter
from understudy.models.student import Drawing, Student
from understudy.models.taps import Taps

__all__ = ["Backbone", "Detector", "Drawing", "Features", "Policy", "Segmenter", "Student", "Taps", "build", "load", "published", "save", "seeded"]
