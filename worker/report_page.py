"""Turns the facts of a repair into the page report.html: one file, no scripts, nothing loaded from elsewhere."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from worker.plot_style import Interval
from worker.plots import curve_svg, data_uri
from worker.report_facts import ClassAccuracy, InvertedTrigger, ReportFacts
from worker.report_words import attack_words, cautions, definitions, percent, points, verdict, without_alignment

CLASSES_SHOWN = 12
CONFUSIONS_SHOWN = 10
_LOOSE_PERCENT = re.compile(r"(?<=\d) %")  # "5 %" must not break before the sign


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the before/after table."""

    label: str
    before: float | None
    after: float | None
    before_interval: Interval | None = None
    after_interval: Interval | None = None
    allowed: str = ""
    kept: bool | None = None  # None: no criterion hangs on this line
    tone: str = "accuracy"  # or "attack": names the colour

    @property
    def change(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before


def render_html(facts: ReportFacts, pictures: Mapping[str, bytes], plane: bytes) -> str:
    """The page. `pictures` maps `InvertedTrigger.picture` to PNG bytes; other findings appear in the table only.

    `plane`: the PNG of the loss plane, empty where there is none.
    """
    shown = [finding for finding in facts.triggers if finding.picture in pictures]
    shown.sort(key=lambda finding: list(pictures).index(finding.picture))
    words = attack_words(facts.tampering)
    curve = sorted((point for point in facts.curve if point.path == "main"), key=lambda point: point.t)
    measured = any(point.attack_success_rate is not None for point in curve)
    return (
        environment()
        .get_template("report.html")
        .render(
            facts=facts,
            verdict=verdict(facts),
            cautions=cautions(facts),
            rows=before_after(facts),
            definitions=definitions(facts.tampering),
            asr_measured=measured,
            proxy_drawn=not measured and any(point.proxy_success_rate is not None for point in curve),
            # our own drawings: they hold figures, never a user's words
            wide_curve=Markup(curve_svg(facts.curve, facts.chosen_t, words.drawn, size=(8.4, 4.2), name="wide")),
            narrow_curve=Markup(curve_svg(facts.curve, facts.chosen_t, words.drawn, size=(4.0, 4.4), name="narrow")),
            curve=curve,
            without_alignment=without_alignment(facts.curve),
            plane=data_uri(plane) if plane else None,
            words=words,
            shown=shown,
            pictures={name: data_uri(png) for name, png in pictures.items()},
            class_groups=class_groups(facts.per_class),
            confusions=facts.confusions[:CONFUSIONS_SHOWN],
            fooling=[group for group in by_flag(shown) if group],
            settings=list(flatten(facts.settings)),
        )
    )


def before_after(facts: ReportFacts) -> list[Row]:
    """The lines of the before/after table; an estimate answers the criterion only where nothing was measured."""
    before, after, words = facts.before, facts.after, attack_words(facts.tampering)
    rows = [
        Row(
            label="Clean accuracy",
            before=before.clean_accuracy,
            after=after.clean_accuracy,
            before_interval=before.clean_accuracy_interval,
            after_interval=after.clean_accuracy_interval,
            allowed=f"at most {points(facts.max_accuracy_drop)} points lost",
            kept=before.clean_accuracy - after.clean_accuracy <= facts.max_accuracy_drop,
        )
    ]
    limit = f"at most {percent(facts.max_attack_success_rate)}"
    if after.attack_success_rate is not None:
        rows.append(
            Row(
                label=words.rate,
                before=before.attack_success_rate,
                after=after.attack_success_rate,
                before_interval=before.attack_success_rate_interval,
                after_interval=after.attack_success_rate_interval,
                allowed=limit,
                kept=after.attack_success_rate <= facts.max_attack_success_rate,
                tone="attack",
            )
        )
    if after.proxy_success_rate is not None:
        flagged = any(finding.flagged for finding in facts.triggers)
        judged = after.attack_success_rate is None and facts.tampering == "backdoor" and flagged
        rows.append(
            Row(
                label=words.estimate,
                before=before.proxy_success_rate,
                after=after.proxy_success_rate,
                allowed=limit if judged else "",
                kept=after.proxy_success_rate <= facts.max_attack_success_rate if judged else None,
                tone="attack",
            )
        )
    rows.append(Row(label="Confidence", before=before.clean_confidence, after=after.clean_confidence))
    return rows


def by_flag(shown: Sequence[InvertedTrigger]) -> tuple[list[InvertedTrigger], list[InvertedTrigger]]:
    """The triggers that fool an image: the flagged ones, the others."""
    fooling = [finding for finding in shown if finding.fooled]
    return [one for one in fooling if one.flagged], [one for one in fooling if not one.flagged]


def class_groups(rows: Sequence[ClassAccuracy]) -> tuple[list[ClassAccuracy], list[ClassAccuracy]]:
    """(shown at once, behind a fold): all of a few classes in their order, else those that lost most, then all."""
    if len(rows) <= CLASSES_SHOWN:
        return list(rows), []
    return sorted(rows, key=lambda row: row.after - row.before)[:CLASSES_SHOWN], list(rows)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """{"method": {"seed": 0}} -> ("method.seed", "0")."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, name + ".")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(str(item) for item in value)
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, "–" if value is None else str(value)


def environment() -> Environment:
    """Of all report pages: escapes everything, knows the filters."""
    environment = Environment(
        loader=PackageLoader("worker"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "signed": signed,
        "interval": interval,
        "figure": figure,
        "whole_percent": whole_percent,
        "tidy": tidy,
        "duration": duration,
        "size": size,
    }
    return environment


def duration(seconds: float) -> str:
    """83.4 -> "1 min 23 s"."""
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes}\u00a0min" if hours else f"{minutes}\u00a0min {rest}\u00a0s"


def size(count: int) -> str:
    """2842507 -> "2.8 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f}\u00a0{unit}"
    return f"{count}\u00a0bytes"


def signed(fraction: float) -> str:
    """0.021 -> "+2.1" percentage points."""
    return ("+" if fraction >= 0.0005 else "") + points(fraction)


def interval(pair: Interval) -> str:
    """(0.016, 0.056) -> "1.6–5.6 %"."""
    return f"{100 * pair[0]:.1f}–{percent(pair[1])}"


def figure(number: float | None) -> str:
    """-0.444 -> "−0.44", with a true minus sign."""
    if number is None:
        return "–"
    return f"{number:.2f}".replace("-", "\u2212") if math.isfinite(number) else "–"


def whole_percent(fraction: float | None) -> str:
    """0.987 -> "99 %"."""
    return f"{100 * fraction:.0f}\u00a0%" if fraction is not None and math.isfinite(fraction) else "–"


def tidy(text: str) -> str:
    """Keeps a number and its per cent sign on one line."""
    return _LOOSE_PERCENT.sub("\u00a0%", text)
