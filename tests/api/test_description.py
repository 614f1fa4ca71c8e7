"""The description, by outside judges of OpenAPI and JSON Schema: it is valid, leaves nothing unsaid, and its examples fit."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from openami.web.access import Right
from openami.web.api.description import SCOPES
from openami.web.api.fields import FIELDS
from openami.web.hooks import step_event

from .houses import House

METHODS = {"get", "post", "delete"}


@pytest.fixture(scope="module")
def document(house: House) -> dict[str, Any]:
    return house.unlimited().client().get("/api/v1/openapi.json").json()


def _operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{method} {path}", one) for path, ways in document["paths"].items() for method, one in ways.items() if method in METHODS]


def _properties(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    schemas = document["components"]["schemas"]
    found = [(f"{name}.{field}", of) for name, schema in schemas.items() for field, of in schema.get("properties", {}).items()]
    return found + [
        (f"{route} {one['name']}", one["schema"] | one) for route, way in _operations(document) for one in way.get("parameters", [])
    ]


def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_told_in_words_and_by_a_name_of_its_own(document: dict[str, Any]) -> None:
    ways = _operations(document)
    assert [route for route, way in ways if not way.get("description") or not way.get("summary") or not way.get("tags")] == []
    names = [way["operationId"] for _, way in ways]
    assert len(names) == len(set(names))
    assert {tag for _, way in ways for tag in way["tags"]} == {tag["name"] for tag in document["tags"]}


def test_every_field_and_parameter_is_told(document: dict[str, Any]) -> None:
    assert [name for name, of in _properties(document) if not of.get("description")] == []


def test_a_unit_in_a_name_is_in_the_words(document: dict[str, Any]) -> None:
    units = {"_paise": "paise", "_wh": "Wh", "_w": "W]", "_va": "VA", "_minutes": "min", "within_s": "[s]"}
    wrong = [
        name
        for name, of in _properties(document)
        for end, unit in units.items()
        if name.split(" ")[-1].endswith(end) and unit not in of["description"]
    ]
    assert wrong == []


def test_every_example_is_valid(document: dict[str, Any]) -> None:
    """Each against the schema that it stands in, references followed."""
    wrong = [
        (name, example)
        for name, of in _properties(document)
        for example in of.get("examples", [])
        if not Draft202012Validator({**of.get("schema", of), "components": document["components"]}).is_valid(example)
    ]
    assert wrong == []
    told = sum(1 for _, of in _properties(document) if of.get("examples"))
    assert told > 0.6 * len(_properties(document))


def test_no_word_is_explained_that_nobody_uses(document: dict[str, Any]) -> None:
    used = {name.rpartition(" ")[2].rpartition(".")[2] for name, _ in _properties(document)}
    models = set(document["components"]["schemas"]) | {"path"}
    for name in FIELDS:
        model, _, field = name.rpartition(".")
        assert field in used, name
        assert model in models | {""}, name


def test_scopes_are_the_rights_that_routes_check(house: House, document: dict[str, Any]) -> None:
    assert set(SCOPES) == set(Right)
    ways = dict(_operations(document))
    assert ways["post /orders"]["security"] == [{"bearer": []}, {"oauth2": ["orders:write"]}]
    for route, way in ways.items():
        method, path = route.split(" ")
        ((needed),) = [one["oauth2"] for one in way["security"] if "oauth2" in one]
        if method == "get" and needed and "{" not in path:
            client = house.client()
            client.headers["authorization"] = f"Bearer {house.token('operator', scopes=())}"
            assert client.get(f"/api/v1{path}").status_code == 403, route


def test_what_webhooks_are_told_is_as_described(document: dict[str, Any]) -> None:
    assert set(document["webhooks"]) == {"order.step", "day.closed"}
    row = {"order_id": "A1", "what": "clock", "meter": "M1", "event": "sent", "state": "sent", "at_s": 1, "note": "", "number": 2}
    kind, number, data = step_event(row)
    said = {"type": kind, "id": number, "data": data}
    schema = document["webhooks"]["order.step"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(said)
    assert not Draft202012Validator({**schema, "components": document["components"]}).is_valid(said | {"type": "another"})
