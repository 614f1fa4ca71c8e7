"""Any frame explained layer by layer: framing, LLC, APDU, ciphering, data (`openami decode`).

Bytes go in as hex (spaces, colons, commas, 0x and line ends do no harm) or raw; out comes a tree. What always holds: what can be read is shown and
what cannot is said in its place; bytes that are no frame at all are an InputError; no byte is passed over without being named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..cosem import hdlc
from ..cosem.hdlc import Frame
from ..cosem.links import HdlcParameters
from ..cosem.wrapper import unwrap
from ..errors import InputError, MeterError
from .apdus import NAMES, Apdus, Secrets
from .framing import HdlcPiece, hdlc_pieces, mbus_frames
from .node import Node, Shown
from .values import explain_values

if TYPE_CHECKING:
    from rich.text import Text

MAX_INPUT_BYTES = 16 * 1024 * 1024
_SEPARATORS = re.compile(r"0[xX]|\\x|[\s:,;.\-_|]+")


def secrets_from(key: str | None, auth_key: str | None, system_title: str | None) -> Secrets:
    """From the words of the command line, hex. InputError names the option that is no hex or has another length."""
    octets = []
    for name, text in (("--key", key), ("--auth-key", auth_key), ("--system-title", system_title)):
        try:
            octets.append(bytes.fromhex((text or "").removeprefix("0x")))
        except ValueError:
            raise InputError(f"{name} is not hex; give two hex digits for each byte") from None
    return Secrets(*octets)


def read_input(source: str) -> tuple[bytes, list[bytes]]:
    """(all bytes, the bytes of each line) of a file, of standard input ("-"), or of the hex digits themselves.

    Lines are only told apart in hex text. InputError where there is nothing to read, or it is neither hex nor binary.
    """
    if not source.strip():
        raise InputError("nothing is given; name a file of frames, - for standard input, or hex digits")
    if re.fullmatch(r"(0[xX])?[0-9A-Fa-f\s:,.\-]{2,}", source) and not _is_there(Path(source)):
        return parse_text(source, "the hex given")
    try:
        raw = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1) if source == "-" else _file(Path(source))
    except OSError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror or error}); give a file of frames, - for standard input, or hex digits"
        ) from None
    name = "standard input" if source == "-" else source
    if not raw.strip():
        raise InputError(f"{name} is empty; give a frame as hex or as raw bytes")
    if len(raw) > MAX_INPUT_BYTES:
        raise InputError(f"{name} has more than {MAX_INPUT_BYTES >> 20} MiB; give one conversation at a time")
    if all(octet in b"\t\n\r\f" or 0x20 <= octet < 0x7F for octet in raw):
        return parse_text(raw.decode("ascii"), name)
    return raw, [raw]


def _is_there(path: Path) -> bool:
    """False too for what no path can be: a frame's hex digits are soon longer than a file's name may be."""
    try:
        return path.exists()
    except OSError:
        return False


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_INPUT_BYTES + 1)


def parse_text(text: str, name: str = "the input") -> tuple[bytes, list[bytes]]:
    """Hex text as bytes, whole and line by line. A line that begins with # is a comment. InputError names the line that is no hex."""
    lines, digits = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        own = "" if line.lstrip().startswith("#") else _SEPARATORS.sub("", line)
        wrong = re.search(r"[^0-9A-Fa-f]", own)
        if wrong:
            raise InputError(
                f'{name}, line {number}: "{own[wrong.start() : wrong.start() + 12]}" is not hex; give hex digits or a raw binary file'
            )
        digits += own
        lines.append(own)
    if not digits:
        raise InputError(f"{name} is empty; give a frame as hex or as raw bytes")
    if len(digits) % 2:
        raise InputError(f"{name} has {len(digits)} hex digits, an odd number: one is missing or too many")
    whole = [line for line in lines if line]
    return bytes.fromhex(digits), [bytes.fromhex(line) for line in whole] if all(len(line) % 2 == 0 for line in whole) else []


def decode(octets: bytes, lines: list[bytes], secrets: Secrets) -> list[Node]:
    """The tree of an input. lines: its lines where each may be a frame of its own. InputError where nothing is any known frame."""
    apdus = Apdus(secrets)
    nodes = explain_bytes(octets, apdus)
    if len(lines) > 1 and (nodes is None or _problems(nodes)):
        fresh = Apdus(secrets)
        each = [explain_bytes(line, fresh) for line in lines]
        told = [node for one in each if one is not None for node in one]
        if None not in each and (nodes is None or len(_problems(told)) < len(_problems(nodes))):
            nodes = told
    if not nodes:
        raise InputError(
            f"these {len(octets)} bytes (they begin {octets[:8].hex(' ')}) are no HDLC, M-Bus or wrapper frame, no APDU and no A-XDR data; "
            "give whole frames, as hex or raw"
        )
    return nodes


