"""The report: what it says, that it stands alone, and that hostile names stay text."""

import io
import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modeconn_core import LossPlane
from worker.plot_style import PALETTE
from worker.plots import draw_curve, fooled_png, trigger_png
from worker.report import (
    ClassAccuracy,
    Confusion,
    FooledImage,
    InputFile,
    InvertedTrigger,
    ReportFacts,
    pictured,
    standing_limits,
    write_report,
)
from worker.report_words import verdict

HOSTILE = "<script>alert(1)</script>\" onerror='x' <img src=//evil.example/a> {{ 7*7 }} {% raw %} &amp; \u202e\ud800\0"
VOID = {"meta", "img", "br", "link", "input", "hr"}


@dataclass
class Point:
    t: float
    clean_accuracy: float
    clean_accuracy_interval: tuple[float, float]
    attack_success_rate: float | None
    attack_success_rate_interval: tuple[float, float] | None
    proxy_success_rate: float | None
    clean_loss: float = 0.6
    clean_confidence: float = 0.9
    refined: bool = False
    path: str = "main"


@dataclass
class Figures:
    clean_accuracy: float
    clean_accuracy_interval: tuple[float, float]
    attack_success_rate: float | None
    attack_success_rate_interval: tuple[float, float] | None
    proxy_success_rate: float | None
    clean_confidence: float = 0.92


def trigger(
    index: int, *, flagged: bool = False, anomaly: float = 0.5, name: str | None = None, fools: int = 0
) -> InvertedTrigger:
    mask = np.zeros((1, 8, 8))
    mask[0, 6:, 6:] = 1
    return InvertedTrigger(
        kind="patch",
        target_class=index,
        class_name=name or f"class-{index}",
        anomaly_index=anomaly,
        success_rate=0.97,
        flagged=flagged,
        pattern=np.ones((3, 8, 8)) * np.array([1.0, 0.0, 0.0]).reshape(3, 1, 1),
        mask=mask,
        success_rate_after=0.02,
        fooled=[
            FooledImage(
                image=np.full((3, 8, 8), 0.25),
                stamped=np.full((3, 8, 8), 0.75),
                label=name or "cat",
                taken_for=name or f"class-{index}",
                repaired_says=name or "cat",
            )
        ]
        * fools,
    )


def facts(*, measured: bool = True, text: str = "plain", **changes: Any) -> ReportFacts:
    """A whole set of facts; `text` stands wherever a user's words may."""
    curve = [
        Point(
            t,
            accuracy,
            (accuracy - 0.03, accuracy + 0.03),
            attack if measured else None,
            (max(0, attack - 0.02), min(1, attack + 0.02)) if measured else None,
            attack / 2,
            refined=t == 0.2,
        )
        for t, accuracy, attack in [(0, 0.83, 1.0), (0.2, 0.815, 0.03), (0.5, 0.75, 0.01), (1, 0.83, 1.0)]
    ]
    return replace(
        ReportFacts(
            job_id="7f0c2a4e",
            architecture=text,
            settings={"method": {"seed": 7, "mirror": True}, "labels": {text: text}, "classes": [text, text]},
            files=[InputFile(role="suspect", name=text, sha256="ab" * 32, bytes=2_842_507)],
            before=Figures(0.83, (0.8, 0.86), 1.0 if measured else None, (0.98, 1.0) if measured else None, 0.5),
            after=Figures(
                0.815, (0.785, 0.845), 0.031 if measured else None, (0.01, 0.045) if measured else None, 0.015
            ),
            curve=curve,
            chosen_t=0.2,
            reason=f"the first point within the budget, 5 % allowed: {text}",
            max_accuracy_drop=0.025,
            max_attack_success_rate=0.05,
            criteria_met=True,
            triggers=[trigger(0, flagged=True, anomaly=4.1, name=text, fools=3), trigger(1, fools=1)],
            per_class=[ClassAccuracy(index=0, name=text, before=0.9, after=0.85, images=50)],
            confusions=[Confusion(label=text, taken_for=text, before=3, after=12)],
            warnings=[text],
            seconds={"fitting_path": 83.4},
            versions={"torch": "2.13.0"},
            device="CPU",
            assumptions=[text],
            not_tested=standing_limits(measured, "backdoor"),
            evaluated_on=f"500 clean images. {text}",
        ),
        **changes,
    )


class Page(HTMLParser):
    """The tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def of(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def page(out: Path, given: ReportFacts) -> Page:
    write_report(out, given)
    return Page((out / "report.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report of the usual facts, written once."""
    out = tmp_path_factory.mktemp("usual")
    write_report(out, facts())
    return out


@pytest.fixture(scope="module")
def shown(usual: Path) -> Page:
    return Page((usual / "report.html").read_text("utf-8"))


