"""What a running role shows: figures that count what happened, health with reasons, a log without secrets; a clock that is not believed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from day.sites import device, make_town
from openami.cli import app
from openami.control.guard import Decision
from openami.control.order import Order, What
from openami.demo.run import found
from openami.errors import InputError
from openami.operate import traces
from openami.operate.metrics import WebFigures, registry_of
from openami.operate.traces import open_traces, span
from openami.operate.watch import DISTRUST_S, Clock, Watch, address, careful
from openami.store.deployment import Folder

from .roles import Role, confirmations, figures, get, push


@pytest.fixture(scope="module")
def town():
    return make_town(days=1)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, town):
    """A head-end that took three genuine pushes and a forged one, looked at, and stopped."""
    folder = Folder(tmp_path_factory.mktemp("watched") / "data")
    found(folder, town)
    stamp = town.calendar.day_start(town.first_day) + 900
    frames = [device(town, k).push(stamp + 5, stamp, {"import_wh": 7}) for k in range(3)]
    forged = frames[0][:-3] + bytes(3)
    with Role(folder.root, "headend", "--port", "0", "--watch", "127.0.0.1:0") as headend:
        port = int(str(headend.first_line()["port"]))
        watch = int(headend.until(r"metrics and health on port (\d+)")[1])
        answers = push(port, [*frames, forged, b"\x00\x02rubbish"])
        pages = {path: get(watch, path) for path in ("/live", "/ready", "/nothing")}
        told = figures(watch)
        while told.get("openami_headend_frames_total", 0) < 4:  # its state is written every five seconds
            told = figures(watch)
        code = headend.stop()
    return folder, town, confirmations(answers), pages, told, code, headend.told


def test_figures_count_what_happened(story) -> None:
    _, town, confirmed, _, told, _, _ = story
    assert told["openami_headend_confirmed_frames_total"] == confirmed
    assert told["openami_headend_frames_total"] >= 4
    assert sum(count for name, count in told.items() if name.startswith("openami_headend_refused_frames_total")) >= 1
    assert told["openami_meters"] == len(town.meters)
    assert told['openami_store_answers{store="database"}'] == 1


def test_health_says_yes_and_nothing_else_is_there(story) -> None:
    pages = story[3]
    assert pages["/live"] == (200, '{"ok": true, "against": []}')
    assert pages["/ready"][0] in (200, 503)
    assert pages["/nothing"][0] == 404


def test_every_line_of_the_log_is_json_with_the_same_fields(story) -> None:
    lines = [json.loads(line) for line in story[6]]
    assert all({"at", "level", "role", "from", "what"} <= line.keys() for line in lines)
    assert story[5] == 0


def test_no_secret_and_nobody_is_in_log_or_figures(story) -> None:
    folder, town, _, _, told, _, lines = story
    text = "\n".join([*lines, *told])
    secrets = [folder.master_key.read_text().strip()]
    for one in town.secrets.values():
        secrets += [one.keys.ek.hex(), one.keys.ak.hex()]
    assert not [secret for secret in secrets if secret in text or secret.upper() in text]
    assert "Consumer" not in text
    assert not [meter.serial for meter in town.meters if any(meter.serial in name for name in told)], "no series by meter"


def test_a_registry_has_no_name_twice_and_a_route_is_a_pattern() -> None:
    web = WebFigures()
    web.histogram.labels("GET", "/meters/{serial}", "200").observe(0.1)
    names = [family.name for family in registry_of("web", web, Clock().figures).collect()]
    assert len(names) == len(set(names))


def test_not_ready_says_why() -> None:
    with Watch(("127.0.0.1", 0), registry_of("test"), list, lambda: ["the database does not answer"]) as watch:
        assert get(watch.port, "/ready") == (503, '{"ok": false, "against": ["the database does not answer"]}')
        assert get(watch.port, "/live")[0] == 200


def test_openami_health_is_silent_or_says_why() -> None:
    ask = CliRunner().invoke
    with Watch(("127.0.0.1", 0), registry_of("test"), list, lambda: ["the database does not answer"]) as watch:
        where = ["health", "--watch", f"127.0.0.1:{watch.port}"]
        alive, ready = ask(app, where), ask(app, [*where, "--ready"])
    assert (alive.exit_code, alive.output) == (0, "")
    assert (ready.exit_code, ready.output) == (1, "the database does not answer\n")
    nobody = ask(app, where)
    assert nobody.exit_code == 1
    assert "nothing that is ours answers" in nobody.output


@pytest.mark.parametrize("text", ["", "here", "127.0.0.1:", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="host:port"):
        address(text)


class Times:
    """A clock that is set, and a steady one."""

    def __init__(self) -> None:
        self.wall_s, self.steady_s = 1_764_570_600.0, 1000.0

    def pass_by(self, seconds: float, jump: float = 0.0) -> None:
        self.wall_s, self.steady_s = self.wall_s + seconds + jump, self.steady_s + seconds


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def clock(times: Times) -> Clock:
    return Clock(lambda: times.wall_s, lambda: times.steady_s)


def allowed(order: Order, now_s: int) -> Decision:
    now = datetime.fromtimestamp(now_s, UTC)
    return Decision(True, (), "BR", now, now)


ORDER = Order("o1", What.DISCONNECT, "", "XMA0000007", 0, who="test", why="test")


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumped_an_hour_cuts_nobody_for_a_while(times: Times, clock: Clock, jump: float, caplog) -> None:
    guard = careful(allowed, clock)
    times.pass_by(60)
    assert guard(ORDER, int(times.wall_s)).allowed
    times.pass_by(1, jump)
    decision = guard(ORDER, int(times.wall_s))
    assert (decision.allowed, [one.code for one in decision.against]) == (False, ["clock"])
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"clock was put {'forward' if jump > 0 else 'back'} by 3600 s" in told
    times.pass_by(DISTRUST_S)
    assert guard(ORDER, int(times.wall_s)).allowed


def test_a_clock_that_is_steered_is_believed(times: Times, clock: Clock) -> None:
    for _ in range(100):
        times.pass_by(1, 0.5)
        assert clock.look() == 0.0
    assert clock.trusted


def test_spans_are_told_where_traces_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    monkeypatch.setattr(traces, "_tracer", None)
    kept = InMemorySpanExporter()
    assert open_traces("worker", kept)
    with span("worker.close", days=1, shards=2):
        pass
    (one,) = kept.get_finished_spans()
    assert (one.name, dict(one.attributes)) == ("openami.worker.close", {"openami.days": 1, "openami.shards": 2})


def test_without_traces_a_span_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAMI_TRACES", raising=False)
    assert not open_traces("worker")
    with span("worker.close"):
        pass


def test_a_full_disk_is_said_before_it_is_full(tmp_path: Path, small_disk: Path) -> None:
    from openami.operate.roles import _room

    assert _room(tmp_path) == [] or "make room" in _room(tmp_path)[0]
    assert "make room before the journal refuses" in _room(small_disk)[0]
