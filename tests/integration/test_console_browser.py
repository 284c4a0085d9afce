"""The console's pages in a real Chromium, against a real pipeline: found by role and name, as screen readers do."""

import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, Request, ViewportSize, expect, sync_playwright

from local.stack import Addresses
from operations.sending.generator import Mix, records
from sinks.postgres import databases
from tests.integration.consoles import TOKEN, Scene, scene
from tests.integration.pipelines import Upstream
from tests.integration.workers import done, wait_until

pytestmark = pytest.mark.integration

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHONE, DESK = ViewportSize(width=360, height=740), ViewportSize(width=1440, height=900)
expect.set_options(timeout=30_000)
#: Milliseconds for what a page shows by itself.
PATIENCE_MS = 30_000
#: A wallet whose name would do harm if it were not escaped, percent-encoded in addresses.
HOSTILE = "<script>alert(1)</script>/.."


def transaction(
    wallet_id: str, amount: int, group_id: str | None = None, kind: str = "CREDIT"
) -> dict[str, object]:
    return {"transaction_id": str(uuid.uuid4()), "wallet_id": wallet_id, "type": kind, "amount": str(amount),
            "currency": "EUR", "occurred_at": "2026-11-22T09:00:00Z", "group_id": group_id}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (Debian: chromium)")
    with sync_playwright() as playwright:
        # As root Chromium refuses to run in its sandbox; it loads our own pages only.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def place(
    browser: Browser, addresses: Addresses, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A pipeline that went through mixed input, with a transfer, half of one, and a wallet with a hostile name."""
    del browser  # without one there is no need for a pipeline
    with scene(addresses, tmp_path_factory.mktemp("browser")) as found:
        mix = Mix(wallets=60, bad=0.1, duplicates=0.05, seed=5, partitions=4, overdraft_rejected=True)
        Upstream(found.settings).send(records(600, mix))
        for one in (
            transaction("payer", 5_000),
            transaction("payer", 1_250, "rent", "DEBIT"),
            transaction("payee", 1_250, "rent"),
            transaction("payer", 100, "half", "DEBIT"),
            transaction(HOSTILE, 7),
        ):
            assert found.console.post(one).status == 201
        # The sink of a quiet topic follows the other one.
        positions = {str(one["partition"]): one["end"] for one in found.console.get("/pipeline")["places"]
                     if one["reader"] == "worker"}  # fmt: skip
        wait_until(
            lambda: found.console.get("/seals")["complete_until"]["positions"] == positions,
            "all of it is in the tables",
        )
        yield found


class Looked:
    """A page that is looked at: what it complained about, and what it asked of others."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.complaints.append(f"asked {request.url}")

    def open(self, path: str) -> Page:
        """Go there."""
        self.page.goto(self.url + path)
        return self.page


@pytest.fixture
def looked(browser: Browser, place: Scene) -> Iterator[Looked]:
    context = browser.new_context(viewport=DESK)
    found = Looked(context.new_page(), place.console.url)
    yield found
    context.close()
    assert found.complaints == []


def rejected_source(place: Scene, reason: str = "") -> str:
    source: str = place.console.get(f"/rejections?limit=1&reason={reason}")["rejections"][0]["source"]
    return source


def paths(place: Scene) -> dict[str, str]:
    """Every kind of page: its path, and the name of its heading."""
    source = rejected_source(place)
    entry = place.console.get("/wallets/payer/statement")["entries"][0]["source"]
    return {
        "/": "Overview of the pipeline",
        "/wallets": "Wallets",
        "/wallets?prefix=pay": "Wallets",
        "/wallets/payer": "payer",
        f"/wallets/{quote(HOSTILE, safe='')}": HOSTILE,
        "/groups": "Open groups",
        "/groups/rent": "Group rent",
        "/groups/half": "Group half",
        "/rejections": "Rejections",
        "/rejections?reason=DUPLICATE": "Rejections",
        f"/rejections/{source.replace(':', '/')}": f"Rejection of {source}",
        "/rejections/resubmit": "Resubmit rejected records",
        f"/rejections/resubmit?source={source}": "Resubmit rejected records",
        "/rejections/resubmit/progress": "Resubmission",
        f"/outcomes/{entry.replace(':', '/')}": entry,
        "/seals": "Sealed months",
        "/rebuild": "Rebuild",
        "/nothing/here": "There is nothing at this address",
    }


