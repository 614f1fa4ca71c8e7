"""Sign-in through an issuer that is not ours: node's oidc-provider, over real sockets; run by `make judge`.

It comes from the npm registry into a folder of its own (`OPENAMI_JUDGES` names one in which it lies already); nothing of OpenAMI needs it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from openami.web.tokens import External

from .houses import House
from .outside import served

CLIENT, SECRET = "openami-console", "a secret of this test alone"
PROVIDER = """
import { Provider } from 'oidc-provider';
const [port, back, client, secret] = process.argv.slice(2);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: client, client_secret: secret, redirect_uris: [back], application_type: 'native' }],
  pkce: { required: () => true },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
"""
FORM = re.compile(r'<form[^>]*action="([^"]+)"')
PROMPT = re.compile(r'name="prompt" value="(\w+)"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    made = Path(known) if (known := os.environ.get("OPENAMI_JUDGES")) else tmp_path_factory.mktemp("issuer")
    if not (made / "node_modules" / "oidc-provider").exists():
        subprocess.run([npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(made), "oidc-provider@9"], check=True)
    (made / "issuer.mjs").write_text(PROVIDER, encoding="utf-8")
    return made


@contextlib.contextmanager
def issuing(folder: Path, back: str) -> Iterator[str]:
    """The issuer's address while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["node", "issuer.mjs", str(port), back, CLIENT, SECRET]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _through(browser: httpx.Client, url: str, person: str) -> httpx.Response:
    """What a person does at the issuer: says who they are, agrees, and is sent back."""
    answer = browser.get(url)
    for _ in range(12):
        if answer.is_redirect:
            answer = browser.get(
                answer.headers["location"] if "://" in answer.headers["location"] else str(answer.url.join(answer.headers["location"]))
            )
        elif (prompt := PROMPT.search(answer.text)) and (found := FORM.search(answer.text)):
            given = {"prompt": prompt[1], "login": person, "password": "anything"}
            answer = browser.post(str(answer.url.join(found[1])), data=given)
        else:
            return answer
    return answer


@pytest.mark.judge
def test_a_person_of_another_issuer_comes_in_if_linked_and_nobody_else_does(
    house: House, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = house.unlimited().gate
    assert gate.tokens is not None
    with served(house) as address, issuing(folder, f"{address}/sign-in/external/back") as issuer:
        monkeypatch.setattr(gate.tokens, "external", External(issuer, "openami", CLIENT, SECRET, "Company"))
        gate.people.link("auditor", "asha@company")
        for person, page in (("asha@company", "auditor"), ("stranger@company", "You are known there, but not here.")):
            with httpx.Client(headers={"accept-language": "en"}) as browser:
                found = _through(browser, f"{address}/sign-in/external?next=/me", person)
                assert found.status_code == 200
                assert page in found.text
        gate.people.link("auditor", None)
