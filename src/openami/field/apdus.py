"""APDUs explained: associations, services, pushes, ciphering; with the keys, the plain APDU inside a ciphered one.

An `Apdus` keeps what later APDUs of the same conversation need: system titles, the dedicated key, blocks of a long answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..cosem import acse, apdu, apdu_octets
from ..cosem.acse import AssociationRequest, AssociationResponse, Conformance, Context, InitiateRequest, InitiateResponse, Mechanism
from ..cosem.apdu import Block, GeneralBlock, Item, Outcome, Ref, Selection
from ..cosem.apdu_octets import decode_apdu
from ..cosem.axdr import Data, Tag
from ..cosem.ciphering import (
    DED_OF,
    DED_TAGS,
    GENERAL_CIPHERING,
    GENERAL_DED,
    GENERAL_GLO,
    GLO_OF,
    SEALED_TAGS,
    Keys,
    Sealed,
    SecurityControl,
    open_sealed,
    parse_sealed,
)
from ..cosem.general_ciphering import GeneralHeader, open_general, parse_general
from ..cosem.notification import DataNotification, DataNotificationConfirm
from ..cosem.objects import members
from ..cosem.push import layouts, obis_text, read_push
from ..errors import InputError, MeterError, RequestError
from .node import Node
from .obis import class_name, named
from .telegram import telegram
from .values import date_time, explain, explain_values, in_unit

PLAIN_NAMES = {
    0x01: "initiate-request", 0x08: "initiate-response", 0x0E: "confirmed-service-error", 0x0F: "data-notification",
    0x10: "data-notification-confirm", 0x60: "association request (AARQ)", 0x61: "association response (AARE)",
    0x62: "release request (RLRQ)", 0x63: "release response (RLRE)", 0xC0: "get-request", 0xC1: "set-request",
    0xC2: "event-notification", 0xC3: "action-request", 0xC4: "get-response", 0xC5: "set-response", 0xC7: "action-response",
    0xD8: "exception-response", 0xE0: "general-block-transfer",
}  # fmt: skip
NAMES = (
    PLAIN_NAMES
    | {sealed: f"glo-{PLAIN_NAMES[plain]}" for plain, sealed in GLO_OF.items()}
    | {sealed: f"ded-{PLAIN_NAMES[plain]}" for plain, sealed in DED_OF.items()}
    | {
        GENERAL_GLO: "general-glo-ciphering",
        GENERAL_DED: "general-ded-ciphering",
        GENERAL_CIPHERING: "general-ciphering",
        0xDF: "general-signing",
    }
)
_NOTIFICATION_HEADS = (6, 17, 18, 19)
"""Where the body of a data-notification can begin, by the form of its date-time."""
_FROM_SERVER = frozenset((0x28, 0x2E, 0xCA, 0xCC, 0xCD, 0xCF, 0xD2, 0xD4, 0xD5, 0xD7))
_CONTEXTS = {
    Context.LN: "logical names",
    Context.SN: "short names",
    Context.LN_CIPHERED: "logical names, ciphered",
    Context.SN_CIPHERED: "short names, ciphered",
}
_MECHANISMS = {
    Mechanism.NONE: "none", Mechanism.LLS: "LLS (password)", Mechanism.HLS: "HLS 2 (AES-128 of the challenge in India)",
    Mechanism.HLS_MD5: "HLS 3 (MD5)", Mechanism.HLS_SHA1: "HLS 4 (SHA-1)", Mechanism.HLS_GMAC: "HLS 5 (GMAC)",
    Mechanism.HLS_SHA256: "HLS 6 (SHA-256)", Mechanism.HLS_ECDSA: "HLS 7 (ECDSA)",
}  # fmt: skip
_DIAGNOSTICS = {
    0: "none", 1: "no reason given", 2: "application context not supported", 3: "calling title not recognised",
    11: "authentication mechanism not recognised", 12: "authentication mechanism required", 13: "authentication failed",
    14: "authentication required (the challenge is to be answered)",
}  # fmt: skip
_STATES = {1: "service not allowed", 2: "service unknown"}
_EXCEPTIONS = {
    1: "operation not possible",
    2: "service not supported",
    3: "other reason",
    4: "PDU too long",
    5: "deciphering error",
    6: "invocation counter error",
}
_SERVICE_ERRORS = {1: "initiate", 5: "read", 6: "write"}


@dataclass(slots=True)
class Secrets:
    """What the caller knows. key: global encryption key; auth_key: to check tags; system_title: the sender's, where frames leave it out."""

    key: bytes = field(default=b"", repr=False)
    auth_key: bytes = field(default=b"", repr=False)
    system_title: bytes = b""

    def __post_init__(self) -> None:
        for name, value, sizes in (
            ("--key", self.key, (16, 32)),
            ("--auth-key", self.auth_key, (16, 32)),
            ("--system-title", self.system_title, (8,)),
        ):
            if value and len(value) not in sizes:
                raise InputError(f"{name} has {len(value)} bytes; it takes {' or '.join(map(str, sizes))} (two hex digits each)")
        if self.auth_key and self.key and len(self.auth_key) != len(self.key):
            raise InputError("--key and --auth-key have different lengths; both have 16 bytes, or both 32 in suite 2")


