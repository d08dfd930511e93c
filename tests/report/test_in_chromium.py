"""The pages in a real browser, from disk and without a network; one start of Chromium for all of these tests."""

import csv
import io
import itertools
import os
import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api")

WIDTHS = (360, 1280)
THEMES = ("light", "dark")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RICH, PLAIN = ("index", "lecture-02"), ("unmatched", "definitions")


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    if path is None and not os.environ.get("CI"):
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        # In a container Chromium has no sandbox of its own.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(chromium, report):
    """Opens a page of the report; it fails at the end if the page complained or asked for anything but files."""
    contexts, said = [], []

    def show(name, width=1280, theme="light", **options):
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=theme,
            offline=True,
            timezone_id="Asia/Tokyo",  # not the course's
            **options,
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(error.message))
        page.on("request", lambda request: request.url.startswith("file://") or said.append(request.url))
        page.on("requestfailed", lambda request: said.append(request.url))
        page.goto(f"{report.folder.as_uri()}/{name}.html")
        return page

    yield show
    for context in contexts:
        context.close()
    assert not said


def table(page, name):
    """The shown rows of a table: what to sort by in each cell, or its text."""
    return page.eval_on_selector(
        f"[id='{name}'] tbody",
        """body => [...body.rows].filter(row => row.checkVisibility())
            .map(row => [...row.cells].map(cell => cell.dataset.v ?? cell.innerText.trim()))""",
    )


def wait_until(page, expression):
    """Wait until an expression is true; Playwright's own way evaluates a text in the page, which its policy forbids."""
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {expression}")


def csv_of(report, name):
    rows = list(csv.DictReader(io.StringIO((report.folder / f"{name}.csv").read_text(encoding="utf-8-sig"))))
    assert rows
    return rows


def sort(page, name, label, *, times=1):
    for _ in range(times):
        page.locator(f"[id='{name}'] thead button").get_by_text(label, exact=True).click()


def test_the_course_is_sorted_filtered_and_followed_to_a_lecture(show, report):
    page = show("index")
    names = [row[0] for row in table(page, "roster")]
    assert len(names) == 80
    sort(page, "roster", "Attended")
    attended = [int(row[1]) for row in table(page, "roster")]
    assert attended == sorted(attended, reverse=True)
    assert page.locator("#roster thead th").nth(1).get_attribute("aria-sort") == "descending"
    sort(page, "roster", "Attended")
    assert [int(row[1]) for row in table(page, "roster")] == sorted(attended)
    sort(page, "roster", "3")
    third = [float(row[4]) for row in table(page, "roster")]
    assert third == sorted(third, reverse=True)

    page.get_by_label("Name or id").fill("garcia")
    found = [row[0] for row in table(page, "roster")]
    assert sorted(found) == sorted(name for name in names if "García" in name)
    assert 0 < len(found) < 80
    assert page.locator("output").inner_text() == f"{len(found)} of 80 students"
    page.get_by_role("button", name="Show all").click()
    playwright.expect(page.locator("output")).to_have_text("80 of 80 students")
    page.get_by_role("combobox", name="Attended").select_option(label="fewer than half")
    assert {int(row[1]) < 2.5 for row in table(page, "roster")} == {True}
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("combobox", name="Lecture", exact=True).select_option("1")
    page.get_by_role("combobox", name="in which the student was").select_option(label="live")
    live = [row.name for row in report.site.rows if row.cells[1][2] in {"live", "both"}]
    assert sorted(row[0].split("\n")[0] for row in table(page, "roster")) == sorted(live)

    title = report.course.lectures[1].title
    page.get_by_role("link", name=title, exact=True).click()
    assert page.url.endswith("/lecture-02.html")
    assert page.locator("h1").inner_text() == f"Lecture 2\n{title}"
    page.get_by_role("link", name="Lecture 3 →").click()
    assert page.url.endswith("/lecture-03.html")
    page.locator("h2 a.term").first.click()
    assert page.url.endswith("/definitions.html#views")
    assert page.locator("dt:target").inner_text() == "Times played"


def test_the_course_s_numbers_are_those_of_the_csv_files_and_of_the_documents(show, report):
    page = show("index")
    shown = csv_of(report, "lectures")
    for row, cells, one in zip(shown, table(page, "lectures"), report.course.lectures, strict=True):
        assert cells[0] == row["number"] == str(one.number)
        assert cells[3:] == [
            row[key] for key in ("present", "absent", "live", "recording", "both", "below", "nothing")
        ]
        assert int(row["present"]) + int(row["absent"]) == 80
        assert sum(int(row[key]) for key in ("live", "recording", "both", "below", "nothing")) == 80
    by_id = {row["huid"]: row for row in csv_of(report, "attendance")}
    coverage = {(one["viewer"], one["mpid"]): one["coverage"] for one in report.documents.viewings}
    for cells in table(page, "roster"):
        name, huid = cells[0].split("\n")
        row = by_id[huid]
        assert (name, cells[1]) == (row["name"], row["attended"])
        for one, cell in zip(report.course.lectures, cells[2:], strict=True):
            live, seen = (float(row[f"{one.number:02}_{what}"]) for what in ("live", "seen"))
            assert float(cell) == max(live, seen)
            assert seen == coverage.get((huid, one.key), 0.0)
    sums = {tuple(row[:2]): row[2] for row in table(page, "sessions")}
    assert sums["Opencast", "all"] == str(len(report.documents.viewings))
    assert sums["Zoom", "all"] == str(sum(one["sessions"] for one in report.documents.attendance))
    for source in ("Opencast", "Zoom"):
        assert int(sums[source, "all matched"]) + int(sums[source, "all not matched"]) == int(sums[source, "all"])


