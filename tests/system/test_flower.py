"""Flower in a real Chromium while a site harvests: what a person sees."""

import html
import re
import shutil
import subprocess

import pytest

from devservers import stack

LOGIN = "operator:secret-word"
# Milliseconds of a page's own clock until it is dumped: its requests are waited for, so this is no race.
SETTLED = "10000"

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PICTURE = stack.ROOT / "docs" / "flower.png"
LARGEST = 60_000  # bytes
pytestmark = [pytest.mark.fault, pytest.mark.long]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser to test with: Debian's chromium is missing"
)


class Flower:
    """A running Flower and a browser that is logged in."""

    def __init__(self, process, folder, site):
        self.process = process
        self.folder = folder
        self.site = site

    def browse(self, path, *options):
        """Run Chromium, headless, with a page; return what it prints."""
        address = self.process.url.replace("://", f"://{LOGIN}@") + path
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += [f"--user-data-dir={self.folder / 'profile'}", f"--virtual-time-budget={SETTLED}"]
        done = subprocess.run(
            [*command, *options, address], capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    def rows(self):
        """Return the rows of the page of tasks: the texts of their cells."""
        page = self.browse("/tasks", "--dump-dom")
        body = re.search(r"<tbody>(.*?)</tbody>", page, re.DOTALL)[1]
        return [
            [
                html.unescape(re.sub(r"<[^>]*>", "", cell)).strip()
                for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)
            ]
            for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
        ]


@pytest.fixture
def flower(start_site, tmp_path):
    """Flower, and a browser, beside a site that harvests."""
    site = start_site(rows=1_000, workers=0)
    port = stack.free_port()
    options = (f"--address={stack.HOST}", f"--port={port}")
    environment = {**site.environment, "FLOWER_BASIC_AUTH": LOGIN}
    with stack.celery("flower", *options, environment=environment, port=port) as process:
        site.add_worker()
        site.harvest(site.end)
        yield Flower(process, tmp_path, site)


@needs_chromium
def test_a_person_sees_what_tasks_were_about_and_what_came_of_them(flower, pytestconfig):
    rows = flower.rows()
    assert [row for row in rows if "done: 1,000 found, 1,000 sent" in row[3]]
    fetched = [row for row in rows if re.fullmatch(r"[\d,]+ found, [\d,]+ sent", row[3])]
    assert fetched
    for received, name, arguments, *_ in fetched:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+", received)
        assert name == "useractions.fetch"
        assert re.fullmatch(r"run [0-9a-f]{8}, \d{4}-\d\d-\d\d [\d:]{8} to ([\d-]{10} )?[\d:]{8}", arguments)
    flower.site.simulate("faults", {"path": "any", "kind": "status", "status": 401})
    flower.site.until(lambda: any("blocked: Opencast" in row[3] for row in flower.rows()))
    assert not [row for row in flower.rows() if row[3] in {"None", ""}]
    picture = PICTURE if pytestconfig.getoption("--renew-docs") else flower.folder / "flower.png"
    flower.browse(
        "/tasks", "--window-size=1300,560", "--force-device-scale-factor=0.75", f"--screenshot={picture}"
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_picture_in_the_docs_is_small():
    assert PICTURE.stat().st_size < LARGEST
