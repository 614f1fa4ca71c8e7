"""Runs an `openami` command in this process and gives exit code, standard output and standard error."""

from __future__ import annotations

import sys

from openami import cli


class Commands:
    def __init__(self, monkeypatch, capsys):
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words):
        self._monkeypatch.setattr(sys, "argv", ["openami", *map(str, words)])
        self._capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as left:
            code = left.code or 0
        said = self._capsys.readouterr()
        return code, said.out, said.err


def access(meter, client):
    """The options that this meter takes from a client."""
    identity = meter.identity
    hdlc = ["--hdlc"] if meter.hdlc else []
    keys = ["--ek", identity.keys.ek.hex(), "--ak", identity.keys.ak.hex()]
    if client in ("public", "16"):
        return ["--client", client, *hdlc]
    if client in ("mr", "32"):
        return ["--client", client, "--password", identity.password.decode(), *keys, *hdlc]
    return ["--client", client, "--hls", str(int(identity.hls)), "--hls-secret", "0x" + identity.hls_secret.hex(), *keys, *hdlc]
