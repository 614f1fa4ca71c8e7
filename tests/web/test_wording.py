"""Words: nothing stays English in Hindi, nothing unknown reads as a number, amounts as on an Indian bill."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import openami.web
from openami.billing.tariff import load_tariffs
from openami.cosem.is15959 import events, status_bits
from openami.losses.suspects import EVIDENCE
from openami.readings import Quality
from openami.web.wording import language, negotiate

HERE = Path(openami.web.__file__).parent
FILLED = re.compile(r"%\([a-z_]+\)s|%%|{[a-z0-9_]+:[^}]+}")


def _messages() -> set[str | tuple[str, ...]]:
    """What the pages say, and what they show of the energy audit's sentences, of the tariffs' notes and of meters' events."""
    keywords = {"_": None, "ngettext": (1, 2), "say": None, "say_n": (1, 2), "marked": None}
    methods = [("**.py", "python"), ("templates/**.html", "jinja2")]
    evidence = {sentence for one in EVIDENCE for sentence in (one.says, one.innocent)}
    book = load_tariffs()
    unconfirmed = {line.verify for name in book.names for one in book.versions(name) for line in one.lines if line.verify}
    told = {fact.what.removesuffix(": over") for facts in (events(), status_bits()) for fact in facts.values()}
    return (
        evidence | unconfirmed | told | {message for _, _, message, _, _ in extract_from_dir(HERE, method_map=methods, keywords=keywords)}
    )


def _catalog():
    """Every message of `hi.po` and of the chapters beside it."""
    return [m for path in sorted((HERE / "locale").glob("*hi.po")) for m in read_po(path.open("rb"), locale="hi") if m.id]


def test_every_sentence_is_in_the_hindi_catalogue_and_no_other():
    catalogue = {m.id for m in _catalog() if m.id}
    assert catalogue == _messages()
    assert len(catalogue) > 200


@pytest.mark.parametrize("message", [m for m in _catalog() if m.id], ids=lambda m: str(m.id)[:40])
def test_a_translation_is_there_and_fills_in_the_same_values(message):
    ids = message.id if isinstance(message.id, tuple) else (message.id,)
    strings = message.string if isinstance(message.string, tuple) else (message.string,)
    assert all(strings)
    assert not message.fuzzy
    for text in strings:
        assert set(FILLED.findall(text)) == set(FILLED.findall(ids[-1]))


def test_amounts_and_energies_use_the_indian_grouping_in_both_languages():
    for code in ("en", "hi"):
        words = language(code)
        assert words.rupees(1_23_45_678) == "₹1,23,456.78"
        assert words.rupees(-5) == "\u2212₹0.05"
        assert words.kwh(123_456_789) == "1,23,456.8 kWh"
        assert words.integer(12_345_678) == "1,23,45,678"


def test_what_is_unknown_never_reads_as_zero():
    english, hindi = language("en"), language("hi")
    assert english.kwh(None) == english.percent(None) == english.rupees(None) == "unknown"
    assert hindi.kwh(None) == hindi.percent(None) == hindi.rupees(None) == "अज्ञात"
    assert english.instant(None) == "never"


def test_a_coverage_that_is_not_whole_never_reads_whole():
    english = language("en")
    assert english.share_met(0.99999) == "99.9%"
    assert english.share_met(1.0) == "100%"
    assert english.share_met(0.9312) == "93.1%"


def test_a_small_negative_does_not_read_minus_zero():
    english = language("en")
    assert english.number(-0.04) == "0.0"
    assert english.percent(-0.0001) == "0.0%"
    assert english.percent(-0.024) == "\u22122.4%"


def test_days_and_times_in_both_languages():
    assert language("en").day(date(2026, 3, 4)) == "Wed 4 Mar 2026"
    assert language("hi").day(date(2026, 3, 4)) == "बुध 4 मार्च 2026"
    assert language("en").time_end(datetime(2026, 3, 5, tzinfo=UTC)) == "24:00"
    assert language("en").instant(datetime(2026, 3, 5, 6, 10, tzinfo=UTC)) == "5 Mar 2026, 06:10"


def test_every_quality_bit_has_its_words():
    for flag in Quality:
        if flag:
            assert len(language("hi").quality(int(flag))) == 1
    assert language("en").quality(0) == []
    assert language("en").quality(int(Quality.SPIKE | Quality.ESTIMATED_LINEAR)) == ["spike", "estimated, straight line"]


def test_a_cause_without_words_is_shown_as_it_is():
    assert language("hi").cause("something_new") == "something new"
    assert language("hi").cause("bad_tag") == "प्रमाणीकरण विफल"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("hi-IN,hi;q=0.9,en;q=0.8", "hi"),
        ("en-GB,en;q=0.9,hi;q=0.8", "en"),
        ("de,hi;q=0.5,en;q=0.4", "hi"),
        ("", "en"),
        ("*;q=x, ;;;, zz-!!", "en"),
        ("fr", "en"),
    ],
)
def test_the_browser_says_which_language(header, code):
    assert negotiate(header) == code
