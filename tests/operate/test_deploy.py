"""What lies in deploy/ can be read, agrees with itself and with the program: commands, ports, settings, names of figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from openami.cli.words import app
from openami.control.order import State
from openami.operate import metrics, watch
from openami.operate.configuration import check
from openami.store.deployment import Folder
from openami.store.keys import load_master_key

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = [one for one in yaml.safe_load_all((DEPLOY / "kubernetes" / "openami.yaml").read_text("utf-8")) if one]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVERS = yaml.safe_load((DEPLOY / "compose.servers.yaml").read_text("utf-8"))
KUBERNETES_VERSION = "1.31"
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "openami.json").read_text("utf-8"))
PODS = {one["metadata"]["name"]: one for one in KUBERNETES if one["kind"] in ("Deployment", "StatefulSet")}


def of_kind(kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in KUBERNETES if one["kind"] == kind}


def pod(name: str) -> dict[str, Any]:
    return PODS[name]["spec"]["template"]["spec"]


def commands() -> list[list[str]]:
    """Every `openami ...` that the files start, as words behind `openami`."""
    found = [service["command"] for service in COMPOSE["services"].values() if service.get("image") == "openami"]
    for name in PODS:
        for container in (*pod(name)["initContainers"], *pod(name)["containers"]):
            words = [*container.get("command", []), *container.get("args", [])]
            if words[:1] == ["sh"]:
                found += [re.sub(r'"?\$\w+"?', "", line).split() for line in re.findall(r"openami ((?:serve|config) .*)", words[-1])]
            else:
                found.append(words)
    found.append(json.loads(re.findall(r"^CMD (.*)$", (DEPLOY / "Containerfile").read_text("utf-8"), re.MULTILINE)[-1]))
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_only_options_that_there_are(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    at = 0
    while hasattr(command, "commands"):
        command, at = command.commands[words[at]], at + 1
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words[at:] if word.startswith("--")} - known == set()


@pytest.mark.parametrize("one", KUBERNETES, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_knows_every_word(one: dict[str, Any]) -> None:
    """By the schemas of Kubernetes itself; a word that they do not know is refused."""
    kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("words", [["check", "rules", "alerts.yaml"], ["check", "config", "prometheus.yaml"]], ids=" ".join)
def test_prometheus_takes_its_files(words: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian's package prometheus brings it")
    checked = subprocess.run([promtool, *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_the_compose_files_mount_is_there() -> None:
    for services in (COMPOSE["services"], SERVERS["services"]):
        for service in services.values():
            for volume in service.get("volumes", []):
                if volume.startswith("./"):
                    assert any((DEPLOY / volume.split(":")[0]).iterdir()), volume


def test_the_servers_beside_it_are_reached_by_the_names_that_they_have() -> None:
    said = json.dumps(SERVERS["x-stores"]["environment"])
    assert set(re.findall(r"(?:@|//)([a-z]+):\d+", said)) == {"postgres", "nats"} <= SERVERS["services"].keys()
    for name in ("headend", "worker", "web"):
        assert SERVERS["services"][name] == SERVERS["x-stores"]
    config = (DEPLOY / "nats" / "nats.conf").read_text("utf-8")
    assert "port: 4222" in config
    assert "sync_interval: always" in config
    assert set(re.findall(r"\$(\w+)", config)) == SERVERS["services"]["nats"]["environment"].keys()


def test_health_checks_need_no_quotes() -> None:
    """Compose implementations differ in how they put words together again: a plain line means the same everywhere."""
    checks = [one["healthcheck"]["test"] for one in (COMPOSE["x-openami"], SERVERS["services"]["postgres"], SERVERS["services"]["nats"])]
    assert [check for check in checks if not isinstance(check, str) or set(check) & set("\"'$")] == []


def test_the_roles_are_all_there() -> None:
    assert {name: one["kind"] for name, one in PODS.items()} == {"headend": "Deployment", "web": "Deployment", "worker": "StatefulSet"}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_agrees_with_itself(name: str) -> None:
    one = PODS[name]
    labels = one["spec"]["template"]["metadata"]["labels"]
    assert one["spec"]["selector"]["matchLabels"] == labels
    claims = [claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])]
    volumes = {volume["name"] for volume in pod(name)["volumes"]} | set(claims)
    for container in (*pod(name)["initContainers"], *pod(name)["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]
        assert [each["secretRef"]["name"] for each in container["envFrom"]] == ["openami"]
    ports = {port["name"] for container in pod(name)["containers"] for port in container.get("ports", [])}
    probes = [pod(name)["containers"][0][probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert {probe["port"] for probe in probes} <= ports
    assert [probe["path"] for probe in probes] == ["/live", "/live", "/ready"]
    assert pod(name)["securityContext"]["runAsNonRoot"] is True


def test_services_lead_to_pods() -> None:
    for name, service in of_kind("Service").items():
        labels = PODS[name]["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        ports = {port["name"] for container in pod(name)["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_a_stream_of_three_replicas_has_workers_that_share_all_shards() -> None:
    """The loop in the StatefulSet, done here: every shard has one owner."""
    worker = pod("worker")["containers"][0]
    numbers = {one["name"]: int(one["value"]) for one in worker["env"]}
    assert numbers["WORKERS"] == PODS["worker"]["spec"]["replicas"]
    owned = [shard for k in range(numbers["WORKERS"]) for shard in range(k, numbers["SHARDS"], numbers["WORKERS"])]
    assert sorted(owned) == list(range(numbers["SHARDS"]))


def test_the_settings_of_the_pods_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path / "data")
    folder.root.mkdir(mode=0o700)
    (folder.root / "openami.toml").write_text(of_kind("ConfigMap")["openami"]["data"]["openami.toml"], encoding="utf-8")
    load_master_key(folder.master_key, create=True)
    for name, value in {"DATABASE": "postgresql://h/d", "LAKE_ACCESS_KEY": "a", "LAKE_SECRET_KEY": "s"}.items():
        monkeypatch.setenv(f"OPENAMI_{name}", value)
    assert [one for one in check(folder) if one.serious] == []


def test_no_secret_stands_in_the_files() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            text = path.read_text("utf-8")
            assert not re.search(r"[0-9a-f]{32,}", text), path
            assert not re.search(r"://[^\s/:@'\"]+:(?!\.\.\.)[^\s/@'\"]+@", text), path


def told_names() -> set[str]:
    """Every figure that the program tells, with what Prometheus adds to a counter's and a histogram's name."""
    source = "".join(Path(module.__file__).read_text("utf-8") for module in (metrics, watch))
    names = set(re.findall(r'"(openami_[a-z_]+)"', source))
    return names | {f"{name}{end}" for name in names for end in ("_total", "_bucket", "_count", "_sum")}


def expressions() -> list[tuple[str, str]]:
    found = [(rule["alert"], rule["expr"]) for group in ALERTS["groups"] for rule in group["rules"]]
    return found + [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_alerts_and_panels_ask_for_figures_that_are_told(where: str, expression: str) -> None:
    assert set(re.findall(r"openami_[a-z_]+", expression)) - told_names() == set(), where
    assert expression.count("(") == expression.count(")")


def test_alerts_of_orders_name_states_that_there_are() -> None:
    (rule,) = [rule for group in ALERTS["groups"] for rule in group["rules"] if rule["alert"] == "OrdersUnresolved"]
    assert set(re.findall(r'state=~"([^"]+)"', rule["expr"])[0].split("|")) <= {str(state) for state in State}


def test_every_alert_says_what_to_do() -> None:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["action"]


def test_figures_and_alerts_stand_in_the_manual() -> None:
    manual = (ROOT / "docs" / "operate.md").read_text("utf-8")
    names = {name for name in told_names() if not name.endswith(("_total", "_bucket", "_count", "_sum"))}
    assert sorted(name for name in names if name not in manual) == []
    assert [rule["alert"] for group in ALERTS["groups"] for rule in group["rules"] if rule["alert"] not in manual] == []


def test_ports_agree_everywhere() -> None:
    image = (DEPLOY / "Containerfile").read_text("utf-8")
    assert "OPENAMI_WATCH=0.0.0.0:9464" in image
    headend = COMPOSE["services"]["headend"]["ports"]
    assert headend == ["4059:4059/tcp", "4059:4059/udp"]
    targets = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))["scrape_configs"][0]["static_configs"]
    assert {one["targets"][0].split(":")[0] for one in targets} <= set(COMPOSE["services"])
    assert {one["targets"][0].split(":")[1] for one in targets} == {"9464"}
