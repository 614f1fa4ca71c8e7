"""The services of both compose files as plain processes, with the files' own commands, environment and health checks.

They come up, a day goes through, every one of them is killed, and the stores stay away for a true minute. A container engine adds walls and names:
those were tried by hand (docs/operate.md).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from day.sites import make_site, make_town, pushes
from headend.running import free_port
from openami.bench.servers import NatsServer, PostgresServer
from openami.day import Site, collect
from openami.demo.run import found
from openami.errors import InputError
from openami.operate.backup import make_backup
from openami.operate.restore import restore_backup
from openami.store.deployment import Folder

from .roles import Role, confirmations, get, push, wait_until

pytestmark = pytest.mark.judge
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
AWAY_S = 60
SECRETS = {"OPENAMI_POSTGRES_PASSWORD": "drill", "OPENAMI_NATS_PASSWORD": "drill"}


class Composed:
    """Both files, one over the other, on this machine: /data is a folder, names of services are addresses here."""

    def __init__(self, root: Path) -> None:
        first, over = (yaml.safe_load((DEPLOY / name).read_text("utf-8")) for name in ("compose.yaml", "compose.servers.yaml"))
        names = {*first["services"], *over["services"]}
        self.services = {name: first["services"].get(name, {}) | over["services"].get(name, {}) for name in names}
        self.folder = Folder(root / "data")
        self._ports = {name: free_port() for name in ("headend", "web", "client", "monitor")}
        self._watch = {name: f"127.0.0.1:{free_port()}" for name in ("headend", "worker", "web")}
        self.nats = self._nats(root / "nats")
        self.postgres = PostgresServer(root / "postgres")

    def _nats(self, folder: Path) -> NatsServer:
        """With the configuration that the file mounts; only its addresses and its folder are of here."""
        service = self.services["nats"]
        assert service["command"] == ["-c", "/etc/nats/nats.conf"]
        assert "./nats:/etc/nats:ro" in service["volumes"]
        server = NatsServer(folder, "openami", self._ports["client"], self._ports["monitor"], "", "")
        text = (DEPLOY / "nats" / "nats.conf").read_text("utf-8")
        for there, here in (
            ("port: 4222", f"port: {self._ports['client']}"),
            ("http: 8222", f'http: "127.0.0.1:{self._ports["monitor"]}"'),
            ("/data/jetstream", str(folder / "js")),
            ("$NATS_USER", self._said(service["environment"]["NATS_USER"])),
            ("$NATS_PASSWORD", self._said(service["environment"]["NATS_PASSWORD"])),
        ):
            assert there in text
            text = text.replace(there, here)
        (folder / "nats.conf").write_text(text, encoding="utf-8")
        return server

    @staticmethod
    def _said(text: str) -> str:
        return re.sub(r"\$\{(\w+)(:\?[^}]*)?\}", lambda found: SECRETS[found[1]], text)

    def environment(self, role: str) -> dict[str, str]:
        """The image's, the files', and where things are here."""
        image = re.search(r"^ENV (.*)$", (DEPLOY / "Containerfile").read_text("utf-8"), re.MULTILINE)
        assert image
        words = dict(word.split("=", 1) for word in shlex.split(image[1]))
        own = {name: self._said(value) for name, value in self.services[role]["environment"].items()}
        at = self.postgres.url
        own["OPENAMI_DATABASE"] = at.set(drivername="postgresql").render_as_string(hide_password=False)
        for there, here in (("nats:4222", f"127.0.0.1:{self._ports['client']}"), ("nats:8222", f"127.0.0.1:{self._ports['monitor']}")):
            assert there in own["OPENAMI_JOURNAL"]
            own["OPENAMI_JOURNAL"] = own["OPENAMI_JOURNAL"].replace(there, here)
        assert words["OPENAMI_WATCH"] == "0.0.0.0:9464"
        return {**os.environ, "OPENAMI_LOG": words["OPENAMI_LOG"], **own, "OPENAMI_WATCH": self._watch[role]}

    def start(self, role: str) -> Role:
        words = [
            "127.0.0.1" if word == "0.0.0.0" else word.replace("/data", str(self.folder.root)) for word in self.services[role]["command"]
        ]
        words += ["--every", "1"] if role == "worker" else ["--port", str(self._ports[role])]
        return Role.of(words, self.environment(role))

    def is_healthy(self, role: str) -> bool:
        """By the health check of the file."""
        program, *words = shlex.split(self.services[role]["healthcheck"]["test"])
        assert program == "openami"
        return subprocess.run([sys.executable, "-m", "openami", *words], env=self.environment(role), capture_output=True).returncode == 0

    def is_ready(self, role: str) -> bool:
        return get(int(self._watch[role].rsplit(":", 1)[1]), "/ready")[0] == 200

    @property
    def headend_port(self) -> int:
        return self._ports["headend"]

    @property
    def web_port(self) -> int:
        return self._ports["web"]


@pytest.fixture(scope="module")
def town() -> Any:
    return make_town(days=2)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, town: Any) -> list[Any]:
    return raw_of(make_site(tmp_path_factory.mktemp("undisturbed") / "data", town, pushes(town)))


@pytest.fixture
def composed(undisturbed: list[Any], town: Any) -> Iterator[Composed]:
    """The stores run, and hold a town that has no frame yet. PostgreSQL's user must be able to look in: no pytest folder."""
    root = Path("/tmp") / f"openami-compose-{os.getpid()}"
    root.mkdir(mode=0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        try:
            made = Composed(root)
            made.postgres.start()
        except InputError as missing:
            pytest.skip(str(missing))
        stack.callback(made.postgres.stop)
        made.nats.start()
        stack.callback(made.nats.kill)
        made.nats.wait()
        first = Folder(root / "first")
        found(first, town)
        settings = first.root / "openami.toml"
        settings.write_text("".join(line for line in settings.read_text().splitlines(keepends=True) if not line.startswith("seed")))
        make_backup(first, root / "backup")
        environment = {name: value for name, value in made.environment("headend").items() if name.startswith("OPENAMI_")}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            restore_backup(root / "backup", made.folder, first.master_key, "env:OPENAMI_DATABASE", environment["OPENAMI_JOURNAL"])
            yield made


def test_the_composed_services_close_a_day_and_outlive_each_other(composed: Composed, town: Any, undisturbed: list[Any]) -> None:
    frames = pushes(town)
    parts = [frames[at : at + len(frames) // 8] for at in range(0, len(frames), len(frames) // 8)]
    pause = threading.Event()
    with ExitStack() as stack:
        roles = {name: stack.enter_context(composed.start(name)) for name in ("headend", "worker", "web")}
        for name in roles:
            wait_until(lambda name=name: composed.is_healthy(name))
        for part in parts[:4]:  # the first day
            assert confirmations(push(composed.headend_port, part)) == len(part)
        roles["worker"].until(r"[1-9]\d* closed")
        roles["web"].until(r"the console is at")
        assert get(composed.web_port, "/sign-in")[0] == 200

        before = len(roles["headend"].told)
        composed.postgres.kill()
        roles["headend"].until(r"Pushes are stored and confirmed meanwhile", before)
        assert confirmations(push(composed.headend_port, parts[4])) == len(parts[4])
        pause.wait(AWAY_S)
        composed.postgres.start()
        roles["headend"].until(r"the database answers again after (6|7|8|9|\d\d)\d s", before)

        before = len(roles["headend"].told)
        composed.nats.kill()
        answers: list[bytes] = []
        pushing = threading.Thread(target=lambda: answers.append(push(composed.headend_port, parts[5])))
        pushing.start()
        roles["headend"].until(r"nothing is confirmed until it does", before)
        assert not answers
        pause.wait(AWAY_S)
        composed.nats.start()
        composed.nats.wait()
        pushing.join()
        assert confirmations(answers[0]) == len(parts[5])

        for name, part in zip(("headend", "worker", "web"), (parts[6], parts[7], []), strict=True):
            os.kill(roles[name].process.pid, signal.SIGKILL)
            roles[name].process.wait()
            roles[name] = stack.enter_context(composed.start(name))
            wait_until(lambda name=name: composed.is_healthy(name))
            if part:
                wait_until(lambda: composed.is_ready("headend"))
                assert confirmations(push(composed.headend_port, part)) == len(part)
        roles["web"].until(r"the console is at")
        assert {name: role.stop() for name, role in roles.items() if name != "web"} == {"headend": 0, "worker": 0}
    assert raw_of(Site.open(composed.folder)) == undisturbed
    assert json.loads((composed.folder.journal.with_name("headend.json")).read_text())["running"] is False


def raw_of(site: Site) -> list[Any]:
    """What was collected, as rows."""
    collect(site)
    found = []
    for day, shard in sorted(site.lake.all_files("raw")):
        table = site.lake.read("raw", day, shard)
        found.append((day, shard, table.sort_by([("channel", "ascending"), ("meter", "ascending")]).to_pydict()))
    site.rows.close()
    return found
