"""The web page as people use it, from the key to the repaired model."""

import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import safetensors.torch
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.page.conftest import User

ENDLESS = 1_000_000
SERIOUS = ("serious", "critical")


def download(page: Page, button: str, target: Path) -> Path:
    with page.expect_download() as expected:
        page.get_by_role("button", name=button, exact=True).click()
    expected.value.save_as(target)
    return target


def assert_accessible(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS] == []


def assert_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


def test_from_the_key_to_the_repaired_model_and_to_another_t(user: User, tmp_path: Path) -> None:
    page = user.page
    button = user.fill_in(name="the whole way", steps=10, triggered=True)
    expect(page.get_by_text("preact_resnet18, width 4, 3 classes")).to_be_visible()
    expect(page.get_by_alt_text("An image of square")).to_be_visible()
    user.shoot("new")
    assert_accessible(page)
    button.click()
    user.heading("the whole way")
    expect(page.get_by_text("criteria met")).to_be_visible()
    expect(page.locator("svg.curve circle.accuracy").nth(5)).to_be_visible()
    page.get_by_text("Triggers of classes that were not flagged").click()
    expect(page.get_by_role("img", name=re.compile("^Inverted patch for"))).not_to_have_count(0)
    expect(page.get_by_alt_text(re.compile("^Images that the suspect takes for")).first).to_be_visible()
    expect(page.get_by_text("Confidence on clean images")).to_be_visible()
    expect(page.locator("img:not([src])")).to_have_count(0)
    user.shoot("result")
    assert_accessible(page)
    page.set_viewport_size({"width": 360, "height": 740})
    user.shoot("phone-result")
    assert_fits(page)
    page.set_viewport_size({"width": 1100, "height": 900})

    chosen = download(page, "Download the repaired model", tmp_path / "chosen.safetensors")
    page.get_by_label("t: 0 is the suspect").fill("0.1")
    expect(page.locator("output")).to_have_text("0.100")
    other = download(page, "Download the model at this t", tmp_path / "other.safetensors")
    suspect, repaired, nearer = (safetensors.torch.load_file(file) for file in (user.example.model, chosen, other))
    assert suspect.keys() == repaired.keys() == nearer.keys()

    def far(state: dict[str, torch.Tensor]) -> float:
        return sum(float((state[name].float() - suspect[name].float()).norm()) for name in suspect)

    assert 0 < far(nearer) < far(repaired)
    assert "<!doctype html>" in download(page, "Report", tmp_path / "report.html").read_text().lower()


def test_the_suspect_is_measured_before_the_start_and_what_suits_it_is_taken_over(user: User) -> None:
    page = user.page
    page.get_by_role("link", name="New repair").last.click()
    page.get_by_label("Suspect model", exact=True).set_input_files(user.example.model)
    page.get_by_label("Clean images", exact=True).set_input_files(user.example.clean)
    page.get_by_label("Normalisation, as in its training").select_option("other values")
    page.get_by_label("Mean per channel").fill("1, 1, 1")
    page.get_by_label("Standard deviation per channel").fill("0.02, 0.02, 0.02")
    expect(page.get_by_text("a repair would refuse to start")).to_be_visible()
    assert_accessible(page)
    user.shoot("measured-badly")
    page.get_by_role("button", name="Use it").first.click()
    expect(page.get_by_text(re.compile(r"^([7-9]\d|100)\.\d % \(.* %\) of 180 clean images$"))).to_be_visible()
    expect(page.get_by_text("a repair would refuse to start")).to_have_count(0)
    assert page.get_by_label("Mean per channel").input_value() != "1, 1, 1"
    user.shoot("measured")


def test_a_reload_and_a_second_tab_show_the_same_running_job(user: User) -> None:
    user.start(name="reloaded", steps=ENDLESS)
    page = user.page
    expect(page.locator('[aria-current="step"]')).to_have_text("Fit the path")
    expect(page.get_by_text(re.compile(r"The suspect gets \d+\.\d % of your clean images right."))).to_be_visible()
    page.reload()
    expect(page.locator('[aria-current="step"]')).to_have_text("Fit the path")
    with page.expect_popup() as opened:
        page.evaluate("open(location.href)")  # a tab of the same session
    second = opened.value
    expect(second.locator('[aria-current="step"]')).to_have_text("Fit the path")
    second.get_by_role("button", name="Cancel").click()
    for tab in (second, page):
        expect(tab.get_by_text("Nothing was kept of it.")).to_be_visible()
    page.get_by_role("button", name="Try it again").click()
    expect(page.get_by_text("Nothing was kept of it.")).to_have_count(0)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Nothing was kept of it.")).to_be_visible()


def test_a_process_that_dies_is_told_of_and_the_repair_goes_on(user: User) -> None:
    user.start(name="killed", steps=ENDLESS)
    page = user.page
    expect(page.locator('[aria-current="step"]')).to_have_text("Fit the path")
    assert user.service.process is not None
    everyone = psutil.Process(user.service.process.pid).children(recursive=True)
    servers = [one for one in everyone if "forkserver" in " ".join(one.cmdline())]
    jobs = [child for server in servers for child in server.children()]
    assert jobs
    for child in jobs:
        child.kill()
    expect(page.get_by_text("Attempt 2:")).to_be_visible()
    user.shoot("attempt")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Nothing was kept of it.")).to_be_visible()


