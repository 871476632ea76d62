"""What a source holds: the samples, and everything a person should know about them before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from understudy.data.modalities import SceneModality
from understudy.data.samples import Samples
from understudy.errors import UserError


@dataclass
class Facts:
    """What was found, for people and for run.json (``dataclasses.asdict`` gives JSON)."""

    path: str
    kind: str
    """The kind of data: image, text, table, generation ..."""
    samples: int = 0
    labelled: int = 0
    test: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    """Labelled training samples of every class."""
    test_classes: dict[str, int] = field(default_factory=dict)
    content: dict[str, object] = field(default_factory=dict)
    """Images: sizes, modes, formats; texts: characters, tokens; tables: columns, dropped."""
    copies_within: int = 0
    """Training samples that are exact copies of an earlier one."""
    conflicting: int = 0
    """Of these, copies with another label than the first."""
    copies_across: int = 0
    """Training samples that are exact copies of a test sample."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of what went to quarantine."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Files that are no samples, by suffix."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """An opened source. Training samples are labelled and unlabelled together; ``labels`` -1 means none."""

    train: Samples
    test: Samples | None
    facts: Facts
    sentences: list[str]
    """What the content says about itself: sizes, lengths, columns."""

    @property
    def modality(self) -> str:
        """The kind of data: image, text, table ..."""
        return self.facts.kind

    def describe(self) -> list[str]:
        """What was found, in sentences."""
        facts, noun = self.facts, self.train.modality.noun
        without = facts.samples - facts.labelled
        known = (
            f"{facts.labelled:,} with an answer, {without:,} without" if facts.kind == "generation" else f"{facts.labelled:,} labelled, {without:,} unlabelled"
        )
        said = [f"{facts.path} holds {facts.samples:,} {noun}: {known}."]
        if facts.classes and facts.kind != "generation":
            said.append(f"{len(facts.classes)} class{'es' if len(facts.classes) > 1 else ''}: {_counts(facts.classes)}.")
        if self.test is not None:
            of = "" if facts.kind == "generation" or not facts.test_classes else f" of {sum(n > 0 for n in facts.test_classes.values())} classes"
            said.append(f"Test data: {facts.test:,} {noun}{of}, looked at once, at the end.")
        said += self.sentences
        if facts.copies_within:
            labels = f", {facts.conflicting:,} of them with another label than the first" if facts.conflicting else ""
            said.append(f"{facts.copies_within:,} training {noun} are exact copies of earlier ones{labels}.")
        if facts.copies_across:
            what = "they stay, since rows can be equal by chance" if facts.kind == "table" else "they were left out of training"
            said.append(f"{facts.copies_across:,} training {noun} are exact copies of test {noun}: {what}.")
        if facts.unreadable:
            listed = "; ".join(f"{path}: {reason}" for path, reason in facts.unreadable[:3]) + ("; ..." if len(facts.unreadable) > 3 else "")
            said.append(f"{len(facts.unreadable):,} could not be read and went to quarantine ({listed}).")
        if facts.ignored:
            said.append(f"{sum(facts.ignored.values()):,} other files were ignored: {_counts(facts.ignored)}.")
        return said + [f"{note[0].upper()}{note[1:]}." for note in facts.notes]


def _counts(counts: Mapping[str, int], most: int = 12) -> str:
    listed = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:most])
    return listed if len(counts) <= most else f"{listed} and {len(counts) - most:,} more"


def require_trainable(samples: Samples) -> None:
    """Raise UserError where the labels can not make a classifier: none, of one class only, or too few to hold any out."""
    labels = samples.labels[samples.labels >= 0]
    if isinstance(samples.modality, SceneModality):
        if len(labels) < 4:
            raise UserError(
                f"{len(labels)} labelled {samples.modality.noun} are too few: some are held out for validation and for the final figure; label at least four"
            )
        return
    counts = {samples.classes[c]: n for c, n in zip(*(t.tolist() for t in labels.unique(return_counts=True)), strict=True)}
    if not counts:
        raise UserError("nothing is labelled: give --labels FILE, a folder for every class, or a label column")
    if len(counts) == 1:
        raise UserError(f"all {len(labels):,} labels say {next(iter(counts))!r}: a classifier needs samples of at least two classes")
    if sum(n > 1 for n in counts.values()) < 2:
        raise UserError(f"the labels are too few ({_counts(counts)}): some are held out for validation, so at least two classes need two labelled samples each")