class Apdus:
    """Explains the APDUs of one input, in order."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._client_title = self._server_title = b""
        self._dedicated = b""
        self._blocks: dict[str, bytearray] = {}

    def explain(self, octets: bytes) -> Node:
        """One APDU. A node with a problem where it is none, or breaks off; it never raises for what the bytes are."""
        if not octets:
            return Node("APDU", problem="no bytes")
        node = Node(NAMES.get(octets[0], f"APDU with tag 0x{octets[0]:02x}"), f"{len(octets)} bytes")
        try:
            self._fill(node, octets)
        except MeterError as error:
            node.problem = str(error)
            if not node.inside and not node.fields:
                node.fields["bytes"] = octets.hex()
        return node

    def _fill(self, node: Node, octets: bytes) -> None:
        tag = octets[0]
        if tag in SEALED_TAGS or tag == GENERAL_CIPHERING:
            self._sealed(node, octets)
        elif tag in (acse.AARQ, acse.AARE):
            self._association(node, octets)
        elif tag in (acse.RLRQ, acse.RLRE):
            release = acse.Release.decode(octets)
            node.fields["reason"] = release.reason
            self._user_information(node, release.user_information)
        elif tag == 0x01:
            self._initiate_request(node, InitiateRequest.decode(octets))
        elif tag == 0x08:
            initiate = InitiateResponse.decode(octets)
            node.fields |= {
                "dlms version": initiate.version,
                "server max PDU": initiate.max_pdu,
                "conformance": _conformance(initiate.conformance),
            }
        elif tag == 0x0F:
            self._push(node, octets)
        elif tag == 0x10:
            confirm = DataNotificationConfirm.decode(octets)
            node.fields |= {"long invoke id": confirm.long_invoke_id, "time": date_time(confirm.when) if confirm.when else "left out"}
        elif tag in apdu_octets.SERVICE_TAGS:
            self._service(node, decode_apdu(octets))
        else:
            raise MeterError(f"tag 0x{tag:02x} is no APDU that is explained here")

    # -- ciphering ----------------------------------------------------------------------------------------------------------------

    def _sealed(self, node: Node, octets: bytes) -> None:
        header = None
        if octets[0] == GENERAL_CIPHERING:
            header, sealed = parse_general(octets)
            node.fields |= {"transaction id": header.transaction.hex(), "recipient": header.recipient.hex() or "left out"}
            node.fields["key"] = "global unicast" if header.key_info else "left out"
        else:
            sealed = parse_sealed(octets)
        control = sealed.security_control
        if sealed.system_title:
            node.fields["system title"] = f"{sealed.system_title.hex()} {_title(sealed.system_title)}".rstrip()
        node.fields |= {"security control": f"0x{control:02x}: {_control(control)}", "invocation counter": sealed.invocation_counter}
        node.fields["ciphertext" if control.encrypted else "plain bytes"] = f"{len(sealed.ciphertext)} bytes"
        if control.authenticated:
            node.fields["tag"] = sealed.tag12.hex()
        if not control.encrypted and not self._secrets.key:
            node.inside.append(self.explain(sealed.ciphertext))
            return
        plain = self._open(node, sealed, header)
        if plain is not None:
            inside = telegram(plain) or self.explain(plain)
            if inside.problem:
                inside.problem += "; a wrong key or system title gives such bytes" if not control.authenticated else ""
            node.inside.append(inside)

    def _open(self, node: Node, sealed: Sealed, header: GeneralHeader | None) -> bytes | None:
        """The plain bytes, None where something is missing (and said in the node)."""
        dedicated = sealed.tag in DED_TAGS or sealed.tag == GENERAL_DED
        key = self._dedicated if dedicated and self._dedicated else self._secrets.key
        title = (
            sealed.system_title or (self._server_title if sealed.tag in _FROM_SERVER else self._client_title) or self._secrets.system_title
        )
        if not key:
            node.fields["plain APDU"] = "give --key to see it"
            return None
        if not title:
            node.fields["plain APDU"] = "give --system-title (of the sender) to see it"
            return None
        control, auth_key = sealed.security_control, self._secrets.auth_key
        if control.authenticated and len(auth_key) != len(key):
            node.fields["tag checked"] = "no: give --auth-key"
            if not control.encrypted:
                return sealed.ciphertext
            sealed = sealed._replace(security_control=SecurityControl(control & ~0x10), tag12=b"")
        elif control.authenticated:
            node.fields["tag checked"] = "yes, it holds"
        try:
            keys = Keys(key, auth_key if len(auth_key) == len(key) else key)
            return open_sealed(sealed, keys, title) if header is None else open_general(header, sealed, keys, title)[0]
        except MeterError as error:
            node.fields.pop("tag checked", None)
            node.problem = str(error)
        except RequestError as error:
            node.problem = f"the key does not fit: {error}"
        return None

    # -- associations -------------------------------------------------------------------------------------------------------------

    def _association(self, node: Node, octets: bytes) -> None:
        both: AssociationRequest | AssociationResponse
        if octets[0] == acse.AARQ:
            both = request = AssociationRequest.decode(octets)
            self._client_title = request.system_title or self._client_title
        else:
            both = response = AssociationResponse.decode(octets)
            self._server_title = response.system_title or self._server_title
            node.fields["result"] = {0: "accepted", 1: "rejected for good", 2: "rejected for now"}.get(response.result, response.result)
            node.fields["diagnostic"] = _DIAGNOSTICS.get(response.diagnostic, response.diagnostic)
        node.fields["application context"] = _CONTEXTS.get(both.context, both.context)  # type: ignore[call-overload]
        if both.system_title:
            node.fields["system title"] = f"{both.system_title.hex()} {_title(both.system_title)}".rstrip()
        if both.mechanism is not None:
            node.fields["authentication"] = _MECHANISMS.get(both.mechanism, both.mechanism)  # type: ignore[call-overload]
        if both.authentication is not None:
            name = "password" if both.mechanism == Mechanism.LLS else "challenge"
            node.fields[name] = f"{both.authentication.hex()} {_title(both.authentication)}".rstrip()
        self._user_information(node, both.user_information)

    def _user_information(self, node: Node, octets: bytes) -> None:
        if octets:
            node.inside.append(self.explain(octets))

    def _initiate_request(self, node: Node, initiate: InitiateRequest) -> None:
        self._dedicated = initiate.dedicated_key or self._dedicated
        node.fields |= {
            "dlms version": initiate.version,
            "client max PDU": initiate.max_pdu,
            "conformance": _conformance(initiate.conformance),
        }
        if initiate.dedicated_key:
            node.fields["dedicated key"] = f"{len(initiate.dedicated_key)} bytes"

    # -- services and pushes --------------------------------------------------------------------------------------------------------

    def _push(self, node: Node, octets: bytes) -> None:
        """A data-notification; one whose body is missing or broken is explained as far as it goes."""
        try:
            return self._notification(node, DataNotification.decode(octets))
        except MeterError as error:
            for end in _NOTIFICATION_HEADS:
                try:
                    head = DataNotification.decode(octets[:end] + b"\0")
                except MeterError:
                    continue
                self._notification(node, head)
                node.inside = explain_values(octets[end:], "body")
                return None
            raise error

    def _notification(self, node: Node, push: DataNotification) -> None:
        node.fields |= {
            "long invoke id": push.long_invoke_id,
            "wants a confirmation": push.confirmed,
            "time": date_time(push.when) if push.when else "left out",
        }
        body = explain(push.body)
        body.what = f"body: {body.what}"
        _explain_push(body, push.body)
        _explain_columns(body, push.body)
        node.inside.append(body)

    def _service(self, node: Node, service: apdu.Service) -> None:
        kind = type(service).__name__
        node.means = "".join(f" {c.lower()}" if c.isupper() else c for c in kind).strip()
        for name, value in zip(service._fields, service, strict=True):
            self._part(node, kind, name, value)
        block = getattr(service, "block", None)
        if isinstance(block, Block):
            self._gather(node, kind, block.number, block.raw, block.last, values=True)
        elif isinstance(service, GeneralBlock) and service.data:
            self._gather(node, kind, service.number, service.data, service.last, values=False)

    def _gather(self, node: Node, kind: str, number: int, raw: bytes, last: bool, values: bool) -> None:
        """A block of something long: shown as far as it goes, and whole behind the last one where all of them were given."""
        if number == 1:
            self._blocks[kind] = bytearray()
        gathered = self._blocks.get(kind)
        if gathered is not None:
            gathered += raw
        if gathered is None:
            node.fields["block"] = f"{raw.hex()}"
            node.fields["note"] = "the blocks in front of this one were not given"
        elif last:
            whole = bytes(self._blocks.pop(kind))
            node.inside += explain_values(whole) if values else [self.explain(whole)]
        elif values:
            begun = explain_values(bytes(gathered))
            for one in begun:
                one.forgive()
            node.fields["note"] = f"not the last block: {len(gathered)} bytes so far"
            node.inside += begun
        else:
            node.fields["note"] = f"not the last block: {len(gathered)} bytes so far"

    def _part(self, node: Node, kind: str, name: str, value: Any) -> None:
        """One field of a service."""
        label = name.replace("_", " ")
        if name == "invoke":
            node.fields["invoke id"] = value & 0x0F
            node.fields["service class"] = "confirmed" if value & 0x40 else "unconfirmed"
            node.fields["priority"] = "high" if value & 0x80 else "normal"
        elif isinstance(value, Block):
            node.fields |= {"block number": value.number, "last block": value.last, "block bytes": len(value.raw)}
        elif isinstance(value, (Ref, Item, Selection, Data, Outcome)):
            label = {"EventNotification": "attribute"}.get(kind, "method") if isinstance(value, Ref) else label
            node.inside.append(_large(label, value))
        elif isinstance(value, tuple):
            node.inside += [_large(f"{label} {k + 1}", one) for k, one in enumerate(value)]
        elif kind == "ExceptionResponse":
            node.fields[label] = {"state": _STATES, "service": _EXCEPTIONS}.get(name, {}).get(value, value)
        elif kind == "ServiceError" and name == "service":
            node.fields[label] = _SERVICE_ERRORS.get(value, value)
        elif name == "when":
            node.fields["time"] = date_time(value) if len(value) == 12 else value.hex() or "left out"
        elif isinstance(value, bytes):
            node.fields[label] = value.hex()
        elif name in ("code", "result"):
            if value is not None:
                node.fields["result"] = code_words(value)
        else:
            node.fields[label] = value


def _large(label: str, value: Any) -> Node:
    """A reference, selection, value or outcome of a service."""
    if isinstance(value, Data):
        node = explain(value)
        node.what = f"{label}: {node.what}"
        return node
    if isinstance(value, Ref):
        return Node(label, means=_ref(value))
    if isinstance(value, Item):
        node = Node("attribute", means=_ref(value.ref))
        if value.selection is not None:
            node.inside.append(_large("selection", value.selection))
        return node
    if isinstance(value, Selection):
        kind = {1: "by range", 2: "by entry"}.get(value.selector, f"selector {value.selector}")
        return Node("selection", means=kind, inside=[explain(value.parameters)])
    if isinstance(value, Outcome):
        node = Node(label, means=code_words(value.code))
        if value.returned is not None:
            node.inside.append(_large("returned", value.returned))
        return node
    return Node(label, means=code_words(value))


def _ref(ref: Ref) -> str:
    return f"{class_name(ref.class_id)} {named(ref.obis)}, {ref.member}"


def code_words(code: object) -> str:
    """A result code in words."""
    name = getattr(code, "name", None)
    return str(name).lower().replace("_", " ") if name else f"result code {code}"


def _control(control: SecurityControl) -> str:
    parts = [f"suite {control.suite}"]
    parts += [name for name, on in (("authenticated", control.authenticated), ("encrypted", control.encrypted)) if on]
    parts += [name for name, on in (("broadcast key", control.broadcast), ("compressed", control.compressed)) if on]
    return ", ".join(parts)


def _title(octets: bytes) -> str:
    """Letters of a title or password, where it has some."""
    text = "".join(chr(octet) if 0x20 < octet < 0x7F else "." for octet in octets)
    return f'"{text}"' if text.strip(".") and len(text.replace(".", "")) >= 3 else ""


def _conformance(bits: Conformance) -> str:
    return ", ".join(str(bit.name).lower().replace("_", " ") for bit in Conformance if bits & bit) or "nothing"


def _explain_push(node: Node, body: Data) -> None:
    """Names the parts of {device id, push object, clock, data}, and the columns where a shipped layout fits the body."""
    parts = node.inside
    if len(parts) < 4 or not isinstance(body.value, tuple) or not isinstance(body.value[1].value, bytes) or len(body.value[1].value) != 6:
        return
    push_object = obis_text(body.value[1].value)
    if not push_object.endswith(".25.9.0.255"):
        return
    for part, name in zip(parts, ("device id", "push object", "clock", "data"), strict=False):
        part.what = f"{name}: {part.what}"
    for layout in layouts():
        if layout.push_object != push_object or layout.row_shape != "rows":
            continue
        try:
            read_push(layout, body)
        except MeterError:
            continue
        parts[3].means += f", in the layout of {layout.maker} {layout.model}"
        for row in parts[3].inside:
            for column, value in zip(layout.columns, row.inside, strict=True):
                number = value.value
                shown = f": {in_unit(number, column.scaler, column.unit)}" if column.unit and isinstance(number, (int, float)) else ""
                value.means = f"{named(column.obis)}{shown}" if column.unit else value.means
        return


def _explain_columns(node: Node, body: Data) -> None:
    """Names the parts of a body that brings its push object list along as its first part (Blue Book, class 40, attribute 2)."""
    if body.tag is not Tag.STRUCTURE or not body.value or body.value[0].tag is not Tag.ARRAY or len(body.value[0].value) != len(body.value):
        return
    for part, value, column in zip(node.inside, body.value, body.value[0].value, strict=True):
        capture = members(column, Tag.LONG_UNSIGNED, Tag.OCTET_STRING, Tag.INTEGER, Tag.LONG_UNSIGNED)
        if capture is None or len(capture[1]) != 6:
            return
        if value is not body.value[0]:
            meaning = f"{class_name(capture[0])} {named(obis_text(capture[1]))}, attribute {capture[2]}"
            part.means = f"{part.means}  {meaning}".strip()
        else:
            part.means = f"what is pushed, {len(body.value)} elements"
