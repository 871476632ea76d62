"""What follows from the code and from kept results: pages of the site, and the results in README.md.

mkdocs runs this by itself, as a hook. By hand:

    python docs/generate.py             write the pages: docs/systems/, docs/claims.md, docs/settings.md, docs/benchmarks.md (none of them is committed)
    python docs/generate.py --readme    besides, write the results in README.md and the pictures docs/images/results-*.png (those are committed)

Run the second after ``understudy claim`` or a benchmark has kept a new result. It needs the package and nothing else.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from understudy import catalogue
from understudy.explanation import Explanation, explain

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CLAIM = {"shown": "shown", "contrary": "contrary", "unclear": "unclear", "works": "no claim run yet"}
PICTURE = """<picture>
  <source media="(prefers-color-scheme: dark)" srcset="docs/images/results-dark.png">
  <img src="docs/images/results-light.png" alt="What each system gained over its control" width="760">
</picture>"""
SHAPES = {"objective": "a loss on a batch", "rounds": "rounds", "stream": "a stream", "plan": "a plan of stages"}


def on_config(config: Any) -> Any:
    """The hook of mkdocs."""
    write_pages()
    return config


def write_pages() -> None:
    results = kept()
    told = [explain(slug) for slug in sorted(catalogue.implemented())]
    write(DOCS / "systems" / "index.md", systems_page(told))
    write(DOCS / "systems" / "catalogue.md", catalogue_page())
    for one in told:
        write(DOCS / "systems" / f"{one.slug}.md", system_page(one))
    known = {f"{one.slug}.md" for one in told} | {"index.md", "catalogue.md"}
    for page in (DOCS / "systems").glob("*.md"):
        if page.name not in known:
            page.unlink()
    write(DOCS / "claims.md", claims_page(results, [one.slug for one in told]))
    write(DOCS / "settings.md", settings_page(told))
    write(DOCS / "benchmarks.md", benchmarks_page())


def write(path: Path, text: str) -> None:
    """Only where it changes something: a page that is written again would make `mkdocs serve` build again, for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = text.rstrip() + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def kept() -> list[dict[str, Any]]:
    """The results of claims, those that were shown first, then by name."""
    found = [result for slug in sorted(catalogue.implemented()) if (result := catalogue.result(slug))]
    return sorted(found, key=lambda result: (["shown", "unclear", "contrary"].index(result["verdict"]), result["system"]))


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[int] = ()) -> str:
    """A table in Markdown; ``right`` are the columns of numbers."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join("---:" if i in right else "---" for i in range(len(header))) + "|"]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def paper_link(paper: str) -> str:
    digits = paper.replace(".", "")
    return f"[arXiv {paper}](https://arxiv.org/abs/{paper})" if digits.isdecimal() and "." in paper else paper


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def spread(values: Sequence[float]) -> str:
    return f"{number(fmean(values))} ± {stdev(values):.3f}" if len(values) > 1 else number(fmean(values))


def prose(text: str) -> str:
    """Text of a card as text of a page: stars, underscores and angle brackets mean themselves."""
    return re.sub(r"([*_\[\]])", r"\\\1", escape(text, quote=False))


def code(thing: Any) -> str:
    """A value as it is written in YAML, or a type; a bar would end the cell of a table."""
    text = "null" if thing is None else str(thing).lower() if isinstance(thing, bool) else str(thing)
    return f"<code>{escape(text).replace('|', '&#124;')}</code>"


# Pages


def system_page(one: Explanation) -> str:
    facts = {
        "paper": f"{prose(one.title)}, {paper_link(one.paper)}" + (f", {one.year}" if one.year else "") if one.paper else one.title,
        "shape": SHAPES.get(one.shape, one.shape), "family": one.family, "data": ", ".join(one.modalities), "catalogue": one.id, "claim": CLAIM[one.status],
    }  # fmt: skip
    parts = [f"# {one.slug}", prose(one.idea), "\n".join(f"- {name}: {fact}" for name, fact in facts.items())]
    if one.equations:
        parts += ["## Equations", "```text\n" + "\n".join(one.equations) + "\n```"]
    if one.settings:
        rows = [(code(s.name), code(s.type), code(s.default), prose(s.description)) for s in one.settings]
        parts += ["## Settings", "Change one with `--set NAME=VALUE`.", table(["name", "type", "default", "what it is"], rows)]
    changed = [s for s in one.common if s.value != s.default]
    if changed:
        own = [(code(s.name), code(s.value), code(s.default)) for s in changed]
        parts += ["It brings its own values of these [common settings](../settings.md); yours win.", table(["name", "here", "otherwise"], own)]
    if one.unknown:
        parts += ["## What could not be found out", prose(one.unknown)]
    waiting = f"Not run yet. Run it with `understudy claim {one.slug}`." if has_claim(one.slug) else "No claim has been written yet."
    parts += ["## Claim", claim_of(one.claim) if one.claim else waiting]
    parts += ["## Code", "The whole of it; what it calls is shared by all systems.", "```python\n" + source(one.slug).rstrip() + "\n```"]
    return "\n\n".join(parts)


def source(slug: str) -> str:
    return next(catalogue.PACKAGE.glob(f"systems/*/{slug.replace('-', '_')}.py")).read_text(encoding="utf-8")


def has_claim(slug: str) -> bool:
    return (catalogue.claims() / f"{slug.replace('-', '_')}.py").is_file()


def claim_of(result: dict[str, Any] | Any) -> str:
    """Everything that a kept result says."""
    arms = [(f"**{arm}**" if arm in (result["treatment"], result["control"]) else arm, spread(values)) for arm, values in result["arms"].items()]
    facts = f"{result['treatment']} − {result['control']}: **{result['effect']:+.4f} ± {result['se']:.4f}** (standard error of the paired difference)"
    made = f"{result['seeds']} seeds on {result['data']}, {result['minutes']:.1f} minutes, code {result['commit']}"
    parts = [f"**{result['verdict'].capitalize()}.** {prose(result['says'])}", f"{facts}. {made}.", table(["arm", "mean ± spread over seeds"], arms, right=[1])]
    if result["checks"]:
        parts.append("\n".join(f"- {'holds' if holds else '**does not hold**'}: {check}" for check, holds in result["checks"].items()))
    if result.get("observed"):
        parts.append("Observed, not judged:\n\n" + "\n".join(f"- {'yes' if seen else 'no'}: {sentence}" for sentence, seen in result["observed"].items()))
    return "\n\n".join(parts)


def systems_page(told: Sequence[Explanation]) -> str:
    rows = [
        (f"[`{one.slug}`]({one.slug}.md)", prose(one.title), one.family, SHAPES.get(one.shape, one.shape), ", ".join(one.modalities), CLAIM[one.status])
        for one in told
    ]  # fmt: skip
    listed = catalogue.rows()
    core = sum(catalogue.find(one.slug) is None for one in told)
    families = Counter(row.family for row in listed)
    done = Counter(row.family for row in listed if row.slug in catalogue.implemented())
    return "\n\n".join([
        "# Systems",
        f"{len(told)} systems are implemented: {len(told) - core} of the {len(listed)} papers in the [catalogue](catalogue.md), "
        f"and {core} core methods that others build on. Each is one file; its page is made from its card, its settings, its claim and its code.",
        table(["system", "paper", "family", "shape", "data", "claim"], rows),
        "## Families of the catalogue",
        table(["family", "papers", "implemented"], [(family, count, done[family] or "") for family, count in families.most_common()], right=[1, 2]),
    ])  # fmt: skip


def catalogue_page() -> str:
    done = catalogue.implemented()
    rows = [
        (row.id, f"[`{row.slug}`]({row.slug}.md)" if row.slug in done else f"`{row.slug}`", prose(row.title), row.family, ", ".join(row.modality), row.status)
        for row in catalogue.rows()
    ]  # fmt: skip
    return "\n\n".join([
        "# Catalogue",
        f"The {len(rows)} papers that understudy maps. *absent*: no code yet. *works*: there is code, and no claim was run. *shown*, *contrary*, *unclear*: "
        "what its [claim](../claims.md) found. The same on the command line: `understudy systems`.",
        table(["id", "name", "title", "family", "data", "status"], rows),
    ])  # fmt: skip


def claims_page(results: Sequence[dict[str, Any]], slugs: Sequence[str]) -> str:
    parts = [
        "# Claims",
        "Beside every system stands the smallest honest experiment of its paper: arms that spend the same, a control, an arm that is broken on purpose, "
        "real data, paired seeds. *Shown*: the paired mean difference is above two standard errors in the paper's direction, and every check holds. "
        "*Contrary*: it is below minus two. Otherwise *unclear*. A claim shows that a mechanism works as specified; "
        "it is no reproduction of the paper's table. Contrary results stay.",
    ]
    if results:
        rows = [
            (f"[{r['system']}](#{r['system']})", r["verdict"], f"{r['effect']:+.4f}", f"{r['se']:.4f}", r["seeds"], f"{r['minutes']:.1f}", f"`{r['commit']}`")
            for r in results
        ]  # fmt: skip
        parts += [table(["system", "verdict", "effect", "standard error", "seeds", "minutes", "code"], rows, right=[2, 3, 4, 5])]
        parts += ["Effects are in the unit of the arm's figure; most are shares of right answers, so 0.01 is one point."]
    else:
        parts += ["No result has been kept yet. Make one with `understudy claim NAME`."]
    found = {r["system"] for r in results}
    waiting = [slug for slug in slugs if has_claim(slug) and slug not in found]
    without = [slug for slug in slugs if not has_claim(slug)]
    if waiting:
        parts += ["A claim is written and no result is kept: " + ", ".join(f"`{slug}`" for slug in waiting) + "."]
    if without:
        parts += ["No claim is written: " + ", ".join(f"`{slug}`" for slug in without) + "."]
    for result in results:
        parts += [f"## {result['system']}", claim_of(result)]
    return "\n\n".join(parts)


def settings_page(told: Sequence[Explanation]) -> str:
    from understudy import settings
    from understudy.plans.fit import FitSettings
    from understudy.verbs.label import LabelSettings
    from understudy.verbs.session import DataSettings, StudentSettings

    def of(kind: type[settings.Settings], prefix: str = "", only: str | None = None) -> str:
        rows = [s for s in settings.explain(kind, prefix) if only is None or s.name.partition(".")[0] == only or (only == "" and "." not in s.name)]
        return table(["name", "type", "default", "what it is"], [(code(s.name), code(s.type), code(s.default), prose(s.description)) for s in rows])

    sections = dict.fromkeys(s.name.partition(".")[0] for s in settings.explain(settings.RunSettings) if "." in s.name)
    parts = [
        "# Settings",
        "Every setting has a dotted name. Give it with `--set optim.lr=3e-4` (repeatable), or in a YAML file with `--config FILE`; `--set` wins over the file, "
        "the file over the system's own defaults. In Python: `us.fit(..., set=[\"optim.lr=3e-4\"])`. All settings are checked before anything is read or "
        "written, all mistakes at once:",
        "```text\n--8<-- \"examples/output/mistake.txt\"\n```",
        "A file says the same in YAML:",
        "```yaml\noptim:\n  lr: 3e-4\ntrain: {steps: 2000, batch: 256}\nsdfp:\n  weight: 0.5\n```",
        "## Common to all systems", of(settings.RunSettings, only=""),
    ]  # fmt: skip
    for section in sections:
        parts += [f"### {section}", of(settings.RunSettings, only=section)]
    parts += [
        "## Reading data",
        of(DataSettings, "data."),
        "## The student",
        of(StudentSettings, "student."),
        "## fit",
        of(FitSettings, "fit."),
        "## label",
        of(LabelSettings, "label."),
    ]
    links = ", ".join(f"[{one.slug}](systems/{one.slug}.md#settings)" for one in told if one.settings)
    parts += ["## Each system", f"The settings of a system begin with its name, and are on its page: {links}."]
    return "\n\n".join(parts)


# README


def write_readme() -> None:
    """Put the results between the markers of README.md, and draw them."""
    results = kept()
    parts = []
    if results:
        if picture(results, DOCS / "images"):
            parts.append(PICTURE)
        shown = [result for result in results if result["verdict"] == "shown"]
        others = [f"{verdict.capitalize()}: {named([r for r in results if r['verdict'] == verdict])}." for verdict in ("unclear", "contrary")]
        parts += [
            f"{len(results)} claims have been run, {len(shown)} are shown:",
            table(["claim of", "what must be seen", "control", "method", "difference ± standard error"], map(row, shown), right=[2, 3, 4]),
            " ".join(others),
            f"Means over {' or '.join(str(n) for n in sorted({r['seeds'] for r in results}))} paired seeds, on real data, each in minutes on one CPU core. "
            "Differences are positive in the paper's direction. What each claim asks, every arm and every check stand in the pages (`docs/claims.md`); "
            "run any of them again with `understudy claim NAME`.",
        ]  # fmt: skip
    if groups := measured():
        rows = [
            (f"`{name}`", len(lines), sum(r["met"] == "yes" for r in lines), ", ".join(sorted({r["peer"] for r in lines if r["peer"]})) or "-")
            for name, lines in groups.items()
        ]
        parts += [
            "Speed and size (`python -m bench ROW`), each figure beside its target; every one of them, and why it comes out so, is in the pages "
            "(`docs/benchmarks.md`, `docs/performance.md`):",
            table(["row", "figures", "targets met", "beside"], rows, right=[1, 2]),
        ]  # fmt: skip
    text = "\n\n".join(parts) or "No result has been kept yet: run `understudy claim NAME`."
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition("<!-- results -->")
    _, end, after = rest.partition("<!-- /results -->")
    assert begin and end, "README.md has both markers"
    write(readme, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def named(results: Sequence[dict[str, Any]]) -> str:
    """Claims with their effects, in a sentence."""
    return ", ".join(f"`{r['system']}` ({r['effect']:+.3f} ± {r['se']:.3f})" for r in results) or "none"


def row(result: dict[str, Any]) -> tuple[str, ...]:
    """A claim in README's table."""
    control, method = (number(fmean(result["arms"][result[side]])) for side in ("control", "treatment"))
    return f"`{result['system']}`", prose(result["says"]), control, method, f"{result['effect']:+.3f} ± {result['se']:.3f}"