def test_it_writes_the_named_files_in_order(tmp_path: Path):
    out = tmp_path / "new" / "folder"
    paths = write_report(out, facts())
    assert [path.name for path in paths] == [
        "report.html",
        "report.json",
        "curve.png",
        "trigger-0.png",
        "trigger-1.png",
        "fooled-0.png",
        "fooled-1.png",
    ]
    assert all(path.parent == out and path.stat().st_size > 100 for path in paths)
    assert Image.open(out / "curve.png").size[0] >= 1000


def test_the_page_is_well_formed_and_stands_alone(usual: Path, shown: Page):
    assert shown.open == []
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(shown.tags)
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for value in shown.of("src"))
    assert all(value.startswith("#") for value in shown.of("href") + shown.of("xlink:href"))
    html = (usual / "report.html").read_text("utf-8")
    assert not re.search(r"@import|url\((?!#)", html)
    assert any("default-src 'none'" in value for value in shown.of("content"))


def test_hostile_words_change_no_tag(tmp_path: Path, shown: Page):
    hostile = page(tmp_path, facts(text=HOSTILE))
    assert hostile.tags == shown.tags
    assert [(tag, name) for tag, name, _ in hostile.attributes] == [(tag, name) for tag, name, _ in shown.attributes]
    assert hostile.text.count("<script>alert(1)</script>") >= 10
    assert "{{ 7*7 }}" in hostile.text


def test_a_hostile_class_name_names_no_file(tmp_path: Path):
    paths = write_report(tmp_path / "out", facts(triggers=[trigger(3, name="../../evil", flagged=True)]))
    assert paths[-1] == tmp_path / "out" / "trigger-3.png"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_ids_are_unique_and_labels_point_at_them(usual: Path, shown: Page):
    ids = shown.of("id")
    assert len(ids) == len(set(ids))
    assert set(shown.of("aria-labelledby")) <= set(ids)
    assert {value[1:] for value in shown.of("href") + shown.of("xlink:href")} <= set(ids)
    clips = re.findall(r"url\(#([^)\"]+)\)", (usual / "report.html").read_text("utf-8"))
    assert clips
    assert set(clips) <= set(ids)


def test_it_is_accessible_in_its_skeleton(shown: Page):
    assert shown.tags.count("h1") == 1
    assert ("html", "lang", "en") in shown.attributes
    assert len([value for tag, name, value in shown.attributes if tag == "img" and name == "alt" and value]) == 4
    assert shown.tags.count("th") == shown.of("scope").count("col") + shown.of("scope").count("row")


def test_the_drawing_follows_the_theme(usual: Path):
    html = (usual / "report.html").read_text("utf-8")
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.S))
    assert "var(--accuracy)" in drawings
    assert not [colour for colour in PALETTE.values() if colour in drawings]
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_the_verdict_is_one_sentence_with_the_measured_figures():
    assert verdict(facts()) == (
        "The repair met its criteria: clean accuracy went from 83.0 % to 81.5 %, and the attack now succeeds on "
        "3.1 % of the triggered images instead of 100.0 %."
    ).replace(" %", "\u00a0%")


def test_an_estimate_is_called_an_estimate(tmp_path: Path):
    shown = page(tmp_path, facts(measured=False))
    assert "an estimated 1.5\u00a0%" in verdict(facts(measured=False))
    assert "could not be measured" in shown.text
    assert "Attack success rate, measured" not in shown.text
    assert "Attack success, estimated from the inverted trigger" in shown.text


def test_without_a_flag_no_claim_about_attacks_is_made(tmp_path: Path):
    quiet = facts(measured=False, triggers=[trigger(0), trigger(1)])
    assert "how well an attack would work is not known" in verdict(quiet)
    assert page(tmp_path, quiet).text.count("kept") == 1  # the accuracy criterion's


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_accuracy_drop": 0.01}, "1.5 points lost where 1.0 are allowed"),
        ({"max_attack_success_rate": 0.02}, "where 2.0\u00a0% is allowed"),
    ],
)
def test_a_missed_criterion_is_named(tmp_path: Path, changes: dict[str, float], said: str):
    missed = facts(criteria_met=False, **changes)
    assert verdict(missed).startswith("The repair did not meet its criteria: ")
    assert said in verdict(missed)
    shown = page(tmp_path, missed)
    assert "Criteria not met" in shown.text
    assert shown.text.count("not kept") == 1


def test_an_interval_that_crosses_the_limit_is_pointed_out(tmp_path: Path, shown: Page):
    after = replace(facts().after, attack_success_rate_interval=(0.01, 0.071))
    assert "may be as high as 7.1" in page(tmp_path, facts(after=after)).text
    assert "may be as high as" not in shown.text