def test_a_worker_that_dies_is_replaced_and_the_repair_goes_on(user: User) -> None:
    user.start(name="orphaned", steps=ENDLESS)
    page = user.page
    expect(page.locator('[aria-current="step"]')).to_have_text("Fit the path")
    [worker] = workers_of(user)
    worker.kill()
    expect(page.get_by_text("Attempt 2:")).to_be_visible()
    expect(page.locator('[aria-current="step"]')).to_have_text("Fit the path")
    assert [one.pid for one in workers_of(user)] != [worker.pid]
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Nothing was kept of it.")).to_be_visible()


def workers_of(user: User) -> list[psutil.Process]:
    """The Celery workers of the service, without their children."""
    assert user.service.process is not None
    serve = psutil.Process(user.service.process.pid)
    return [one for one in serve.children() if "worker.app" in " ".join(one.cmdline())]


def test_wrong_files_and_settings_are_refused_with_a_way_out(user: User, tmp_path: Path) -> None:
    page = user.page
    page.get_by_role("link", name="New repair").last.click()
    wrong = tmp_path / "model.pt"
    wrong.write_bytes(b"<html>Sign in</html>")
    page.get_by_label("Suspect model", exact=True).set_input_files(wrong)
    expect(page.locator(".field .wrong")).to_contain_text("web page")
    user.shoot("wrong-file")
    page.get_by_label("Suspect model", exact=True).set_input_files(user.example.model)
    page.get_by_label("Clean images", exact=True).set_input_files(user.example.clean)
    page.get_by_label("Architecture").fill("resnet_of_nobody")
    expect(page.get_by_role("alert").filter(has_text="resnet_of_nobody")).to_be_visible()
    expect(page.get_by_role("button", name="Start the repair")).to_be_disabled()
    page.get_by_label("Architecture").fill("")
    page.get_by_label("Normalisation, as in its training").select_option("none: 0 to 1")
    expect(page.get_by_text("check the normalisation")).to_be_visible()


def test_a_wrong_key_is_refused_and_a_lost_one_asked_for_again(new_user: Callable[..., User]) -> None:
    user = new_user()
    page = user.page
    page.goto(user.service.url)
    assert_accessible(page)
    page.get_by_label("Access key").fill("mcr_nobody000000_" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("key")
    user.sign_in()
    page.evaluate("sessionStorage.setItem('modeconn.key', 'mcr_nobody000000_x')")
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.goto(f"{user.service.url}/#key={user.service.key}")
    user.heading("Repairs")
    assert user.service.key not in page.url


def test_the_list_is_searched_and_two_are_compared(user: User) -> None:
    page = user.page
    for name in ("one of two", "two of two"):
        user.start(name=name)
        expect(page.get_by_text("criteria met")).to_be_visible()
    page.get_by_role("link", name="Repairs").click()
    page.get_by_label("Search").fill("of two")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    assert_accessible(page)
    user.shoot("list")
    for name in ("one of two", "two of two"):
        page.get_by_label(f"Compare {name}").check()
    page.get_by_role("link", name="Compare the two").click()
    user.heading("Two repairs")
    expect(page.get_by_role("row", name="Chosen t")).to_be_visible()
    assert_accessible(page)
    user.shoot("compare")


@pytest.mark.parametrize("look", ["dark", "phone"])
def test_it_is_readable_in_the_dark_and_on_a_phone(look: str, new_user: Callable[..., User]) -> None:
    options = {"dark": {"color_scheme": "dark"}, "phone": {"viewport": {"width": 360, "height": 740}}}[look]
    user = new_user(**options)
    user.sign_in()
    for name in ("Repairs", "New repair"):
        user.page.get_by_role("link", name=name).first.click()
        assert_accessible(user.page)
        user.shoot(f"{look}-{name.lower().replace(' ', '-')}")
        assert_fits(user.page)


def test_it_can_be_used_by_keyboard_alone(new_user: Callable[..., User]) -> None:
    user = new_user()
    page = user.page
    page.goto(user.service.url)
    expect(page.get_by_label("Access key")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.get_by_label("Access key").focus()
    page.keyboard.type(user.service.key)
    page.keyboard.press("Enter")
    user.heading("Repairs")
    page.get_by_role("link", name="New repair").last.focus()
    page.keyboard.press("Enter")
    user.heading("New repair")


def test_the_example_is_repaired_in_five_clicks(new_user: Callable[..., User], tmp_path: Path) -> None:
    """As `modeconn serve` and the README say it, with nothing set by hand; choosing a file counts as a click."""
    user = new_user()
    page = user.page
    example = Path(__file__).parents[2] / "examples" / "cifar10"
    page.goto(f"{user.service.url}/#key={user.service.key}")
    page.get_by_role("link", name="New repair").last.click()
    page.get_by_label("Suspect model", exact=True).set_input_files(example / "suspect.safetensors")
    page.get_by_label("Clean images", exact=True).set_input_files(example / "clean.zip")
    button = page.get_by_role("button", name="Start the repair")
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_text("criteria met")).to_be_visible()
    repaired = download(page, "Download the repaired model", tmp_path / "repaired.safetensors")
    suspect = safetensors.torch.load_file(example / "suspect.safetensors")
    assert safetensors.torch.load_file(repaired).keys() == suspect.keys()
    expect(page.get_by_role("heading", name="airplane")).to_contain_text("flagged")
    user.shoot("example")
    page.emulate_media(media="print")
    user.shoot("print")
