from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import understudy.report as report
from understudy.data.modalities.image import ImageModality
from understudy.data.modalities.table import TableModality
from understudy.data.modalities.text import TextModality
from understudy.data.samples import InMemory, Samples
from understudy.errors import UserError
from understudy.evaluate import Gain
from understudy.report import journal, pictures
from understudy.report.gallery import as_seen
from understudy.report.page import duration, size
from understudy.report.verdict import verdict

EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Tags, attributes and ids of a page; fails where tags do not nest."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(v) for k, v in attributes if k in ("src", "href", "xlink:href")]
        self.ids += [str(v) for k, v in attributes if k == "id"]
        assert not any(k.startswith("on") for k, _ in attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.words.append(text)


def full(classes: int = 3) -> report.ReportRecord:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, 90)
    control, result = (rng.dirichlet(np.ones(classes), 90).astype(np.float32) + np.eye(classes, dtype=np.float32)[truth] * w for w in (0.3, 0.9))
    pictured = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in ((20, 20, 3), (300, 200))]
    exhibits = [report.Exhibit([p], EVIL, EVIL, right) for p in (*pictured, EVIL, {EVIL: EVIL}) for right in (True, False, None)]
    trust = np.where(rng.random(60) < 0.2, np.nan, 0.5).astype(np.float32)
    points = rng.normal(size=(60, 2)).astype(np.float32)
    return report.ReportRecord(
        title=EVIL, task=EVIL, seed=3, command=f"understudy fit '{EVIL}'", seconds=75.0, control=report.Score("accuracy", 0.7, 0.6, 0.8, 90),
        result=report.Score("accuracy", 0.9, 0.82, 0.95, 90), test_origin=EVIL, control_meaning=EVIL, notes=[EVIL], found=[EVIL],
        stages=[report.Stage(EVIL, 0.8, True, 3.0, EVIL), report.Stage("$\\bad$", 0.7, False, 4000.0), report.Stage("中文", None, True, 0.1)],
        classes=[EVIL, "$x_", "naïve \x00 \ud800"][:classes] + [f"class {i}" for i in range(3, classes)], truth=truth,
        control_probabilities=control / control.sum(1, keepdims=True), result_probabilities=result / result.sum(1, keepdims=True), temperature=1.7,
        embedding=report.EmbeddingMap(points, rng.integers(-1, classes, 60), trust, EVIL),
        coverage=[report.CoverageCurve(EVIL, np.array([0.5, 1.0]), np.array([1.0, 0.8]), 0.7)], models=[report.ModelFacts(EVIL, 1_234_567, 4_938_268, 0.25)],
        galleries=[report.Gallery(EVIL, EVIL, exhibits, [EVIL, EVIL])],
        device=EVIL, settings={EVIL: [EVIL]}, versions={EVIL: EVIL}, fingerprints={EVIL: EVIL},
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    stage = tmp_path / EVIL.replace("/", "_")
    stage.mkdir()
    always = {EVIL: 1.0, "kd": 2.0, "lr": 0.1, "teacher_entropy": 0.5, "time": 5.0}
    lines = [json.dumps({"step": i, "loss": 3.0 / (i + 1), **always, "rank": float(i)}) for i in range(30)]
    event = json.dumps({"step": 30, "event": "rollback", "reason": EVIL})
    (stage / "metrics.jsonl").write_text("\n".join([*lines, event, '{"step": 31, "los']))
    (tmp_path / "quarantine.jsonl").write_text("\n".join(json.dumps({"path": f"{EVIL}{i}", "reason": EVIL if i % 3 else "zero bytes"}) for i in range(250)))
    return tmp_path


def test_hostile_names_are_text_and_nothing_else(run: Path) -> None:
    page = report.write(run, full()).read_text()
    reader = Reader(page)
    assert "script" not in reader.tags
    assert "alert(1)" in "".join(reader.words)
    assert set(reader.tags) <= {
        "html", "head", "meta", "title", "style", "body", "div", "nav", "p", "ul", "li", "a", "main", "h1", "h2", "h3", "span", "b", "small", "section", "dl",
        "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "svg", "defs", "g", "path", "text", "use", "clippath", "rect", "image", "i", "figure",
        "figcaption", "br", "img", "blockquote", "details", "summary", "code", "pre", "footer", "circle",
    }  # fmt: skip


def test_the_page_is_one_file_that_needs_no_network(run: Path) -> None:
    path = report.write(run, full())
    page = path.read_text()
    reader = Reader(page)
    assert all(link.startswith(("#", "data:image/")) for link in reader.links)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert path.stat().st_size < 3_000_000


def test_the_page_is_rebuilt_from_what_was_kept_byte_by_byte(run: Path) -> None:
    path = report.write(run, full())
    first = path.read_bytes()
    path.unlink()
    assert report.rebuild(run).read_bytes() == first
    loaded = report.load(run / "report")
    assert np.array_equal(loaded.result_probabilities, full().result_probabilities)  # type: ignore[arg-type]
    assert loaded.galleries[0].exhibits[0].panels[0].dtype == np.uint8  # type: ignore[union-attr]


def test_a_missing_damaged_or_pickled_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finished run"):
        report.load(tmp_path)
    report.save(full(), tmp_path)
    (tmp_path / "record.json").write_text('{"title": 3}')
    with pytest.raises(UserError, match="damaged"):
        report.load(tmp_path)
    report.save(full(), tmp_path)
    np.savez(tmp_path / "arrays.npz", **{str(i): np.array([{}], dtype=object) for i in range(20)})
    with pytest.raises(UserError, match="damaged"):
        report.load(tmp_path)


def test_a_bare_record_leaves_every_section_out(tmp_path: Path) -> None:
    page = report.render(tmp_path, report.ReportRecord("run", "pre-training", 0, "understudy pretrain x", 1.0))
    assert re.findall(r'<section id="(\w+)"', page) == ["settings"]
    assert "no test figure" in page


def test_many_classes_become_a_list_of_confused_pairs(tmp_path: Path) -> None:
    truth = np.arange(90) % 30
    answers = np.where((truth == 7) & (np.arange(90) > 30), 9, truth)
    page = report.render(tmp_path, replace(full(classes=30), truth=truth, control_probabilities=np.eye(30)[truth], result_probabilities=np.eye(30)[answers]))
    assert 'class="matrix"' not in page
    assert '<td>class 7</td><td>class 9</td><td class="number">2 of 3</td>' in page and "No mistakes." in page


def test_counts_of_the_confusion_matrix_and_quarantine_are_on_the_page(run: Path) -> None:
    record = full()
    page = report.render(run, record)
    cells = [int(n) for n in re.findall(r"answered as .*?: (\d+) of \d+\"", page)]
    assert sum(cells) == 2 * len(record.truth)  # type: ignore[arg-type]
    assert "250 samples could not be used" in page and "The first 200" in page
    assert journal.quarantined(run).reasons == {EVIL: 166, "zero bytes": 84}


def test_curves_of_the_engine_are_grouped_and_a_cut_line_is_passed_over(run: Path) -> None:
    course = journal.courses(run)[0]
    assert course.curves["loss"][1][-1] == pytest.approx(0.1) and len(course.curves["loss"][0]) == 30
    assert "time" not in course.curves and course.events == [(30, "rollback", EVIL)]
    titles = {title: [name for name, _ in legend] for title, legend, _ in pictures.curves(course)}
    assert titles["Losses"] == ["loss", EVIL, "kd"] and "Learning rate" in titles and "Effective rank of the features" in titles


@pytest.mark.parametrize(
    ("gain", "words"),
    [((0.05, 0.02, 0.08), "beats the control"), ((0.01, -0.02, 0.04), "No difference"), ((-0.05, -0.08, -0.02), "worse than the control")],
)
def test_the_verdict_claims_what_the_interval_allows(gain: tuple[float, float, float], words: str) -> None:
    control, result = report.Score("accuracy", 0.8, 0.77, 0.83, 900), report.Score("accuracy", 0.8 + gain[0], 0.77, 0.88, 900)
    assert words in verdict(control, result, Gain(*gain, 900))


def test_the_verdict_says_when_the_interval_says_little() -> None:
    result = report.Score("accuracy", 0.8, 0.6, 0.92, 20)
    assert "32 points wide and says little" in verdict(None, result)
    assert "intervals overlap" in verdict(report.Score("accuracy", 0.7, 0.5, 0.85, 20), result)
    assert verdict(None, None) == ""


def test_a_picture_has_no_colour_of_its_own_and_no_foreign_parts() -> None:
    svg = str(pictures.stage_bars([report.Stage("a", 0.5, True, 1.0), report.Stage("b", 0.6, False, 1.0)]))
    assert "var(--result)" in svg and "var(--control)" in svg
    assert not re.search(r"xmlns|metadata|DOCTYPE", svg)
    assert pictures.stage_bars([report.Stage("a", 0.5, True, 1.0)]) is None


def test_the_map_keeps_neighbours_and_takes_tiny_sets() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 40)
    points, method = report.place(rng.normal(size=(120, 16)) + 8 * np.eye(3, 16)[groups], seed=-5)
    distance = ((points[:, None] - points[None]) ** 2).sum(-1) + 1e9 * np.eye(120)
    assert (groups[distance.argmin(1)] == groups).mean() > 0.95 and "t-SNE" in method
    for n, d in ((1, 4), (2, 4), (10, 1), (10, 3)):
        assert report.place(rng.normal(size=(n, d)), 0)[0].shape == (n, 2)


