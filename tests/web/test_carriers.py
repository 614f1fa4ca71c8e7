"""What a carrier reports over HTTP: taken once when it is signed and its own; anything else is refused by name, and nothing changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from openami.errors import InputError
from openami.notices.senders import load_senders
from openami.payments.signing import HEADER, sign
from openami.store.outbox import Notice, Outbox, Stands
from openami.store.rows import Rows
from openami.web.carriers import carriers_router, signing

NOW = 1_764_700_000
SECRET = b"a secret for the tests"
AT = "2025-12-02T23:50:00+05:30"


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """N1 was taken by sms, N2 by post, N3 never left."""
    box = Outbox(Rows(tmp_path / "registry.db", create=True).database)
    box.put([Notice(f"N{k}", "A", "before_cut", "hi", "...", NOW - 7200) for k in (1, 2)])
    box.take(NOW - 7000)
    box.taken("N1", "sms", NOW - 6990)
    box.taken("N2", "post", NOW - 6990)
    box.put([Notice("N3", "A", "before_cut", "hi", "...", NOW - 60)])
    return box


@pytest.fixture
def client(outbox: Outbox) -> TestClient:
    app = FastAPI()
    app.include_router(carriers_router(lambda: outbox, {"sms": (SECRET,)}, lambda: NOW))
    return TestClient(app)


def post(client: TestClient, told: object, carrier: str = "sms", secret: bytes = SECRET, at_s: int = NOW) -> tuple[int, str]:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    answer = client.post(f"/notices/{carrier}/reports", content=body, headers={HEADER: sign(secret, body, at_s)})
    return answer.status_code, answer.json().get("cause", answer.json().get("result"))


def test_a_report_is_taken_and_the_first_word_stands(client: TestClient, outbox: Outbox) -> None:
    assert post(client, {"notice_id": "N1", "arrived": True, "at": AT}) == (200, "taken")
    assert post(client, {"notice_id": "N1", "arrived": False, "at": AT}) == (200, "taken")
    (one,) = (each for each in outbox.recent() if each.notice_id == "N1")
    assert (one.state, one.delivered_s) == (Stands.DELIVERED, NOW - 400)


def test_a_failure_is_told_with_its_reason(client: TestClient, outbox: Outbox) -> None:
    assert post(client, {"notice_id": "N1", "arrived": False, "at": AT, "problem": "switched off"}) == (200, "taken")
    (one,) = (each for each in outbox.recent() if each.notice_id == "N1")
    assert (one.state, one.problem) == (Stands.FAILED, "switched off")


GOOD = {"notice_id": "N1", "arrived": True, "at": AT}


@pytest.mark.parametrize(
    ("told", "how", "expected"),
    [
        (GOOD, {"secret": b"not the secret at all"}, (401, "forged")),
        (GOOD, {"at_s": NOW - 400}, (401, "stale")),
        (GOOD, {"carrier": "pigeon"}, (404, "carrier")),
        (GOOD | {"notice_id": "N2"}, {}, (404, "message")),
        (GOOD | {"notice_id": "N3"}, {}, (404, "message")),
        (GOOD | {"notice_id": "N9"}, {}, (404, "message")),
        (GOOD | {"at": "2025-12-02T23:50:00"}, {}, (422, "malformed")),
        (GOOD | {"at": "2025-12-03T23:50:00+05:30"}, {}, (422, "malformed")),
        (GOOD | {"arrived": "yes"}, {}, (422, "malformed")),
        (GOOD | {"more": 1}, {}, (422, "malformed")),
        ([GOOD], {}, (422, "malformed")),
        (b"\xff{", {}, (422, "malformed")),
        (b" " * 20_000, {}, (413, "malformed")),
    ],
)
def test_refused_by_name_and_nothing_changes(
    client: TestClient, outbox: Outbox, told: object, how: dict[str, object], expected: tuple[int, str]
) -> None:
    before = outbox.recent()
    assert post(client, told, **how) == expected  # type: ignore[arg-type]
    assert outbox.recent() == before


def test_without_a_signature_nobody_is_believed(client: TestClient) -> None:
    answer = client.post("/notices/sms/reports", json=GOOD)
    assert (answer.status_code, answer.json()["cause"]) == (401, "unsigned")


def test_a_carriers_secret_is_a_reference_and_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMS_URL", "json://localhost")
    monkeypatch.setenv("SMS_SECRET", SECRET.decode())
    monkeypatch.setenv("SHORT", "short")
    file = tmp_path / "notices.toml"
    file.write_text('[sms]\nurl = "env:SMS_URL"\nsecrets = ["env:SMS_SECRET"]\n[post]\nurl = "env:SMS_URL"\n', encoding="utf-8")
    assert signing(load_senders(tmp_path)) == {"sms": (SECRET,)}
    for secrets, why in (('["a secret in the file"]', "not a list of references"), ('["env:SHORT"]', "fewer than 16")):
        file.write_text(f'[sms]\nurl = "env:SMS_URL"\nsecrets = {secrets}\n', encoding="utf-8")
        with pytest.raises(InputError, match=why):
            load_senders(tmp_path)
