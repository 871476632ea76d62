"""ChemBERTa-2: a network that learned to compute properties of molecules is a better start for thirty measured solubilities.

The molecules whose solubility is measured are small, those of MOSES drug-like and of one size: pre-training has some of both, none of the test molecules. Rates, steps and
what is pre-trained on were chosen on seeds 100 and 101: 0.001 to 0.005, MOSES alone (which teaches less), the measured molecules alone (also less), another SMILES at every
step (no better). Each way of fine-tuning has the rate of 0.0003, 0.001 and 0.003 that was best for it. The pool of labels is drawn anew for every seed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from understudy import keyed, models
from understudy.claims import Claim, accuracy, beats, learn, probe
from understudy.data import known
from understudy.data.samples import Batch
from understudy.systems.graph_sci.chemberta_2 import ChemBERTa2

PRETRAINING, TUNING, LABELS, TEST = 400, 100, 10, 500


class Shuffled(ChemBERTa2):
    """Every molecule has the properties of another one, always the same."""

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return super().targets(batch.samples.batch(keyed.permutation(5, len(batch.samples))[batch.index]))


def run(seed: int) -> dict[str, float]:
    drugs, measured = known.molecules()
    order = keyed.permutation(int(keyed.fold(seed, "test")), len(measured))
    test, pool = measured.take(order[:TEST]), measured.take(order[TEST:])
    few = known.few_labels(pool, LABELS, seed).labelled
    unlabelled = drugs.take(torch.arange(1500)).joined(pool.relabelled(torch.full_like(pool.labels, -1)))
    start = models.build("tiny-molecule", drugs.modality, (), seed)

    def pretrained(system: str | type[ChemBERTa2], **settings: str) -> models.Student:
        return learn(system, start, unlabelled, seed=seed, steps=PRETRAINING, settings=settings, train__batch=32, optim__lr=3e-3).student

    def tuned(student: models.Student, rate: float) -> float:
        return accuracy(learn("supervised", student, few, seed=seed, steps=TUNING, train__batch=30, optim__lr=rate).student, test)

    computed = pretrained("chemberta-2")
    return {
        "computed properties": probe(computed, few, test),
        "no pre-training": probe(start, few, test),
        "hidden tokens": probe(pretrained("chemberta-2", objective="mlm"), few, test),
        "properties of other molecules": probe(pretrained(Shuffled), few, test),
        "computed properties, fine-tuned": tuned(computed, 3e-4),
        "no pre-training, fine-tuned": tuned(start, 1e-3),
    }


claim = Claim(
    system="chemberta-2",
    says="A linear probe on thirty measured solubilities is more accurate on features pre-trained to predict computed properties than on untrained ones.",
    effect=("computed properties", "no pre-training"),
    run=run,
    negative=("properties of other molecules",),
    observed={
        "predicting computed properties beats predicting hidden tokens": lambda f: beats(f["computed properties"], f["hidden tokens"]),
        "it is also the better start for fine-tuning": lambda f: beats(f["computed properties, fine-tuned"], f["no pre-training, fine-tuned"]),
    },
    data="2,282 molecules without labels (1,500 of MOSES); 1,282 measured solubilities in three classes, 30 with their label and 500 to test",
    minutes_budget=4,
)
