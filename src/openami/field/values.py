"""A-XDR values explained: a typed tree with OBIS names, date-times, texts, scalers and units; as far as the bytes go where they end early."""

from __future__ import annotations

import math

from ..cosem.axdr import Data, Tag, decode, read_length
from ..cosem.clock import CosemDateTime
from ..cosem.objects import read_scaler_unit
from ..cosem.push import obis_text
from ..errors import MeterError
from .node import Node, Shown
from .obis import class_name, named

TYPES = {tag: tag.name.lower().replace("_", "-") for tag in Tag}
_WEEKDAYS = ("", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NUMBERS = frozenset(Tag) - {Tag.NULL, Tag.ARRAY, Tag.STRUCTURE, Tag.OCTET_STRING, Tag.VISIBLE_STRING, Tag.UTF8_STRING, Tag.BIT_STRING}


def explain_values(octets: bytes, what: str = "data") -> list[Node]:
    """The values one after the other. Where the bytes end early or make no sense, the last node says where and what was wrong."""
    nodes: list[Node] = []
    at = 0
    while at < len(octets):
        try:
            data, at = decode(octets, at)
        except MeterError as error:
            node, _ = _as_far_as_it_goes(octets, at, 0)
            node.problem = node.problem or str(error)
            return [*nodes, node]
        nodes.append(explain(data))
    return nodes or [Node(what, means="none came")]


def explain(data: Data) -> Node:
    """One value."""
    kind, value = TYPES[data.tag], data.value
    if data.tag in (Tag.ARRAY, Tag.STRUCTURE):
        return _sequence(data, kind)
    if data.tag is Tag.COMPACT_ARRAY:
        return Node(kind, means=f"{len(value.elements)} elements", inside=[explain(one) for one in value.elements])
    if data.tag in (Tag.OCTET_STRING, Tag.DATE_TIME):
        return Node(kind, value.hex(), octets_mean(value))
    if data.tag in (Tag.DATE, Tag.TIME):
        return Node(kind, value.hex(), _date(value) if data.tag is Tag.DATE else _time(value))
    return Node(kind, _shown(value))


def _shown(value: Shown) -> Shown:
    """A number or text as JSON and any terminal can take it: no infinity, no half character, no control sequence."""
    if isinstance(value, float):
        return round(value, 9) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        text = value.encode("utf-8", "backslashreplace").decode("utf-8")
        return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    return value


def _sequence(data: Data, kind: str) -> Node:
    members: tuple[Data, ...] = data.value
    node = Node(kind, means=f"{len(members)} elements" if data.tag is Tag.ARRAY else "", inside=[explain(one) for one in members])
    if data.tag is Tag.ARRAY:
        return node
    tags = tuple(one.tag for one in members)
    if tags == (Tag.INTEGER, Tag.ENUM):
        scaler_unit = read_scaler_unit(data)
        if scaler_unit is not None:
            node.means = f"scaler {scaler_unit[0]}, unit {scaler_unit[1] or 'none'}"
    elif len(tags) == 4 and tags[:3] == (Tag.LONG_UNSIGNED, Tag.OCTET_STRING, Tag.INTEGER) and len(members[1].value) == 6:
        node.means = f"{class_name(members[0].value)} {named(obis_text(members[1].value))}, attribute {members[2].value}"
    elif len(tags) == 3 and tags[0] is Tag.OCTET_STRING and tags[1] in _NUMBERS:
        node.means = _with_unit(members)
    return node


def _with_unit(members: tuple[Data, ...]) -> str:
    """{code, number, {scaler, unit}}: the number in its unit."""
    scaler_unit = read_scaler_unit(members[2])
    if scaler_unit is None or not isinstance(members[1].value, (int, float)) or len(members[0].value) != 6:
        return ""
    return f"{named(obis_text(members[0].value))}: {in_unit(members[1].value, *scaler_unit)}"


def in_unit(number: float, scaler: int, unit: str) -> str:
    """number x 10**scaler with as many decimals as the scaler gives it."""
    return f"{number * 10.0**scaler:.{max(0, -scaler)}f} {unit}".rstrip()


def octets_mean(octets: bytes) -> str:
    """What an octet-string stands for: a code, a date-time or a text; "" where it looks like none."""
    if len(octets) == 6 and octets[5] == 0xFF and octets[0] in (0, 1, 4, 6, 7, 8):
        return named(obis_text(octets))
    if len(octets) == 12 and _like_date_time(octets):
        return date_time(octets)
    if len(octets) == 5 and _like_date_time(octets + b"\xff" * 7):
        return _date(octets)
    text = octets.rstrip(b"\0")
    if len(text) >= 2 and all(0x20 <= octet < 0x7F for octet in text):
        return f'"{text.decode("ascii")}"'
    return ""


def _like_date_time(octets: bytes) -> bool:
    year = octets[0] << 8 | octets[1]
    in_year = octets[2] in (*range(1, 13), 0xFD, 0xFE, 0xFF) and octets[3] in (*range(1, 32), 0xFD, 0xFE, 0xFF)
    in_day = all(octet < limit or octet == 0xFF for octet, limit in zip(octets[5:9], (24, 60, 60, 100), strict=True))
    return (1980 <= year <= 2100 or year == 0xFFFF) and in_year and in_day


def date_time(octets: bytes) -> str:
    """12 bytes as "2021-07-19 Monday 15:46:35, UTC+02:00"; what is not specified is "--"."""
    clock = CosemDateTime.decode(octets)
    text = f"{_date(octets[:5])} {_time(octets[5:9])}"
    if clock.deviation_minutes is not None:
        east = -clock.deviation_minutes
        text += f", UTC{'+' if east >= 0 else '-'}{abs(east) // 60:02d}:{abs(east) % 60:02d}"
    if clock.status:
        bits = {1: "invalid", 2: "doubtful", 4: "other clock base", 8: "bad status", 0x80: "daylight saving"}
        text += ", " + ", ".join(name for bit, name in bits.items() if clock.status & bit)
    return text


def _date(octets: bytes) -> str:
    year = octets[0] << 8 | octets[1]
    month = {0xFD: "end of daylight saving", 0xFE: "begin of daylight saving", 0xFF: "--"}.get(octets[2], f"{octets[2]:02d}")
    day = {0xFD: "second last day", 0xFE: "last day", 0xFF: "--"}.get(octets[3], f"{octets[3]:02d}")
    weekday = _WEEKDAYS[octets[4]] if octets[4] < len(_WEEKDAYS) else ""
    return f"{year if year != 0xFFFF else '--'}-{month}-{day} {weekday}".rstrip()


def _time(octets: bytes) -> str:
    hour, minute, second, hundredths = ("--" if octet == 0xFF else f"{octet:02d}" for octet in octets)
    return f"{hour}:{minute}:{second}" + (f".{hundredths}" if hundredths not in ("--", "00") else "")


def _as_far_as_it_goes(octets: bytes, at: int, depth: int) -> tuple[Node, int]:
    """What can still be read of a value that is cut short or broken, and the offset where reading stopped (the end, where it broke)."""
    tag = octets[at]
    if tag not in (Tag.ARRAY, Tag.STRUCTURE) or depth > 20:
        rest = octets[at:]
        name = TYPES[Tag(tag)] if tag in TYPES else f"type tag 0x{tag:02x}"
        return Node(name, rest.hex(), problem="cut short" if tag in TYPES else "no such type"), len(octets)
    try:
        count, at = read_length(octets, at + 1)
    except (IndexError, MeterError):
        return Node(TYPES[Tag(tag)], problem="cut short in its count"), len(octets)
    node = Node(TYPES[Tag(tag)], means=f"{count} elements")
    for k in range(count):
        if at >= len(octets):
            node.problem = f"the bytes end behind {k} of {count} elements"
            break
        try:
            data, at = decode(octets, at)
            node.inside.append(explain(data))
        except MeterError:
            broken, at = _as_far_as_it_goes(octets, at, depth + 1)
            node.inside.append(broken)
            node.problem = f"ends or breaks in element {k + 1} of {count}"
            break
    return node, at
