"""A real browser before the real service: Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.e2e.conftest import Example, Serve, example, serving  # noqa: F401  (example is a fixture)

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 240_000
SHORT_LEASE = {"MODECONN_LEASE_SECONDS": "12", "MODECONN_HEARTBEAT_SECONDS": "3"}
"""So that a dead worker's job is taken over soon."""
NORMALISATION = {"Mean per channel": "0.5", "Standard deviation per channel": "0.25"}
"""Of the example, one value for each of three channels."""
PICTURES = Path(__file__).parents[2] / "build" / "page"
"""Where screenshots are left, to be looked at."""

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def service() -> Iterator[Serve]:
    with serving() as running:
        running.environment |= SHORT_LEASE
        running.start()
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not of the whole session: as long as it lives, Playwright's event loop counts as running in this thread."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium (apt-get install chromium): the web page is not tried")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@dataclass
class User:
    """Someone before one tab; what the page must never do is held against it at the end."""

    page: Page
    service: Serve
    example: Example
    errors: list[str]

    def sign_in(self) -> None:
        self.page.goto(self.service.url)
        self.page.get_by_label("Access key").fill(self.service.key)
        self.page.get_by_role("button", name="Sign in").click()
        self.heading("Repairs")

    def heading(self, name: str) -> None:
        expect(self.page.get_by_role("heading", name=name, exact=True, level=1)).to_be_visible()

    def fill_in(self, *, name: str, steps: int, triggered: bool = False) -> Locator:
        """A new repair up to the button that starts it."""
        page = self.page
        page.get_by_role("link", name="New repair").last.click()
        page.get_by_label("Suspect model", exact=True).set_input_files(self.example.model)
        page.get_by_label("Clean images", exact=True).set_input_files(self.example.clean)
        if triggered:
            page.get_by_label("Triggered images (if you have any)", exact=True).set_input_files(self.example.triggered)
        expect(page.get_by_text("180 images of 16 × 16 × 3 in 3 classes: circle, square, stripes")).to_be_visible()
        page.get_by_label("Normalisation, as in its training").select_option("other values")
        for label, value in NORMALISATION.items():
            page.get_by_label(label).fill(", ".join([value] * 3))
        page.get_by_text("Further settings").click()
        page.get_by_label("A name for this repair").fill(name)
        page.get_by_label("Steps of the fit").fill(str(steps))
        # Generous criteria: these tests are about the page, not about how well so small a model can be repaired.
        page.get_by_label("Accuracy that may be lost, in points").fill("100")
        page.get_by_label("Attack success that may be left, in %").fill("100")
        button = page.get_by_role("button", name="Start the repair")
        expect(button).to_be_enabled()
        return button

    def start(self, *, name: str, steps: int = 10, triggered: bool = False) -> None:
        self.fill_in(name=name, steps=steps, triggered=triggered).click()
        self.heading(name)

    def shoot(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


@pytest.fixture
def new_user(browser: Browser, service: Serve, example: Example) -> Iterator[Callable[..., User]]:  # noqa: F811
    users = []

    def make(**options: object) -> User:
        page = browser.new_context(**({"viewport": {"width": 1100, "height": 900}} | options)).new_page()  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE_MS)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
        users.append(User(page, service, example, errors))
        return users[-1]

    yield make
    for user in users:
        user.page.context.close()
        assert user.errors == []


@pytest.fixture
def user(new_user: Callable[..., User]) -> User:
    """Someone who has signed in."""
    someone = new_user()
    someone.sign_in()
    return someone
