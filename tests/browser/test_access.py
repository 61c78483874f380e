"""What every page owes to everybody: readable by all, usable on a tablet and by keyboard, obedient to its policy."""

from collections.abc import Callable
from pathlib import Path

from selenium.webdriver.common.keys import Keys

from jobs.models import Job
from jobs.submission import submit
from monitoring.models import Report
from tests.browser.failed import make_failed
from tests.browser.pages import acts, every_page, forms, own_pages
from tests.browser.person import Person

Come = Callable[..., Person]
AXE = Path(__file__).with_name("axe") / "axe.min.js"
DESK, TABLETS = 1400, (1024, 768)
# Colours fade when the scheme changes on an open page; they are looked at as they will be.
ASK_AXE = """
const done = arguments[0];
const frame = () => new Promise(requestAnimationFrame);
const fade = () => document.getAnimations()
  .filter((each) => each instanceof CSSTransition).forEach((each) => each.finish());
const rules = {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]};
frame().then(frame).then(fade).then(() => axe.run(document, rules)).then(
  (found) => done(found.violations.map((each) => each.id + ": " + each.nodes.slice(0, 3).map((node) => node.html))),
  (error) => done([String(error)]));
"""
# Charts are drawn anew a moment after their page became narrower: until then the page is as wide as it was.
MEASURE = """
const done = arguments[0], root = document.documentElement, patience = performance.now() + 5000;
const look = () => {
  const wrong = [];
  if (root.scrollWidth > innerWidth) wrong.push(`${root.scrollWidth} pixels wide`);
  const [filter, table] = ["#changelist-filter", "main table"].map((css) => document.querySelector(css));
  if (filter && table && filter.getBoundingClientRect().bottom > table.getBoundingClientRect().top)
    wrong.push("its filters are not above its table");
  if (wrong.length && performance.now() < patience) requestAnimationFrame(look); else done(wrong);
};
requestAnimationFrame(look);
"""
PRESSED = "header, nav, button, .button, input[type=submit]"


def test_every_own_page_is_readable_by_all_fits_a_tablet_and_obeys_its_policy(person: Come) -> None:
    mira = person()
    mira.complaints()
    mira.asked_hosts()
    wrong = [f"{page} {each}" for page in own_pages() for each in look(mira.open(page))]
    assert wrong == []
    assert mira.asked_hosts() == {mira.address.removeprefix("http://")}


def test_so_is_what_clicks_lead_to(person: Come) -> None:
    own_pages()
    mira = person()
    mira.complaints()
    wrong = [f"{state} {each}" for steps in (acts, forms) for state in steps(mira) for each in look(mira)]
    assert wrong == []


def test_so_is_the_panel_for_those_who_may_see_nothing_of_it(person: Come) -> None:
    newcomer = person("newcomer")
    newcomer.complaints()
    newcomer.open("/admin/").sees("Nothing you may see yet")
    assert look(newcomer) == []
    newcomer.run("document.querySelector('#logout-form button').click()")
    newcomer.sees("Logged out")
    assert look(newcomer) == []
    newcomer.open("/admin/login/")
    assert look(newcomer) == []
    newcomer.write("#id_username", "newcomer").write("#id_password", "wrong").click("[type=submit]")
    newcomer.sees("Please enter the correct username and password")
    assert look(newcomer) == []


def test_the_page_that_asks_about_very_many_letters_shuts_nobody_out(person: Come) -> None:
    make_failed(1001, "KeyError: 'vat_rate'", "a-crowd")
    mira = person("operator").open("/admin/deadletters/deadletter/?resolution=OPEN&fingerprint=a-crowd")
    mira.complaints()
    mira.click("#action-toggle").press("Select all that match").press("Replay…").sees("Replay 1,001 dead letters?")
    assert look(mira) == []
    mira.write("#id_reason", "the rate is back").write("#id_pace", "1000").press("Replay 1,001 dead letters")
    mira.sees("of 1,001 sent", css="#replay")
    mira.sees("Done", css="#replay-state")
    assert mira.complaints() == []
    crowd = Job.objects.filter(letters__fingerprint="a-crowd")
    mira.waits(lambda: crowd.filter(state="SUCCESS").count() == 1001, "every job of the crowd to run again")


def test_no_admin_page_breaks_its_content_policy_or_asks_another_host(person: Come) -> None:
    mira = person()
    mira.complaints()
    mira.asked_hosts()
    wrong = [f"{page} {each}" for page in every_page() for each in mira.open(page).complaints()]
    assert wrong == []
    assert mira.asked_hosts() == {mira.address.removeprefix("http://")}


def test_a_job_is_found_and_cancelled_by_keyboard_alone(person: Come) -> None:
    job = submit("slow", {"seconds": 1}, delay=3600, tags=["a-keyboard"])
    mira = person("operator").open("/admin/jobs/job/?q=tag:a-keyboard")
    mira.tab_to("Skip to main content").strike(Keys.ENTER).tab_to("Queue").strike(Keys.ENTER)
    mira.waits(lambda: mira.all("details.filter[open]"), "the menu to open")
    mira.strike(Keys.TAB, Keys.ESCAPE)
    mira.waits(lambda: not mira.all("details.filter[open]"), "the menu to close")
    assert mira.driver.switch_to.active_element.text == "Queue"
    mira.tab_to("slow").strike(Keys.ENTER).sees("slow", css="h1")
    mira.tab_to("Cancel").strike(Keys.ENTER).sees("Waiting jobs are revoked at once")
    mira.strike("wrong customer").tab_to("Cancel job").strike(Keys.SPACE).sees("Revoked", css="#job-state")
    assert Job.objects.get(pk=job.pk).state == "REVOKED"


def test_a_printed_report_has_its_tables_and_nothing_to_press(person: Come) -> None:
    own_pages()
    mira = person().open(f"/reports/{Report.objects.all()[0].pk}/")
    assert {"CSV", "PDF"} < shown(mira)
    mira.prefers("dark", media="print")
    assert shown(mira) == set()
    assert [each.is_displayed() for each in mira.all("main table")] == [True, True]
    paper = mira.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"


def shown(mira: Person) -> set[str]:
    return {each.text for each in mira.all(PRESSED) if each.is_displayed()}


def look(mira: Person) -> list[str]:
    """What is wrong with the open page, in either scheme, at a desk and on a tablet."""
    wrong = mira.complaints()
    mira.run(AXE.read_text())
    for scheme in ("light", "dark"):
        mira.prefers(scheme)
        wrong += [f"{scheme}: {each}" for each in mira.driver.execute_async_script(ASK_AXE)]
    for width in (*TABLETS, DESK):
        mira.is_as_big_as(width)
        wrong += [f"at {width}: {each}" for each in mira.driver.execute_async_script(MEASURE)]
    # Axe parses style sheets with styles of its own, which the policy forbids.
    mira.complaints()
    return wrong