def test_attack_success_is_defined_where_it_is_shown(shown: Page):
    text = shown.text
    assert "share of the triggered images whose true class is not the attacker's target" in text
    assert text.index("Attack success rate (ASR):") < text.index("Why t = 0.2")


def test_everything_handed_over_is_on_the_page(shown: Page):
    for said in [
        "ab" * 32,
        "2.8\u00a0MB",
        "method.seed",
        "1\u00a0min 23\u00a0s",
        "2.13.0",
        "80.0–86.0\u00a0%",
        "4.10",
        "97\u00a0%",
        "92.0\u00a0%",
        "Images that the triggers of classes not flagged fool",
        "+9",
    ]:
        assert said in shown.text
    for limit in standing_limits(True, "backdoor"):
        assert limit in shown.text


def test_the_json_holds_the_same_figures(usual: Path):
    written = json.loads((usual / "report.json").read_bytes())
    assert written["verdict"] == verdict(facts())
    assert written["t"] == 0.2
    assert written["criteria"] == {"max_accuracy_drop": 0.025, "max_attack_success_rate": 0.05, "met": True}
    assert written["after"]["attack_success_rate"] == 0.031
    assert [point["t"] for point in written["curve"]] == [0, 0.2, 0.5, 1]
    assert written["targets"][0]["flagged"] is True
    assert written["targets"][0]["picture"] == "trigger-0.png"
    images = [{"label": "plain", "taken_for": "plain", "repaired_says": "plain"}] * 3
    assert written["targets"][0]["fooled"] == {"picture": "fooled-0.png", "images": images}
    assert written["confusions"] == [{"label": "plain", "taken_for": "plain", "before": 3, "after": 12}]
    assert written["settings"]["method"] == {"seed": 7, "mirror": True}


def test_the_json_is_strict_whatever_the_figures_are(tmp_path: Path):
    odd = facts(text=HOSTILE, triggers=[trigger(0, anomaly=float("inf"))], seconds={"total": np.float32(1.5)})
    write_report(tmp_path, odd)
    written = json.loads((tmp_path / "report.json").read_bytes())
    assert written["targets"][0]["anomaly_index"] is None
    assert written["seconds"] == {"total": 1.5}
    assert b"NaN" not in (tmp_path / "report.json").read_bytes()


def test_pictures_show_flagged_classes_first_and_stay_few(tmp_path: Path):
    many = [trigger(index, anomaly=index / 10) for index in range(40)] + [trigger(40, flagged=True, anomaly=-3)]
    first = pictured(many)
    assert [finding.target_class for finding in first[:3]] == [40, 39, 38]
    assert len(first) == 12
    shown = page(tmp_path, facts(triggers=many))
    assert shown.tags.count("img") == 12
    assert "class-7" in shown.text  # not pictured, but in the table
    assert len(pictured([trigger(index, flagged=True) for index in range(20)])) == 20


def test_images_of_other_than_one_or_three_channels_have_no_pictures(tmp_path: Path):
    deep = replace(trigger(0, flagged=True, fools=1), pattern=np.ones((4, 8, 8)))
    shown = page(tmp_path, facts(triggers=[deep]))
    assert "img" not in shown.tags
    assert "class-0" in shown.text
    assert json.loads((tmp_path / "report.json").read_bytes())["targets"][0]["picture"] is None


