"""A meter and a client on one wire, for the tests of both sides against each other."""

from openami.cosem.acse import DEFAULT_CONFORMANCE, Conformance, Mechanism
from openami.cosem.association import Allow, AssociationSetup, SecurityState
from openami.cosem.axdr import Data, Tag
from openami.cosem.ciphering import Keys
from openami.cosem.client import ClientSession, ClientSettings
from openami.cosem.clock import CosemDateTime
from openami.cosem.hdlc import Address
from openami.cosem.links import HdlcLink, HdlcParameters, WrapperLink
from openami.cosem.objects import Clock, DataObject, Register
from openami.cosem.operations import DisconnectControl
from openami.cosem.profile import CLOCK, Capture, ProfileGeneric
from openami.cosem.protection import Form, Protection
from openami.cosem.server import LogicalDevice, ServerSession

NOW = 1_790_000_000
DAY_START = 1_789_929_000  # 00:00 at +05:30
CLIENT_TITLE, SERVER_TITLE = b"OAM\0\0\0\0\1", b"XMA\0\0\0\0\7"
KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
SECRET = b"0123456789abcdef"
CTOS, STOC = b"challenge-client", b"challenge-server"
BLOCK_LOAD = "1.0.99.1.0.255"
COLUMNS = (CLOCK, *(Capture(3, f"1.0.{code}.27.0.255") for code in (12, 11, 1, 9, 2, 10, 14)))
ALL = DEFAULT_CONFORMANCE | Conformance.GENERAL_BLOCK_TRANSFER


def block_load(rows=48, deltas=False):
    """A day of block load, 8 columns."""
    profile = ProfileGeneric(BLOCK_LOAD, COLUMNS, 1800, 96, deltas)
    for k in range(rows):
        stamp = DAY_START + 1800 * (k + 1)
        clock = Data(Tag.OCTET_STRING, CosemDateTime.from_stamp(stamp).encode())
        numbers = (2300 + k // 4, 15, 100 + k, 110 + k, 0, 0, 5000)
        profile.add(stamp, (clock, *(Data(Tag.DOUBLE_LONG_UNSIGNED, n) for n in numbers)))
    return profile


def setup(client=48, mechanism=Mechanism.NONE, policy=0, **more):
    security = SecurityState(KEYS, 1, -1) if policy or mechanism >= Mechanism.HLS_GMAC else None
    return AssociationSetup(client, "us", "0.0.40.0.3.255", mechanism, SECRET, policy, security, **more)


def device(*setups, objects=()):
    own = (
        DataObject("0.0.42.0.0.255", Data(Tag.OCTET_STRING, b"XMA0000007")),
        DataObject("0.0.96.1.0.255", Data(Tag.OCTET_STRING, b"7"), writable=True),
        Register("1.0.1.8.0.255", Data(Tag.DOUBLE_LONG_UNSIGNED, 4711), 0, "Wh"),
        Clock(),
        DisconnectControl(),
        block_load(),
    )
    return LogicalDevice(SERVER_TITLE, (*own, *objects), setups)


def links(kind, client=48, **parameters):
    """(client's link, server's link): "wrapper" or "hdlc"."""
    if kind == "wrapper":
        return WrapperLink(client, 1), WrapperLink(1, 0)
    offer = HdlcParameters(*parameters.get("offer", (128, 128, 1, 1)))
    server = Address(1, 17, parameters.get("size", 2)) if parameters.get("size", 2) > 1 else Address(1)
    return HdlcLink(Address(client), server, True, offer), HdlcLink(
        server, None, False, HdlcParameters(*parameters.get("server_offer", offer))
    )


def protection(policy, form=Form.GLO, title=CLIENT_TITLE, keys=KEYS, counter=1):
    return Protection(keys, title, SERVER_TITLE, policy, counter, form=form)


def pair(kind="wrapper", mechanism=Mechanism.NONE, policy=0, form=Form.GLO, meter=None, settings=None, client=48, **parameters):
    offered = {"conformance": parameters.pop("conformance", ALL), "max_pdu": parameters.pop("max_pdu", 0xFFFF)}
    meter = meter or device(setup(client, mechanism, policy, **offered))
    ours, theirs = links(kind, client, **parameters)
    fields = {
        "mechanism": mechanism,
        "secret": SECRET,
        "challenge": CTOS,
        "protection": protection(policy, form) if policy or mechanism >= Mechanism.HLS_GMAC else None,
        "dedicated_key": bytes(16) if "ded" in form else b"",
        **(settings or {}),
    }
    return ClientSession(ClientSettings(**fields), ours), ServerSession(meter, theirs, lambda: STOC)


def pump(client, server, now=NOW):
    """Carries bytes both ways until both are quiet: (client events, server events, round trips)."""
    at_client, at_server, trips = [], [], 0
    while True:
        up = client.take_out()
        for frame in up:
            at_server += server.feed(frame, now)
        down = server.take_out()
        for frame in down:
            at_client += client.feed(frame)
        if not up and not down:
            return at_client, at_server, trips
        trips += 1


def allow_reading():
    return (Allow("g"),)