def complaint(nodes: list[Node]) -> str:
    """Why an input counts as bad: nothing in it could be explained to its end; "" where something could."""
    faults = [node.problems() for node in nodes]
    if not all(faults):
        return ""
    return f"{nodes[0].what}: {faults[0][0]}; give whole frames, as hex or raw"


def _problems(nodes: Iterable[Node]) -> list[str]:
    return [problem for node in nodes for problem in node.problems()]


def explain_bytes(octets: bytes, apdus: Apdus) -> list[Node] | None:
    """The layers of some bytes, None where they are nothing that is known. The surest framing is tried first."""
    if octets[:1] == b"\x7e" or (octets[:1] and octets[0] & 0xF0 == 0xA0):
        pieces = hdlc_pieces(octets)
        if any(piece.frame for piece in pieces) or octets[:1] == b"\x7e":
            return _hdlc(pieces, apdus)
    mbus = mbus_frames(octets)
    if mbus:
        return _mbus(mbus, apdus)
    if octets[:2] == b"\0\1":
        wrapped = _wrapped(octets, apdus)
        if wrapped:
            return wrapped
    if octets[:3] in (hdlc.LLC_COMMAND, hdlc.LLC_RESPONSE):
        return [_llc(octets, apdus)]
    return _unframed(octets, apdus)


def _unframed(octets: bytes, apdus: Apdus) -> list[Node] | None:
    """An APDU, values, frames behind garbage; the first that is without a fault, else the one that explains most."""
    apdu = apdus.explain(octets) if octets and octets[0] in NAMES else None
    if apdu is not None and not apdu.problem:
        return [apdu]
    values = explain_values(octets)
    if not _problems(values):
        return values
    pieces = hdlc_pieces(octets)
    if any(piece.frame for piece in pieces):
        return _hdlc(pieces, apdus)
    proof = _gmac_proof(octets)
    if proof is not None:
        return [proof]
    if apdu is not None and (apdu.inside or not any(node.inside for node in values)):
        return [apdu]
    return values if any(node.inside for node in values) else None


def _gmac_proof(octets: bytes) -> Node | None:
    """The 17 bytes that answer a challenge with GMAC (Green Book 9.2.7.4)."""
    if len(octets) != 17 or octets[0] & 0xF0 != 0x10 or octets[0] & 0x0F > 2:
        return None
    fields: dict[str, Shown] = {"security control": f"0x{octets[0]:02x}", "invocation counter": int.from_bytes(octets[1:5], "big")}
    return Node("answer to an HLS challenge (GMAC)", f"{len(octets)} bytes", fields={**fields, "tag": octets[5:].hex()})


def _llc(octets: bytes, apdus: Apdus) -> Node:
    way = "command" if octets[:3] == hdlc.LLC_COMMAND else "response"
    return Node("LLC", octets[:3].hex(), way, inside=[apdus.explain(octets[3:])])


# -- HDLC -------------------------------------------------------------------------------------------------------------------------


def _hdlc(pieces: list[HdlcPiece], apdus: Apdus) -> list[Node]:
    """Frames in order; information cut into segments is put together and explained in its last frame."""
    nodes: list[Node] = []
    gathered: dict[tuple[int, int], bytearray] = {}
    for piece in pieces:
        if piece.frame is None:
            nodes.append(Node("bytes", piece.octets.hex(), problem=piece.problem))
            continue
        node = _frame(piece.frame)
        if piece.problem:
            node.fields["note"] = piece.problem
        frame = piece.frame
        if frame.information:
            _information(node, frame, gathered, apdus)
        nodes.append(node)
    return nodes


def _frame(frame: Frame) -> Node:
    name, numbers = _control(frame.control)
    fields = {"destination": _address(frame.destination), "source": _address(frame.source), **numbers}
    if frame.segmented:
        fields["segmented"] = "more follows"
    return Node("HDLC frame", f"{len(frame.encode()) - 2} bytes", name, fields={**fields})


def _address(address: hdlc.Address) -> str:
    if address.lower is None:
        return str(address.upper)
    return f"{address.upper}/{address.lower} ({address.size} bytes)"


def _control(control: int) -> tuple[str, dict[str, int | bool | str]]:
    """The control byte in words: kind, and its numbers."""
    final: dict[str, int | bool | str] = {"poll/final": bool(control & hdlc.POLL_FINAL)}
    if not control & 1:
        return "information", {"N(S)": control >> 1 & 7, "N(R)": control >> 5, **final}
    if control & 0x0F in (hdlc.RR, hdlc.RNR):
        return "receive ready" if control & 0x0F == hdlc.RR else "receive not ready", {"N(R)": control >> 5, **final}
    kinds = {
        hdlc.SNRM: "set normal response mode (SNRM)",
        hdlc.UA: "unnumbered acknowledge (UA)",
        hdlc.DISC: "disconnect (DISC)",
        hdlc.DM: "disconnected mode (DM)",
        hdlc.FRMR: "frame reject (FRMR)",
        hdlc.UI: "unnumbered information (UI)",
    }
    return kinds.get(control & 0xEF, f"control byte 0x{control:02x}"), final


