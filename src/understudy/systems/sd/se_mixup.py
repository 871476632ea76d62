"""SE mixup: what the model finds easy is mixed first, what it finds hard later, and its own answers soften the labels that are mixed."""

from __future__ import annotations

import torch
from pydantic import Field

from understudy import maths
from understudy.data.samples import Samples
from understudy.engine import distribution
from understudy.models.predict import predict
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Outcome, Plan

card = Card(
    slug="se-mixup",
    id="s279",
    title="Self-Evolution Learning for Mixup: Enhance Data Augmentation on Few-Shot Text Classification Tasks",
    paper="2305.13547",
    year=2023,
    family="sd",
    modalities=("text", "image", "table"),
    needs="labels",
    idea="A model that has learned the labels says how sure it is of each: that makes one half of every class easy and the other hard. It goes on with mixtures of two "
    "easy samples, and then of two hard ones. The labels in a mixture are no longer one-hot: a share of each is what the model itself now answers to that sample.",
    equations=(
        "d(x) = p(y | x), p the model after plain training; easy are the samples of a class above its median, hard the others",
        "y' = (1 - s) y + s softmax f(x), for both samples of a pair, drawn from easy in the first half of the steps and from hard in the second",
        "loss = CE(w y'_i + (1 - w) y'_j, f(w h(x_i) + (1 - w) h(x_j))), w from Beta(a, a), h the pooled features",
    ),
    unknown="Read were the abstract, the opening and a figure's caption, not the method section. So ours are: the score (probability of the label), that each class is "
    "cut at its own median (cut over all of them, mixing the hard half unlearned much of what ten digits a class had taught), that the model goes on from the weights that scored, "
    "that no easy sample comes back among the hard, equal halves, partners drawn at random, and every number. The paper puts its labels under four mixups of words, spans "
    "or hidden layers; here the pooled features are mixed, which any backbone has.",
)


class SEMixupSettings(Settings):
    """Settings of ``se-mixup``; those of the mixing are ``se-mixup-student``."""

    first: float = Field(0.4, gt=0, lt=1, description="share of the steps that plainly learns the labels, after which samples are scored (ours)")
    easy: float = Field(0.5, gt=0, lt=1, description="share of each class that counts as easy (ours: cut at the median)")


class SEMixup(Plan):
    """Learn, score, mix the easy ones, mix the hard ones."""

    card = card
    Settings = SEMixupSettings
    defaults = {"train.batch": 32}

    def run(self) -> Outcome:
        s, labelled = self.settings, self.task.train.labelled
        student = self.stage("1-labels", "supervised", self.task.student, train=labelled, settings={"view": "plain"}, common=self.share(s.first)).student
        easy, hard = parted(labelled, student, s.easy, distribution.start(self.task.settings.device))
        half = self.share((1 - s.first) / 2)
        student = self.stage("2-easy", "se-mixup-student", student, train=easy, common=half).student
        student = self.stage("3-hard", "se-mixup-student", student, train=hard, common=half).student
        return Outcome(student, {"easy": len(easy), "hard": len(hard)})


def parted(labelled: Samples, student: Student, share: float, device: torch.device | str | None = None) -> tuple[Samples, Samples]:
    """The ``share`` of every class whose label the student finds most probable, and the others; where it is equally sure of all, these are both."""
    sure = predict(student, labelled, device=device).softmax(-1).gather(1, labelled.labels.unsqueeze(1)).squeeze(1)
    easy = maths.select_balanced(sure, labelled.labels, len(labelled.classes), share)
    return labelled.take(easy), labelled.take(~easy if not bool(easy.all()) else easy)
