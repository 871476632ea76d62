"""Teachers: anything that answers."""

from understudy.teachers.annotators import Annotator
from understudy.teachers.base import Signals, Teacher
from understudy.teachers.kinds import EMA, Ensemble, Frozen, OwnExit, PastCheckpoint
from understudy.teachers.labelling import label, relabel, store_for
from understudy.teachers.on_ray import label_on_ray
from understudy.teachers.remembered import Memory, Remembered
from understudy.teachers.server import Server
from understudy.teachers.spoken import Call
from understudy.teachers.stored import Stored
from understudy.teachers.tokens import label_tokens, token_store_for

__all__ = [
    "EMA",
    "Annotator",
    "Call",
    "Ensemble",
    "Frozen",
    "OwnExit",
    "Memory",
    "PastCheckpoint",
    "Remembered",
    "Server",
    "Signals",
    "Stored",
    "Teacher",
    "label",
    "label_on_ray",
    "label_tokens",
    "relabel",
    "store_for",
    "token_store_for",
]