def measured() -> dict[str, list[dict[str, str]]]:
    """The latest figures in bench/results.csv, by the file of bench/rows that they come from."""
    path = ROOT / "bench" / "results.csv"
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        latest = {r["row"]: r for r in csv.DictReader(file)}
    groups: dict[str, list[dict[str, str]]] = {}
    for one in latest.values():
        groups.setdefault(one["row"].partition("/")[0], []).append(one)
    return groups


def benchmarks_page() -> str:
    """Every row of bench/results.csv, with a picture of each group."""
    parts = [
        "# Benchmarks",
        "Made from `bench/results.csv` by `docs/generate.py`. [Performance](performance.md) says why each figure comes out so, and what is not measured. In the pictures a bar "
        "is the figure over its target: green keeps it (at most 1 where less is better, at least 1 where more is), red does not.",
    ]  # fmt: skip
    for name, lines in measured().items():
        rows = [
            (r["row"], f"{r['value']} {r['unit']}".strip(), r["target"], r["met"], f"{r['peer']} {r['peer_version']}".strip(), r["machine"], r["date"])
            for r in lines
        ]
        bench_picture(lines, DOCS / "images" / "bench" / f"{name}.svg")
        parts += [f"## {name}", f"![{name}: figures over their targets](images/bench/{name}.svg)"]
        parts += [table(["row", "value", "target", "met", "beside", "machine", "date"], rows, right=[1, 2])]
    return "\n\n".join(parts)