def test_every_page_has_its_heading_and_no_fault_of_accessibility(looked: Looked, place: Scene) -> None:
    for path, heading in paths(place).items():
        page = looked.open(path)
        expect(page.get_by_role("main")).to_contain_text(heading, use_inner_text=False)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        found = Axe().run(page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        if path == "/nothing/here":
            # The browser itself says that it is a 404.
            assert [one for one in looked.complaints if "404" not in one] == []
            looked.complaints.clear()


def test_on_a_phone_in_the_dark_no_page_is_wider_than_the_screen_and_all_is_legible(
    browser: Browser, place: Scene
) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme="dark")
    try:
        looked = Looked(context.new_page(), place.console.url)
        for path in paths(place):
            page = looked.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
            found = Axe().run(page, options={"runOnly": ["color-contrast"]})
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
    finally:
        context.close()


def test_all_is_readable_without_javascript(browser: Browser, place: Scene) -> None:
    context = browser.new_context(viewport=DESK, java_script_enabled=False)
    try:
        looked = Looked(context.new_page(), place.console.url)
        for path, heading in paths(place).items():
            expect(looked.open(path).get_by_role("main")).to_contain_text(heading, use_inner_text=False)
        page = looked.open("/")
        page.get_by_role("searchbox").fill("pay")
        page.get_by_role("button", name="Find").click()
        page.get_by_role("link", name="payer").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("payer")
        expect(page.get_by_role("main")).to_contain_text("36.50")
    finally:
        context.close()


def test_a_chain_is_proved_in_the_browser(looked: Looked) -> None:
    page = looked.open("/wallets/payer")
    page.get_by_role("button", name="Prove the chain").click()
    expect(page.get_by_text("Proved: 3 entries from 1 on follow each other")).to_be_visible()


def test_a_wallets_page_shows_an_entry_as_it_comes(looked: Looked, place: Scene) -> None:
    page = looked.open("/wallets/payee")
    expect(page.get_by_role("main")).to_contain_text("12.50")
    assert place.console.post(transaction("payee", 2)).status == 201
    expect(page.get_by_role("main")).to_contain_text("12.52")


def test_open_groups_are_listed_and_each_group_says_whether_it_is_complete(looked: Looked) -> None:
    page = looked.open("/groups")
    while page.get_by_role("link", name="half", exact=True).count() == 0:
        page.get_by_role("link", name="More groups").click()
    expect(page.get_by_role("link", name="rent", exact=True)).to_have_count(0)
    page.get_by_role("link", name="half", exact=True).click()
    expect(page.get_by_text("Not complete: its legs sum to \u22121.00 EUR")).to_be_visible()
    expect(looked.open("/groups/rent").get_by_text("Complete: its legs sum to zero")).to_be_visible()


def test_a_rejection_is_resubmitted_once_with_a_token_and_a_confirmation(
    looked: Looked, place: Scene
) -> None:
    source = rejected_source(place, "DUPLICATE")
    page = looked.open(f"/rejections/{source.replace(':', '/')}")
    page.get_by_role("link", name="Resubmit it").click()
    expect(page.get_by_role("heading", name="1 record would be sent")).to_be_visible()
    # Neither a token nor a confirmation: the browser does not send the form.
    page.get_by_role("button", name="Resubmit", exact=True).click()
    expect(page).to_have_url(re.compile(r"/rejections/resubmit\?source="))
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Send 1 record to the input").check()
    page.get_by_role("button", name="Resubmit", exact=True).click()
    expect(page.get_by_text("Done: 1 record was sent and confirmed")).to_be_visible()
    assert TOKEN not in page.url
    assert TOKEN not in place.console.process.text()
    page = looked.open(f"/rejections/resubmit?source={source}")
    expect(page.get_by_role("heading", name="0 records would be sent")).to_be_visible()
    expect(page.get_by_text("skipped, resubmitted before: 1")).to_be_visible()
    expect(page.get_by_label("Token")).to_have_count(0)