def _information(node: Node, frame: Frame, gathered: dict[tuple[int, int], bytearray], apdus: Apdus) -> None:
    kind, way, information = frame.control & 0xEF, (frame.source.upper, frame.destination.upper), frame.information
    if kind in (hdlc.SNRM, hdlc.UA) and frame.control & 1:
        try:
            agreed = HdlcParameters.decode(information)
        except MeterError as error:
            node.problem = str(error)
            return
        names = ("transmit information bytes", "receive information bytes", "transmit window", "receive window")
        node.inside.append(Node("HDLC parameters", information.hex(), fields=dict(zip(names, agreed, strict=True))))
        return
    begins = information[:3] in (hdlc.LLC_COMMAND, hdlc.LLC_RESPONSE)
    if way not in gathered and not begins and not frame.segmented and information[0] in NAMES:
        node.fields["note"] = "no LLC header"  # Landis+Gyr E450: the blocks behind the first have none
        node.inside.append(apdus.explain(information))
        return
    if way not in gathered and not begins:
        note = "a segment whose beginning was not given" if frame.segmented else "information without an LLC header"
        node.inside.append(Node("information", information.hex(), note))
        return
    whole = gathered.setdefault(way, bytearray())
    whole += information
    if frame.segmented:
        node.fields["information"] = f"{len(information)} bytes, {len(whole)} so far"
        return
    node.inside.append(_llc(bytes(gathered.pop(way)), apdus))


# -- M-Bus and wrapper --------------------------------------------------------------------------------------------------------------


def _mbus(frames: list[tuple[bytes, str]], apdus: Apdus) -> list[Node]:
    """Wired M-Bus long frames (EN 13757-2) around DLMS: control information 0x00 to 0x1F numbers the segments, 0x10 marks the last."""
    nodes: list[Node] = []
    gathered = bytearray()
    for octets, problem in frames:
        control, address, information = octets[4], octets[5], octets[6]
        fields: dict[str, Shown] = {"control": f"0x{control:02x}", "address": address, "control information": f"0x{information:02x}"}
        node = Node("M-Bus long frame", f"{len(octets)} bytes", problem=problem, fields=fields)
        nodes.append(node)
        if information > 0x1F:
            node.inside.append(Node("M-Bus data", octets[7:-2].hex(), "not DLMS"))
            continue
        node.fields |= {
            "segment": information & 0x0F,
            "last segment": bool(information & 0x10),
            "source": octets[7],
            "destination": octets[8],
        }
        gathered += octets[9:-2]
        if information & 0x10:
            node.inside.append(apdus.explain(bytes(gathered)))
            gathered.clear()
    if gathered:
        nodes[-1].inside.append(Node("segments", bytes(gathered).hex(), problem="the last segment was not given"))
    return nodes


def _wrapped(octets: bytes, apdus: Apdus) -> list[Node] | None:
    try:
        frames = unwrap(octets)
    except MeterError:
        return None
    return [
        Node(
            "wrapper",
            f"{8 + len(frame.apdu)} bytes",
            fields={"source": frame.source, "destination": frame.destination},
            inside=[apdus.explain(frame.apdu)],
        )
        for frame in frames
    ]


def show(nodes: list[Node]) -> None:
    """The tree on standard output, a line for each part, never cut."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def line(prefix: str, text: Text) -> None:
        console.print(Text(prefix, "dim").append_text(text), soft_wrap=True)

    def grow(node: Node, prefix: str, below: str) -> None:
        line(prefix, _label(node))
        parts: list[Node | Text] = [Text(f"{name}: {value}", "dim") for name, value in node.fields.items()]
        parts += node.inside
        for k, part in enumerate(parts):
            branch, under = ("└── ", "    ") if k == len(parts) - 1 else ("├── ", "│   ")
            if isinstance(part, Node):
                grow(part, below + branch, below + under)
            else:
                line(below + branch, part)

    for node in nodes:
        grow(node, "", "")


def _label(node: Node) -> Text:
    from rich.text import Text

    text = Text(node.what, "bold")
    if node.value is not None:
        text.append(f"  {node.value}", "not bold")
    if node.means:
        text.append(f"  {node.means}", "cyan")
    if node.problem:
        text.append(f"  ! {node.problem}", "red")
    return text