def bench_picture(lines: Sequence[dict[str, str]], path: Path) -> None:
    """A bar for each row: its figure over its target."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shares = [float(r["value"]) / float(r["target"].split()[-1]) for r in lines]
    with rc_context({"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": path.stem}):
        figure = Figure(figsize=(7.6, 0.8 + 0.3 * len(lines)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(lines)), shares, color=["#14794c" if r["met"] == "yes" else "#c0361f" for r in lines], height=0.6)
        axes.axvline(1, color="#1b2130", linewidth=1)
        axes.set_yticks(range(len(lines)), [f"{r['row'].partition('/')[2] or r['row']} ({r['target'].split()[0]})" for r in lines])
        axes.invert_yaxis()
        axes.set_xlabel("figure over target")
        axes.tick_params(length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def picture(results: Sequence[dict[str, Any]], folder: Path) -> bool:
    """Draw the gains of all claims that are measured in shares of right answers, largest first. False where there is none."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    sides = [[r["arms"][r[side]] for side in ("treatment", "control")] for r in results]
    # Where less is better the figure is an error or a distance.
    shares = [r for r, (t, c) in zip(results, sides, strict=True) if all(0 <= v <= 1 for v in t + c) and (fmean(t) - fmean(c)) * r["effect"] >= 0]
    drawn = sorted(shares, key=lambda r: float(r["effect"]))
    themes = {
        "light": ("#1b2130", "#5d6779", "#e2e6ec", "#14794c", "#7d879a", "#c0361f"),
        "dark": ("#e6e9ef", "#9aa4b5", "#363d4b", "#4cc38a", "#98a2b3", "#ff8a73"),
    }
    for theme, (ink, muted, line, good, plain, bad) in themes.items() if drawn else ():
        colours = {"shown": good, "unclear": plain, "contrary": bad}
        with rc_context({"font.family": "sans-serif", "font.size": 10, "text.color": ink, "axes.labelcolor": muted, "xtick.color": muted, "ytick.color": ink}):
            figure = Figure(figsize=(7.6, 0.9 + 0.34 * len(drawn)), layout="constrained")
            axes = figure.subplots()
            for place, r in enumerate(drawn):
                effect, bar, colour = 100 * r["effect"], 200 * r["se"], colours[r["verdict"]]
                axes.plot([effect - bar, effect + bar], [place, place], color=colour, linewidth=6, alpha=0.3, solid_capstyle="round")
                axes.plot([effect], [place], "o", color=colour, markersize=7)
                side, align = (-1, "right") if effect < 0 else (1, "left")
                beside: dict[str, Any] = {"xytext": (9 * side, 0), "textcoords": "offset points", "va": "center", "ha": align}
                axes.annotate(r["verdict"], (effect + side * bar, place), color=colour, fontsize=9, **beside)
            axes.axvline(0, color=muted, linewidth=1)
            axes.margins(x=0.14)
            axes.set_ylim(-0.6, len(drawn) - 0.4)
            axes.set_yticks(range(len(drawn)), [r["system"] for r in drawn])
            axes.set_xlabel("points above its control, on real data (dot: mean; bar: two standard errors)")
            axes.tick_params(length=0)
            axes.grid(axis="x", color=line, linewidth=0.8)
            axes.set_axisbelow(True)
            axes.spines[:].set_visible(False)
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / f"results-{theme}.png", dpi=160, transparent=True)
    return bool(drawn)


if __name__ == "__main__":
    write_pages()
    if "--readme" in sys.argv[1:]:
        write_readme()
