"""The sentences of notices (`data/texts.toml`), in the account's language: Hindi for "hi", else English."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib import resources

from ..errors import RequestError


def sentence(kind: str, language: str, **values: object) -> str:
    """The text of a kind of notice with its values filled in. RequestError where there is none, or a value lacks."""
    texts = _texts()
    if kind not in texts:
        raise RequestError(f"there is no notice of kind {kind!r}; there are {', '.join(texts)}")
    try:
        return texts[kind]["hi" if language == "hi" else "en"].format(**values)
    except KeyError as error:
        raise RequestError(f"a notice of kind {kind} needs {error.args[0]}; give it") from None


@lru_cache(maxsize=1)
def _texts() -> dict[str, dict[str, str]]:
    return tomllib.loads(resources.files(__package__).joinpath("data/texts.toml").read_text("utf-8"))