def numbers(value: Any, name: str = "") -> set[str]:
    """The fields of an answer that are numbers and not strings."""
    if isinstance(value, dict):
        return {found for key, one in value.items() for found in numbers(one, key)}
    if isinstance(value, list):
        return {found for one in value for found in numbers(one, name)}
    return {name} if type(value) in {int, float} else set()


def test_what_may_need_64_bits_is_a_string_in_the_json_of_pages_too(place: Scene) -> None:
    for path in ("/overview.json", "/rejections/resubmit/progress.json"):
        assert numbers(place.console.ask(path).json) <= {"partition", "workers"}, path


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GIVEN = f"token={TOKEN}&confirm=yes&reason=CONFLICT&ends=0:9,1:9"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("confirm=yes&reason=CONFLICT", {}, 401),
        ("token=wrong-token-0123456789&confirm=yes&reason=CONFLICT", {}, 401),
        (GIVEN, {"Sec-Fetch-Site": "cross-site"}, 403),
        (GIVEN, {"Sec-Fetch-Site": "same-site"}, 403),
        (GIVEN, {"Origin": "https://elsewhere.example"}, 403),
        (f"token={TOKEN}&reason=CONFLICT", {}, 400),
        (f"token={TOKEN}&confirm=yes", {}, 400),
        (f"token={TOKEN}&confirm=yes&reason=NONSENSE", {}, 400),
        (f"token={TOKEN}&confirm=yes&reason=CONFLICT", {}, 400),
        (f"token={TOKEN}&confirm=yes&partition=4&ends=0:9", {}, 400),
        (f"token={TOKEN}&confirm=yes&reason=CONFLICT&ends=nonsense", {}, 400),
        (GIVEN + "&from_offset=5&to_offset=4", {}, 400),
        (GIVEN + "&x=y" * 20, {}, 400),
        (GIVEN + "&x=" + "y" * 10_000, {}, 413),
        ("{}", {"Content-Type": "application/json"}, 415),
    ],
)
def test_a_form_that_is_not_ours_sends_nothing(
    place: Scene, body: str, headers: dict[str, str], status: int
) -> None:
    def ends() -> list[str]:
        return [one["end"] for one in place.console.get("/pipeline")["places"] if one["reader"] == "worker"]

    before = ends(), place.console.ask("/rejections/resubmit/progress.json").json
    answer = place.console.ask("/rejections/resubmit", "POST", body.encode(), FORM | headers)
    assert answer.status == status, answer.body
    assert TOKEN.encode() not in answer.body
    assert (ends(), place.console.ask("/rejections/resubmit/progress.json").json) == before


def test_a_form_that_may_not_come_is_refused_before_it_has_come(place: Scene) -> None:
    coming = FORM | {"Content-Length": "100", "Sec-Fetch-Site": "cross-site"}
    assert place.console.ask("/rejections/resubmit", "POST", headers=coming).status == 403


