"""A derivation as a tree: each step in English and Hindi with its paise, in text, JSON and HTML.

What always holds: a node with children is exactly the sum of its children (`checked`); a note says something and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from ..errors import RequestError
from ..money import rupees


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the derivation: a stable `code`, a sentence in both languages, its paise, and the steps that it is the sum of.
    `quantities`: the numbers behind it, for machines; `source`, `verify`: of a line;
    `note`: says something and costs nothing."""

    code: str
    en: str
    hi: str
    amount_paise: int
    children: tuple[Node, ...] = ()
    quantities: tuple[tuple[str, int | str], ...] = ()
    source: str = ""
    verify: str = ""
    note: bool = False

    def to_json(self) -> dict[str, Any]:
        """The tree as plain values; amounts stay integers in paise."""
        body: dict[str, Any] = {"code": self.code, "en": self.en, "hi": self.hi, "amount_paise": self.amount_paise, **dict(self.quantities)}
        body |= {key: value for key, value in (("source", self.source), ("verify", self.verify)) if value}
        return body | ({"children": [child.to_json() for child in self.children]} if self.children else {})

    def text(self, language: str, depth: int = 0) -> Iterator[str]:
        """The tree as lines of text: Hindi for "hi", else English; amounts in rupees, children indented by two."""
        amount = "" if self.note else f": {rupees(self.amount_paise)}"
        yield f"{'  ' * depth}{self.hi if language == 'hi' else self.en}{amount}"
        for child in self.children:
            yield from child.text(language, depth + 1)

    def html(self, language: str, depth: int = 0, above: str = "") -> str:
        """The tree as a nested list that opens and closes without a script, its first two levels open; every word of it escaped. above: the source of
        the step that this one is a part of, which is not said again."""
        words = escape(self.hi if language == "hi" else self.en)
        amount = "" if self.note else f" <b>{escape(rupees(self.amount_paise))}</b>"
        source = f"verify: {self.verify}" if self.verify else self.source
        mark = f'<small lang="en">{escape(source)}</small>' if source and source != above else ""
        if not self.children:
            return f"<li>{words}{amount}{mark}</li>"
        inner = "".join(child.html(language, depth + 1, source or above) for child in self.children)
        state = " open" if depth < 2 else ""
        return f"<li><details{state}><summary>{words}{amount}</summary>{mark}<ul>{inner}</ul></details></li>"


def checked(node: Node) -> Node:
    """The node, once every sum in it has been checked; RequestError where one does not hold."""
    if node.children and node.amount_paise != sum(child.amount_paise for child in node.children):
        raise RequestError(
            f"node {node.code} is {node.amount_paise} paise, but its parts make {sum(c.amount_paise for c in node.children)}"
        )
    for child in node.children:
        checked(child)
    return node


def thousandth(value: int) -> str:
    """1500 -> '1.5': thousandths without trailing zeros."""
    whole, rest = divmod(abs(value), 1000)
    return f"{'-' if value < 0 else ''}{whole}{f'.{rest:03d}'.rstrip('0') if rest else ''}"


def rs(rate_mp: int) -> str:
    """742000 -> '₹7.42': milli-paise, at least two decimals."""
    whole, rest = divmod(abs(rate_mp), 100_000)
    decimals = f"{rest:05d}".rstrip("0").ljust(2, "0")
    return f"{'-' if rate_mp < 0 else ''}₹{whole}.{decimals}"