def test_a_lecture_s_numbers_are_those_of_the_csv_files_and_of_the_documents(show, report):
    page = show("lecture-04")
    mpid = report.course.lectures[3].key
    [recording] = [one for one in report.documents.recordings if one["mpid"] == mpid]
    for details in page.locator("details").all():
        details.evaluate("one => one.open = true")
    for name in ("along", "clock", "days", "seen", "students"):
        rows = [list(row.values()) for row in csv_of(report, f"lecture-04-{name}")]
        cells = table(page, f"lecture-04-{name}")
        skip = 1 if name in {"clock", "days"} else 0  # instants are written in another form
        bounds = {"<5": "0", "hidden": "0"}  # where a chart draws them
        assert [[bounds.get(value, value) for value in row][skip:] for row in rows] == [
            row[skip:] for row in cells
        ]
    shown = 0
    for row, views, viewers in zip(
        csv_of(report, "lecture-04-along"), recording["views"], recording["retention"], strict=True
    ):
        if row["viewers"].isdigit():
            assert (int(row["viewers"]), int(row["views"])) == (viewers // 5 * 5, views // 5 * 5)
            shown += 1
        else:
            assert viewers < 5
    assert shown > 20
    live = {one["at"]: one["live"] for one in recording["concurrency"]}
    assert [int(row["live"]) for row in csv_of(report, "lecture-04-clock") if row["live"].isdigit()] == [
        number // 5 * 5 for number in live.values() if number >= 5
    ]


def test_every_chart_is_drawn_in_the_course_s_time_whatever_the_reader_s(show):
    page = show("lecture-04")
    charts = page.locator("figure.chart")
    assert charts.count() == 4
    for number in range(4):
        svg = charts.nth(number).locator("svg").first
        assert svg.get_attribute("role") == "img"
        assert len(svg.get_attribute("aria-label")) > 20
        assert svg.locator("rect, path").count() > 3
    ticks = page.locator("figure[data-chart=clock] svg").first.locator("text").all_text_contents()
    assert "10:00" in ticks  # 15:00 UTC


@pytest.mark.parametrize(("name", "width"), [*itertools.product(RICH, WIDTHS), *((name, 360) for name in PLAIN)])
def test_a_page_fits_the_screen_and_its_charts_follow_it(show, name, width):
    page = show(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for box in page.locator(".plot svg").all():
        assert box.bounding_box()["width"] <= width
    page.set_viewport_size({"width": 700, "height": 800})
    if page.locator(".plot").count():
        wait_until(page, "[...document.querySelectorAll('.plot svg')].every(svg => svg.clientWidth < 700)")


@pytest.mark.parametrize(
    ("name", "theme"), [*itertools.product(RICH, THEMES), *((name, "light") for name in PLAIN)]
)
def test_axe_finds_nothing(show, name, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = show(name, theme=theme)
    for details in page.locator("details").all():
        details.evaluate("one => one.open = true")
    # Rows are all alike, and axe looks at each cell.
    page.evaluate("document.querySelectorAll('tbody tr:nth-child(n + 5)').forEach(row => row.remove())")
    found = axe.Axe().run(page, options={"preload": False, "runOnly": RULES})
    assert [(one["id"], one["nodes"][0]["failureSummary"]) for one in found.response["violations"]] == []


def test_everything_can_be_reached_and_sorted_by_keyboard(show):
    page = show("index")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.locator("#roster thead button").first.focus()
    page.keyboard.press("Enter")
    names = [row[0] for row in table(page, "roster")]
    assert page.locator("#roster thead th").first.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert [row[0] for row in table(page, "roster")] == names[::-1]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Attended"


def test_in_print_there_are_light_colours_and_no_controls(show):
    page = show("index", theme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 35, 48)"
    assert not page.locator("form.filters").is_visible()
    assert page.locator("#roster tbody tr").last.is_visible()
    page.set_viewport_size({"width": 718, "height": 1000})  # A4
    for name in ("roster", "lectures"):
        box = page.locator(f"[id='{name}']").bounding_box()
        assert box["x"] + box["width"] <= 718
    assert len(page.pdf()) > 10_000


def test_without_scripts_the_tables_say_it_all(show):
    page = show("lecture-02", java_script_enabled=False)
    assert page.locator("figure.chart figcaption").count() == 4
    page.locator("summary").first.click()
    assert page.locator("#lecture-02-along tbody tr").first.is_visible()