@pytest.mark.parametrize(("side", "wide"), [(8, 96), (40, 80), (224, 96)])
def test_fooled_images_are_drawn_above_each_other_at_a_size_to_be_seen(side: int, wide: int):
    dark, light = np.full((1, side, side), 0.2), np.full((3, side, side), 0.8)
    sheet = np.asarray(Image.open(io.BytesIO(fooled_png([(dark, light), (light, dark)]))))
    assert sheet.shape == (2 * wide + 6, 2 * wide + 6, 4)
    middles = sheet[[wide // 2, wide // 2, -wide // 2, -wide // 2], [wide // 2, -wide // 2] * 2]
    assert middles[:, 0].tolist() == [51, 204, 204, 51]
    assert (sheet[wide : wide + 6, :, 3] == 0).all()


def test_many_classes_show_the_greatest_losses_first(tmp_path: Path):
    rows = [ClassAccuracy(index=i, name=f"c{i:02d}", before=0.9, after=0.9 - i / 100) for i in range(43)]
    text = page(tmp_path, facts(per_class=rows)).text
    assert text.index("c42") < text.index("c41") < text.index("c31") < text.index("All 43 classes") < text.index("c00")


def test_a_trigger_is_drawn_over_grey_in_whole_blocks():
    finding = trigger(0)
    picture = np.asarray(Image.open(io.BytesIO(trigger_png(finding.pattern, finding.mask))))
    assert picture.shape == (192, 192, 3)
    assert picture[0, 0].tolist() == [128, 128, 128]
    assert picture[-1, -1].tolist() == [255, 0, 0]
    assert picture[6 * 24, 6 * 24].tolist() == [255, 0, 0]
    assert picture[6 * 24 - 1, 6 * 24].tolist() == [128, 128, 128]


@pytest.mark.parametrize("shape", [(2, 8, 8), (8, 8), (3, 8, 9)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="pattern"):
        trigger_png(np.zeros(shape), np.zeros((1, 8, 8)))


def test_the_curve_can_be_drawn_alone_with_any_title(tmp_path: Path):
    draw_curve(facts().curve, 0.2, tmp_path / "a.png", title="$\\frac{ & <b> 50 % $")
    draw_curve(facts().curve, 0.2, tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as titled, Image.open(tmp_path / "b.png") as bare:
        assert titled.size == bare.size
        assert titled.tobytes() != bare.tobytes()


def test_a_curve_of_one_point_and_an_empty_one(tmp_path: Path):
    draw_curve(facts().curve[:1], 0.0, tmp_path / "one.png")
    with pytest.raises(ValueError, match="at least one point"):
        draw_curve([], 0.0, tmp_path / "none.png")


def test_the_same_facts_give_the_same_bytes(tmp_path: Path):
    given = facts()
    first, second = write_report(tmp_path / "a", given), write_report(tmp_path / "b", given)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


PLANE = LossPlane(
    x=[0.0, 0.5, 1.0],
    y=[0.0, 0.5, 1.0],
    accuracy=[[0.9, 0.8, 0.9], [0.5, 0.8, 0.5], [0.2, 0.3, 0.1]],
    attack=[[1.0, 0.0, 1.0], [0.5, 0.0, 0.5], [0.2, 0.1, 0.1]],
    attack_measured=False,
    bends=[(0.5, 0.6)],
    path=[(0.0, 0.0, 0.0), (0.5, 0.5, 0.3), (1.0, 1.0, 0.0)],
    chosen=(0.3, 0.2),
)


def test_the_plane_has_a_picture_and_a_section_of_its_own(tmp_path: Path, usual: Path):
    written = write_report(tmp_path, facts(plane=PLANE))
    assert "plane.png" in [file.name for file in written]
    html = (tmp_path / "report.html").read_text()
    assert "The plane of the path" in html
    assert "clean accuracy, and estimated attack success, with the path" in html
    assert json.loads((tmp_path / "report.json").read_text())["plane"]["chosen"] == [0.3, 0.2]
    assert "The plane of the path" not in (usual / "report.html").read_text()


def test_a_plane_without_the_attack_claims_nothing_of_it(tmp_path: Path):
    both = Image.open(write_report(tmp_path / "both", facts(plane=PLANE))[-1])
    single = facts(measured=False, triggers=[], plane=replace(PLANE, attack=None))
    said = page(tmp_path / "one", single).text
    assert "nothing measured the tampering here" in said
    assert "on the right" not in said
    assert Image.open(tmp_path / "one" / "plane.png").width * 2 == both.width


def test_a_second_path_is_drawn_but_never_chosen_from(tmp_path: Path):
    both = [*facts().curve, Point(0.5, 0.2, (0.1, 0.3), 0.7, (0.6, 0.8), 0.6, path="unaligned")]
    shown = page(tmp_path, facts(curve=both, alignment="Channels were matched."))
    assert "Channels were matched." in shown.text
    assert "clean accuracy falls to 20.0\u00a0% (at t = 0.5)" in shown.text
    assert "has 75.0\u00a0% (at t = 0.5)" in shown.text
    assert "Accuracy without alignment" in shown.text
    assert "All 4 points as a table" in shown.text


def test_injected_errors_are_spoken_of_as_such(tmp_path: Path):
    both = [*facts().curve, Point(0.5, 0.2, (0.1, 0.3), 0.7, (0.6, 0.8), 0.6, path="unaligned")]
    shown = page(tmp_path, facts(tampering="error_injection", triggers=[], curve=both, alignment="", plane=PLANE))
    assert "the attacker's labels are left on 3.1\u00a0% of the suspicious images instead of 100.0\u00a0%" in shown.text
    assert "Injected errors left" in shown.text
    assert "Errors left without alignment" in shown.text
    labels = " ".join(shown.of("alt") + shown.of("aria-label"))
    for word in ("trigger", "attack success", "attack without", "attack 3.0"):
        assert word not in (shown.text + labels).split("Not tested")[0].lower()


def test_disputed_views_stand_in_where_no_images_were_given(tmp_path: Path):
    said = verdict(facts(measured=False, tampering="error_injection", triggers=[]))
    assert "still sides with the suspect on 1.5\u00a0% of the disputed views" in said