def images(n: int = 40) -> Samples:
    pixels = torch.arange(n * 3 * 16 * 16, dtype=torch.int64).reshape(n, 3, 16, 16).remainder(251).to(torch.uint8)
    return Samples(ImageModality(16), InMemory({"image": pixels}), tuple(f"{i}.png" for i in range(n)), torch.arange(n) % 2, ("cat", "dog"))


def test_galleries_choose_the_samples_they_promise() -> None:
    samples = images()
    sure = torch.linspace(0.51, 0.99, 40)
    probabilities = torch.stack([sure, 1 - sure], 1)
    most, least = report.trusted(samples, probabilities, samples.labels)
    assert [e.note for e in most.exhibits[:2]] == ["99 % sure", "98 % sure"] and [e.verdict for e in most.exhibits[:2]] == [False, True]
    assert least.exhibits[0].note == "51 % sure"
    worst = report.worst_mistakes(samples, probabilities)
    assert worst.exhibits[0].caption == "cat" and worst.exhibits[0].note == "labelled dog, 99 % sure"
    flipped = probabilities.clone()
    flipped[7] = flipped[7].flip(0)
    changed = report.changed_minds(samples, probabilities, flipped)
    assert [e.caption for e in changed.exhibits] == ["cat → dog"] and changed.explanation.startswith("1 of 40")
    assert np.array_equal(changed.exhibits[0].panels[0], samples.encoded.raw(torch.tensor([7]))["image"][0].permute(1, 2, 0).numpy())