def test_a_form_sends_what_its_dry_run_showed_and_nothing_that_was_rejected_since(place: Scene) -> None:
    foreign = {"currency": "USD"}
    assert place.console.post(transaction("payer", 1) | foreign).status == 422
    shown = place.console.ask("/rejections/resubmit.json?reason=CURRENCY_MISMATCH").json
    assert place.console.post(transaction("payer", 2) | foreign).status == 422
    ends = ",".join(f"{partition}:{end}" for partition, end in shown["ends"].items())
    form = f"token={TOKEN}&confirm=yes&reason=CURRENCY_MISMATCH&ends={ends}"
    assert place.console.ask("/rejections/resubmit", "POST", form.encode(), FORM).status == 303

    def progress() -> dict[str, Any]:
        return place.console.ask("/rejections/resubmit/progress.json").json

    wait_until(lambda: progress()["ended_at"] is not None, "it has ended")
    assert progress()["problem"] is None
    assert progress()["result"]["records"] == shown["records"]


def test_a_console_that_is_read_only_shows_a_dry_run_and_sends_nothing(place: Scene) -> None:
    console = place.another(console_writes=False)
    wait_until(lambda: console.knows_kafka, "it has reached Kafka")
    shown = console.ask("/rejections/resubmit?reason=CONFLICT")
    assert shown.status == 200
    assert b"This console is read-only" in shown.body
    for query, told in (
        ("from_offset=5&to_offset=4", "from_offset is after to_offset"),
        ("partition=4", "partition '4' is not a whole number from 0 to 3"),
        ("source=4:0", "source 4:0: the pipeline has partitions 0 to 3"),
    ):
        refused = console.ask(f"/rejections/resubmit.json?{query}")
        assert (refused.status, refused.json["detail"]) == (400, told)
    dry_run = console.ask("/rejections/resubmit.json?reason=CONFLICT").json
    assert int(dry_run["records"]) > 0
    assert numbers(dry_run) == {"partition"}
    assert console.ask("/rejections/resubmit", "POST", GIVEN.encode(), FORM).status == 403


def test_a_rebuild_is_followed_to_its_differences(browser: Browser, place: Scene) -> None:
    name = f"{place.settings.prefix.replace('-', '_')}_shadow"
    shadow = databases.create(place.settings, name)
    changes = {"rebuild_prefix": f"{place.settings.prefix}.shadow", "rebuild_postgres": shadow.postgres}
    settings = place.settings.model_copy(update=changes)
    context = browser.new_context(viewport=DESK)
    try:
        console = place.another(**changes)
        looked = Looked(context.new_page(), console.url)
        wait_until(lambda: console.knows_kafka, "it has reached Kafka")
        expect(looked.open("/rebuild").get_by_role("main")).to_contain_text("has no shadow")
        # What was rejected for want of funds is posted in the shadow.
        done(settings, place.folder, "rebuild", "start", "--overdraft", "allow")
        page = looked.open("/rebuild")
        expect(page.get_by_text("Complete:")).to_be_visible()
        expect(page.get_by_role("row", name=re.compile("^sink ledger 0 "))).to_be_visible()
        # Neither an address nor another site's page begins to compare.
        console.ask("/rebuild?compare=now")
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}):
            assert console.ask("/rebuild/compare", "POST", headers=headers).status == 403
        assert console.ask("/rebuild.json").json["comparison"]["started_at"] is None
        page.get_by_role("button", name="Compare now").click()

        def compared() -> bool:
            page.goto(f"{console.url}/rebuild")
            return page.get_by_role("row", name=re.compile("^wallet-")).count() > 0

        wait_until(compared, "both are compared")
        expect(page.get_by_text(re.compile(r"\d+ differ"))).to_be_visible()
        assert Axe().run(page).violations_count == 0
        told = console.ask("/rebuild.json").json
        assert told["progress"]["complete"]
        assert int(told["comparison"]["result"]["different"]) > 0
        assert numbers(told) == {"partition"}
        assert looked.complaints == []
    finally:
        context.close()
        done(settings, place.folder, "rebuild", "discard", "--execute")
        databases.drop(place.settings, name)


def test_pictures_of_the_docs_are_small() -> None:
    """They are in the repository for ever."""
    for picture in (Path(__file__).parents[2] / "docs").rglob("*.png"):
        assert picture.stat().st_size < 150_000, picture.name
