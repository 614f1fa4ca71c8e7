"""Pages over the sample town: each is there in both languages, is honest, cannot be scripted, and says clearly what cannot be."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from openami.errors import DataError, StorageError
from openami.web.townbook import DamagedDay

from .client import signed_in
from .sample_town import DAYS, MISSING_METER, SILENT, SPIKED, SampleTown, account, serial

PAGES = {
    "/": "Demo town",
    "/meters": "XMA0000001",
    f"/meters/{serial(SPIKED)}": serial(SPIKED),
    f"/meters/{serial(MISSING_METER)}": serial(MISSING_METER),
    f"/meters/{serial(SILENT)}": serial(SILENT),
    "/transformers/DT-04": "DT-04",
    "/transformers/DT-12": "DT-12",
    "/feeders/F1": "F1",
    "/feeders/F2": "F2",
    f"/consumers/{account(0)}": account(0),
    "/due": "2000000001",
    "/quarantine": "93",
}


@pytest.fixture(scope="module")
def sample():
    return signed_in(SampleTown())


@pytest.fixture
def client(sample):
    """Remembers no language of the test before."""
    if "openami-language" in sample.cookies:
        sample.cookies.delete("openami-language")
    return sample


@pytest.fixture(scope="module")
def hostile():
    return signed_in(SampleTown(hostile=True))


def _text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


class _Outline(HTMLParser):
    """Collects what a page refers to, its scripts, its ids, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "action"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)
            if name.startswith("on") or name == "style":
                self.handlers.append(f"{tag} {name}")
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


@pytest.mark.parametrize("language", ["en", "hi"])
@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_whole_in_both_languages(client, path, language):
    answer = client.get(path, params={"lang": language})
    assert answer.status_code == 200
    assert PAGES[path] in _text(answer.text)
    assert f'<html lang="{language}">' in answer.text
    outline = _Outline(answer.text)
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.tags.count("h1") == 1
    assert "script" not in outline.tags
    assert outline.handlers == []
    assert "None" not in _text(answer.text).replace("None.", "").replace("None:", "")


@pytest.mark.parametrize("path", PAGES)
def test_every_link_of_every_page_leads_somewhere(client, path):
    for link in set(_Outline(client.get(path, params={"lang": "hi"}).text).links):
        if link.startswith("#"):
            continue
        assert link.startswith("/")
        assert client.get(link).status_code == 200, link


@pytest.mark.parametrize("path", PAGES)
def test_no_text_from_data_becomes_markup(hostile, path):
    for language in ("en", "hi"):
        html = hostile.get(path, params={"lang": language}).text
        assert "<script" not in html
        assert "<b>&#34;" not in html


