"""What the app itself offers to whoever sends something: the forms on its pages, found by following its links, and what a person would fill in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from .client import TestClient

PAGES_OF_A_ROUTE = 2
"""So many pages of one route are looked at: a list of meters leads to each of them."""
WRITTEN = "typed by a person"
FIGURES = {"days": "3", "amount": "150", "value": "250", "phone": "98765 43210", "code": "123456"}
"""What a person would write where words would be wrong."""
TOKEN = "csrf_token"


@dataclass
class Field:
    name: str
    kind: str
    value: str = ""
    options: list[str] = field(default_factory=list)
    required: bool = False
    pattern: str = ""

    @property
    def written(self) -> bool:
        """Whether a person writes into it."""
        return self.kind in ("text", "search", "textarea", "date", "number", "tel", "password")


@dataclass
class Form:
    """page: where it stands; action: where it is sent; buttons: (name, value), at most one of which is sent; behind: the form whose answer it stands
    on."""

    page: str
    method: str
    action: str
    fields: list[Field] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)
    behind: Form | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it asks for."""
        return tuple(sorted({one.name for one in self.fields}))

    def filled(self, button: tuple[str, str] | None = None) -> dict[str, str | list[str]]:
        """As a person would send it."""
        given: dict[str, str | list[str]] = {}
        for one in self.fields:
            if one.kind in ("checkbox", "radio"):
                if one.name not in given:
                    given[one.name] = [one.value] if one.kind == "checkbox" else one.value
            elif one.options:
                given[one.name] = one.value or next((option for option in one.options if option), "")
            elif one.kind == "hidden" or one.value:
                given[one.name] = one.value
            elif one.written:
                given[one.name] = f"n{secrets.token_hex(4)}" if one.pattern else FIGURES.get(one.name, WRITTEN)
        if button is not None and button[0]:
            given[button[0]] = button[1]
        return given

    def sendings(self) -> Iterator[dict[str, str | list[str]]]:
        """One for each of its buttons."""
        for button in self.buttons or [("", "")]:
            yield self.filled(button)


class _Forms(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.page, self.forms, self.links = page, list[Form](), list[str]()
        self._within: Form | None = None
        self._select: Field | None = None
        self._option: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "form":
            self._within = Form(self.page, given.get("method", "get").lower(), urljoin(self.page, given.get("action", "")))
            self.forms.append(self._within)
        elif self._within is not None:
            self._part(self._within, tag, given)

    def _part(self, form: Form, tag: str, given: dict[str, str]) -> None:
        name, required = given.get("name", ""), "required" in given
        if tag == "input" and name:
            form.fields.append(
                Field(name, given.get("type", "text"), given.get("value", ""), required=required, pattern=given.get("pattern", ""))
            )
        elif tag == "textarea":
            form.fields.append(Field(name, "textarea", required=required))
        elif tag == "select":
            self._select = Field(name, "select", required=required)
            form.fields.append(self._select)
        elif tag == "option" and self._select is not None:
            self._end_option()
            self._option = given.get("value", "\0text")
            if "selected" in given and "value" in given:
                self._select.value = given["value"]
        elif tag == "button" and given.get("type", "submit") == "submit":
            form.buttons.append((name, given.get("value", "")))

    def handle_data(self, data: str) -> None:
        if self._option == "\0text" and data.strip():
            self._option = data.strip()

    def _end_option(self) -> None:
        if self._option is not None and self._select is not None:
            self._select.options.append("" if self._option == "\0text" else self._option)
        self._option = None

    def handle_endtag(self, tag: str) -> None:
        if tag in ("option", "select"):
            self._end_option()
        if tag == "select":
            self._select = None
        if tag == "form":
            self._within = None


def read_forms(page: str, html: str) -> tuple[list[Form], list[str]]:
    """The forms and the links of a page at the address `page`."""
    found = _Forms(page)
    found.feed(html)
    return found.forms, [urljoin(page, link) for link in found.links]


def offered(client: TestClient, begin: list[str], route_of: Callable[[str, str], str]) -> list[Form]:
    """The forms that are met by following links from `begin`, one of each kind: of one route, with the same fields. route_of: (method, path) -> the
    route's pattern, "" = none."""
    waiting, seen, counted = list(begin), set[str](), dict[str, int]()
    found: dict[tuple[str, ...], Form] = {}
    while waiting:
        address = waiting.pop(0)
        route = route_of("GET", urlsplit(address).path)
        if not route or address in seen or counted.get(route, 0) >= PAGES_OF_A_ROUTE:
            continue
        seen.add(address)
        counted[route] = counted.get(route, 0) + 1
        answer = client.get(address)
        if "location" in answer.headers:
            waiting.append(urljoin(address, answer.headers["location"]))
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        forms, links = read_forms(address, answer.text)
        waiting += [link for link in links if not urlsplit(link).netloc and link.startswith("/")]
        for form in forms:
            kind = (form.method, route_of(form.method.upper(), urlsplit(form.action).path), *form.names)
            found.setdefault(kind, form)
    return list(found.values())