def test_the_gallery_of_views_shows_what_the_batch_showed() -> None:
    samples = images()
    batch = samples.batch(torch.arange(20), key=4, step=9)
    gallery = report.seen_by_both(batch)
    assert len(gallery.exhibits) == 12
    expected = as_seen(batch.view("strong"), samples.modality)
    assert all(np.array_equal(e.panels[1], p) for e, p in zip(gallery.exhibits, expected, strict=False))
    masked = as_seen(batch.view("masked", ratio=0.5, patch=4), samples.modality)[0]
    assert (masked.reshape(4, 4, 4, 4, 3) == 128).all(axis=(1, 3, 4)).sum() >= 8  # type: ignore[union-attr]


def test_texts_and_rows_are_shown_as_a_person_reads_them() -> None:
    texts = ["the cat sat on the mat", "a dog ate the log"]
    modality = TextModality.train(texts * 20, vocabulary=300, length=32)
    raw = modality.collate([modality.encode(t) for t in texts])
    samples = Samples(modality, InMemory(raw), ("a", "b"), torch.tensor([0, 1]), ("x", "y"))
    assert "the cat sat" in as_seen(samples.batch(torch.arange(2)).view("plain"), modality)[0]
    table = TableModality.fit({"age": [20.0, 40.0, 60.0, None], "work": ["state", "own", None, "own"]})
    encoded = table.encode_columns({"age": [40.0, None], "work": ["own", None]})
    rows = as_seen(Samples(table, InMemory(encoded), ("a", "b"), torch.tensor([0, 0])).batch(torch.arange(2)).view("plain"), table)
    assert rows == [{"age": "40", "work": "own"}, {"age": "missing", "work": "missing"}]


def test_units() -> None:
    assert [duration(s) for s in (0.42, 59.0, 119.0, 7260.0)] == ["0.4 s", "59 s", "2 min", "2 h 01 min"]
    assert [size(n, "") for n in (999, 1_234_567, 2.5e9)] == ["999", "1.23 M", "2.5 bn"] and size(4_938_268) == "4.94 MB"