@pytest.mark.parametrize("path", [*PAGES, "/nothing", "/?day=x", "/static/openami.css", "/health", f"/meters/{serial(1)}/day.csv"])
def test_every_answer_has_the_safe_headers(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"


def test_the_tree_shows_numbers_and_coverage_beside_the_colour(client):
    html = client.get("/").text
    tile = re.search(r'<a class="heat (\S+)" href="/transformers/DT-04[^>]*>(.*?)</a>', html, re.S)
    assert tile[1] == "l4"
    words = _text(tile[2])
    assert "loss 31.2%" in words
    assert "100% metered" in words
    assert "▲ stands out" in words
    unknown = re.search(r'<a class="heat (\S+)" href="/transformers/DT-12[^>]*>(.*?)</a>', html, re.S)
    assert unknown[1] == "l-unknown"
    assert "loss unknown" in _text(unknown[2])
    negative = re.search(r'<a class="heat (\S+)" href="/transformers/DT-06[^>]*>(.*?)</a>', html, re.S)
    assert negative[1] == "l-negative"
    assert "▼ stands out" in _text(negative[2])


def test_the_town_counts_what_is_silent_quarantined_and_worth_a_look(client):
    words = _text(client.get("/").text)
    assert "Silent meters 4 of 418" in words
    assert "In quarantine 532 of 1,21,043 frames received" in words
    assert "registered on DT-06, seems to hang on DT-03" in words
    assert "its transformer loses in step with it 61 %" in words.replace("61%", "61 %")
    assert "it stands still 22 %" in words.replace("22%", "22 %")
    assert "frozen value 388 6" in words


def test_a_meters_day_shows_its_quality(client):
    words = _text(client.get(f"/meters/{serial(SPIKED)}").text)
    assert "96 intervals: 0 missing, 4 estimated, 2 flagged." in words
    assert "10:00–10:30 spike, estimated, straight line" in words
    assert "36,000" in words
    words = _text(client.get(f"/meters/{serial(MISSING_METER)}").text)
    assert "02:30–04:00 missing" in words
    assert "6 missing" in words
    assert "Nothing was read from this meter" in _text(client.get(f"/meters/{serial(SILENT)}").text)


def test_the_values_behind_the_curve_are_all_there(client):
    html = client.get(f"/meters/{serial(SPIKED)}").text
    table = re.search(r"<details><summary>All 96 values</summary>.*?<tbody>(.*?)</tbody>", html, re.S)[1]
    rows = re.findall(r"<tr.*?</tr>", table, re.S)
    assert len(rows) == 96
    assert "24:00" in rows[-1]


def test_a_meters_csv_is_what_the_page_shows(client):
    answer = client.get(f"/meters/{serial(MISSING_METER)}/day.csv", params={"day": "2026-03-03"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert f"{serial(MISSING_METER)}-2026-03-03.csv" in answer.headers["content-disposition"]
    rows = [r for r in csv.DictReader(io.StringIO(answer.text)) if r["channel"] == "import_wh"]
    assert len(rows) == 96
    assert rows[0]["interval_end"] == "2026-03-03T00:15:00+05:30"
    assert [r["value"] for r in rows[10:16]] == [""] * 6
    assert rows[60]["raw"] == ""
    assert rows[60]["quality"] == "missing estimated_like_day"


def test_a_transformers_csv_leaves_unknown_empty(client):
    rows = list(csv.DictReader(io.StringIO(client.get("/transformers/DT-12/hours.csv").text)))
    assert len(rows) == 24
    assert {r["in_wh"] for r in rows} == {""}
    assert {r["loss_wh"] for r in rows} == {""}
    assert {r["coverage"] for r in rows} == {"0.0"}


def test_a_consumer_reads_hindi_unless_another_language_is_asked_or_theirs(client):
    assert '<html lang="hi">' in client.get(f"/consumers/{account(0)}").text
    assert '<html lang="en">' in client.get(f"/consumers/{account(0)}?lang=en").text
    assert '<html lang="en">' in client.get(f"/consumers/{account(1)}", headers={"accept-language": "hi"}).text


def test_a_consumer_sees_rupees_first_and_why(client):
    words = _text(client.get(f"/consumers/{account(0)}?lang=en").text)
    assert re.search(r"Balance ₹418\.72 Lasts about 10 days as of 5 Mar 2026, 00:00", words)
    assert words.index("₹418.72") < words.index("kWh" if "kWh" in words else "units")
    assert re.search(r"Why yesterday cost this Wed 4 Mar ₹41\.49 for 8\.42 units", words)
    assert "State subsidy paid for you by the state government −₹27.79" in words
    assert "Balance before ₹260.21 Recharge +₹200.00 Taken for this day −₹41.49 Balance after ₹418.72" in words
    assert "0.61 of these units are estimated" in words
    assert "sources disagree between 5 % and 6 %" in words


def test_a_consumer_in_arrears_reads_why_supply_is_not_cut(client):
    words = _text(client.get(f"/consumers/{account(2)}?lang=hi").text)
    assert "−₹123.45" in words
    assert "अभी नहीं काटी जाएगी, क्योंकि: शाम 5:30 बजे के बाद" in words


def test_the_day_on_which_the_free_units_end_is_explained(client):
    words = _text(client.get(f"/consumers/{account(9)}?lang=en").text)
    assert "free units are used up: what was held back until now, such as the fixed charge of earlier days, is due ₹31.76" in words


def test_what_a_consumer_cannot_be_told_is_said(client):
    assert "How long it lasts cannot be told yet." in _text(client.get(f"/consumers/{account(6)}?lang=en").text)
    assert "This day is not charged yet." in _text(client.get(f"/consumers/{account(8)}?lang=en").text)
    assert "within this month's free units" in _text(client.get(f"/consumers/{account(4)}?lang=en").text).replace("&#39;", "'")
    assert "2 intervals of the day are still missing" in _text(client.get(f"/consumers/{account(3)}?lang=en").text)


def test_a_consumers_page_is_kept_by_no_cache_and_out_of_the_control_room(client):
    answer = client.get(f"/consumers/{account(0)}")
    assert answer.headers["cache-control"] == "private, no-store"
    assert "Quarantine" not in answer.text


def test_the_meter_list_filters_and_turns_pages(client):
    words = _text(client.get("/meters", params={"text": "up-00042"}).text)
    assert "1 meter" in words
    assert serial(41) in words
    silent = _text(client.get("/meters", params={"state": "silent"}).text)
    assert serial(SILENT) in silent
    last = client.get("/meters", params={"offset": "350"}).text
    assert "351 to 400 of 400" in _text(last)
    assert 'rel="next"' not in last
    assert "No meter matches." in client.get("/meters", params={"text": "zzz"}).text


def test_links_keep_the_language_that_was_asked_for(client):
    html = client.get("/meters", params={"lang": "hi", "transformer": "DT-04", "day": "2026-03-03"}).text
    own = [link for link in _Outline(html).links if link.startswith("/meters/")]
    assert own
    assert all("lang=hi" in link and "day=2026-03-03" in link for link in own)
    assert "/meters?transformer=DT-04&amp;day=2026-03-03&amp;lang=en" in html


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/meters/NOPE", 404, "There is no meter NOPE here for you."),
        ("/transformers/DT-99", 404, "There is no transformer DT-99 here for you."),
        ("/transformers/DT-99/hours.csv", 404, "There is no transformer DT-99 here for you."),
        ("/feeders/F9", 404, "There is no feeder F9 here for you."),
        ("/consumers/123", 404, "There is no account 123."),
        ("/?day=2020-01-01", 404, "There are days from Mon 2 Mar 2026 to Wed 4 Mar 2026."),
        ("/?day=2026-02-30", 422, "“2026-02-30” is not a day."),
        ("/?day=20260304", 422, "“20260304” is not a day."),
        ("/?day=1772582400", 422, "“1772582400” is not a day."),
        ("/?day=yesterday-at-noon", 422, "is not a day."),
        ("/?lang=xx", 422, "“xx” is not a language of this page."),
        ("/meters?state=bogus", 422, "“bogus” cannot be used for “State”."),
        ("/meters?check=bogus", 422, "“bogus” cannot be used for “Check”."),
        ("/meters?kind=bogus", 422, "“bogus” cannot be used for “Kind”."),
        ("/meters?offset=-1", 422, "“-1” is not a place in the list."),
        ("/meters?offset=99999999999", 422, "is not a place in the list."),
        ("/meters/%3Cscript%3E", 422, "cannot be a name here"),
        ("/meters/" + "A" * 5000, 422, "cannot be a name here"),
        ("/consumers/1%00", 422, "cannot be a name here"),
        ("/meters?text=%00", 422, "“Text” holds a character that cannot be kept."),
        ("/meters?text=" + "A" * 5000, 422, "What was given for “Text” is too long: at most 40 letters."),
        ("/nothing/here", 404, "There is no page at this address."),
        ("/static/../app.py", 404, "There is no page at this address."),
        ("/static/app.py", 404, "There is no page at this address."),
    ],
)
def test_what_cannot_be_is_said_in_one_clear_sentence(client, path, status, sentence):
    answer = client.get(path)
    assert answer.status_code == status
    assert sentence in _text(answer.text)
    assert "<script" not in answer.text


def test_failures_speak_the_readers_language(client):
    hindi = client.get("/meters/NOPE", headers={"accept-language": "hi-IN,en;q=0.3"}).text
    assert "NOPE नाम का कोई मीटर आपके लिए उपलब्ध नहीं है।" in hindi
    assert "अंक" in client.get("/meters/%3Cb%3E?lang=hi").text


@pytest.mark.parametrize("path", ["/nothing/here", "/meters/" + "A" * 5000])
def test_a_failure_knows_who_is_signed_in(client, path):
    assert "List of meters" in _text(client.get(path).text)


def test_supply_is_said_only_as_far_as_the_relay_was_read(client):
    def words(k, language):
        return _text(client.get(f"/consumers/{account(k)}?lang={language}").text)

    unknown = words(0, "en")
    assert (
        "Unknown: whether supply is on is not read from the meter yet. Your meter was last heard with its reading of 5 Mar 2026" in unknown
    )
    assert "Supply is on" not in unknown
    assert "अज्ञात: बिजली चालू है या नहीं" in words(0, "hi")
    assert "बिजली चालू है " not in words(0, "hi").replace("बिजली चालू है या नहीं", "")
    assert "Supply is on" in words(4, "en")
    assert "Supply is off" in words(9, "en")


def test_a_balance_says_until_when_readings_are_in_it(client):
    def words(k, language):
        return _text(client.get(f"/consumers/{account(k)}?lang={language}").text)

    assert "Readings of your meter are in it until 5 Mar 2026, 00:00." in words(0, "en")
    never = words(SILENT, "en")
    assert "No reading of your meter is in it." in never
    assert "Your meter has never been heard." in never
    assert "कोई रीडिंग नहीं है" in words(SILENT, "hi")


def test_a_low_balance_is_not_called_told(client):
    assert "Low balance, notice due 44" in _text(client.get("/?lang=en").text)
    assert "कम बैलेंस, सूचना देनी है 44" in _text(client.get("/?lang=hi").text)


@pytest.mark.parametrize(
    "path", [*PAGES, "/static/openami.css", "/health", f"/meters/{serial(1)}/day.csv", "/transformers/DT-04/hours.csv"]
)
def test_head_tells_what_get_would_without_the_page(client, path):
    asked, told = client.get(path), client.head(path)
    assert told.status_code == 200
    assert told.content == b""
    assert told.headers["content-type"] == asked.headers["content-type"]
    assert "content-security-policy" in told.headers


@pytest.mark.parametrize(
    ("language", "title", "day", "other"),
    [
        ("en", "The data of this day is damaged", "What is stored of Tue 3 Mar 2026 is damaged", "Mon 2 Mar 2026 · Wed 4 Mar 2026"),
        ("hi", "इस दिन का डेटा क्षतिग्रस्त है", "मंगल 3 मार्च 2026 का सहेजा हुआ डेटा क्षतिग्रस्त है", "सोम 2 मार्च 2026 · बुध 4 मार्च 2026"),
    ],
)
def test_a_damaged_day_says_so_and_shows_the_way_to_the_others(language, title, day, other):
    class Damaged(SampleTown):
        def overview(self, day, feeders=None):
            raise DamagedDay(day, "/secret/place cannot be read")

    answer = signed_in(Damaged(damaged=DAYS[1:2])).get("/", params={"day": DAYS[1].isoformat(), "lang": language})
    assert answer.status_code == 503
    words = _text(answer.text)
    for sentence in (title, day, other):
        assert sentence in words
    assert "try again in a minute" not in words
    assert "secret" not in words


def test_a_page_names_the_damaged_days_that_it_leaves_out():
    hurt = signed_in(SampleTown(damaged=DAYS[:1]))
    assert "▲ What is stored of Mon 2 Mar 2026 is damaged. What is told here leaves it out." in _text(hurt.get("/?lang=en").text)
    assert "क्षतिग्रस्त" in _text(hurt.get("/?lang=hi").text)
    assert "damaged" not in signed_in(SampleTown()).get("/?lang=en").text


def test_a_folder_that_is_away_is_said_on_a_page_of_its_own():
    class Away(SampleTown):
        def days(self):
            raise DataError("no OpenAMI data in /secret/place")

    answer = signed_in(Away()).get("/?lang=en")
    assert answer.status_code == 503
    assert "try again in a minute" in _text(answer.text)


def test_nothing_can_be_written(client):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/meters").status_code == 405


def test_a_town_without_days_says_so():
    empty = signed_in(SampleTown(days=()))
    assert "No day has been stored yet." in empty.get("/").text
    assert empty.get("/").status_code == 200
    answer = empty.get("/meters")
    assert answer.status_code == 404
    assert "No day has been stored yet." in answer.text
    assert empty.get("/health").json()["last_day"] is None


def test_our_own_failures_do_not_leak():
    class Broken(SampleTown):
        def overview(self, day, feeders=None):
            raise RuntimeError("/secret/place")

        def due(self, day, feeders=None, offset=0, limit=50):
            raise StorageError("/secret/place is read-only")

    broken = signed_in(Broken(), raise_server_exceptions=False)
    for path, status in (("/", 500), ("/due", 503)):
        answer = broken.get(path)
        assert answer.status_code == status
        assert "secret" not in answer.text
        assert "operator's log" in answer.text.replace("&#39;", "'")
        assert "content-security-policy" in answer.headers


def test_health_is_for_machines(client):
    assert client.get("/health").json() == {"status": "ok", "version": openami_version(), "days": 3, "last_day": "2026-03-04"}


def openami_version() -> str:
    from openami import __version__

    return __version__


def test_pages_are_small(client):
    """A consumer's page with its style sheet stays far below what a 2G phone can wait for."""
    page = client.get(f"/consumers/{account(0)}", headers={"accept-encoding": "gzip"})
    style = client.get("/static/openami.css", headers={"accept-encoding": "gzip"})
    assert int(page.headers["content-length"]) + int(style.headers["content-length"]) < 10_000


def test_figures_are_well_formed_svg(client):
    for path in (f"/meters/{serial(MISSING_METER)}", "/transformers/DT-04", "/feeders/F2"):
        figures = re.findall(r'<div class="plot">.*?</svg></div>', client.get(path).text, re.S)
        assert figures
        for figure in figures:
            ET.fromstring(figure)
