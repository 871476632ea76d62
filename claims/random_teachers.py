"""Random teachers (2302.12091): a student that learns what an untrained network says has better features than that network, on natural inputs only.

Digits on a canvas of 20 x 20 pixels; a small residual network without batch norm, whose statistics would change features by themselves; probed with five labels a
class (mean of ten draws). Arms: the teacher (the control); the student; the student's own start; a student that has as many steps on Gaussian noise of the images'
mean and spread, which must fail: the paper finds no gain there.

Not run on seeds 0 to 4 yet. Tried on seed 100, up to 400 steps: temperatures 1, 0.1, 0.05, 0.02 and rates from 0.0003 to 0.01. Without batch norm the student gained
0.00 to 0.01 here, and as much on noise (0.157 to 0.164 and 0.163); with batch norm 0.02 to 0.07, and as much on noise; a vision transformer on digits of 8 x 8
pixels 0.04 to 0.07, and 0.05 to 0.06 on noise. The paper trains 100 epochs and more on 50,000 images: nothing of its effect has been seen here.
"""

import torch

from understudy import evaluate, keyed, models
from understudy.claims import Claim, beats, learn
from understudy.data import known
from understudy.data.samples import InMemory, Samples
from understudy.data.split import hold_out
from understudy.models import Student

STEPS, SHOTS = 400, 5
SETTINGS = {"prototypes": 512, "hidden": 128, "bottleneck": 64, "distance": 0.5, "temperature": 1.0}
COMMON = {"optim__lr": 1e-3, "train__batch": 64}


def noise(samples: Samples, seed: int) -> Samples:
    """Images of noise with the mean and the spread of the samples'."""
    image = samples.encoded.raw(samples.positions)["image"].float()
    drawn = image.mean() + image.std() * keyed.normal(keyed.fold(keyed.fold(seed, "noise"), samples.keys), image.shape[1:])
    return Samples(samples.modality, InMemory({"image": drawn.clamp(0, 255).to(torch.uint8)}), samples.ids, samples.labels, samples.classes)


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.digits_on_canvas(20, seed), 0.4, seed)
    unlabelled = known.few_labels(train, 0, seed)
    teacher = models.build("tiny-resnet", train.modality, train.classes, seed, norm=False)

    def probed(student: Student) -> float:
        return evaluate.few_shot(evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels, SHOTS, key=seed).mean

    def student(samples: Samples, rate: float = 1e-3) -> float:
        return probed(learn("random-teachers", teacher, samples, seed=seed, steps=STEPS, settings=SETTINGS, **{**COMMON, "optim__lr": rate}).student)

    return {
        "teacher": probed(teacher),
        "student": student(unlabelled),
        "start": student(unlabelled, 1e-12),
        "student of noise": student(noise(unlabelled, seed)),
    }


claim = Claim(
    system="random-teachers",
    says="A few-shot probe on the student's features beats the same probe on those of its random teacher.",
    effect=("student", "teacher"),
    run=run,
    negative=("student of noise",),
    checks={"it has moved away from a worse start": lambda f: beats(f["student"], f["start"])},
    data="digits on a canvas, probed with five labels a class",
    minutes_budget=3,
)
