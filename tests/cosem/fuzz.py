"""Mutated frames against every decoder and both sessions: nothing may come out but values and MeterError.

python tests/cosem/fuzz.py [frames] [seed]
"""

import random
import resource
import sys
import time

from peers import ALL, BLOCK_LOAD, COLUMNS, NOW, pair, pump

from openami.cosem import (
    acse,
    apdu_octets,
    axdr,
    ciphering,
    general_ciphering,
    hdlc,
    links,
    notification,
    profile,
    push,
    register_push,
    wrapper,
)
from openami.cosem.acse import Conformance, Mechanism
from openami.cosem.apdu import Item, Ref
from openami.cosem.clock import CosemDateTime
from openami.cosem.protection import Form
from openami.errors import MeterError

BLOCK_GET = Conformance.BLOCK_GET
CASES = [
    ("wrapper", Mechanism.NONE, 0, Form.GLO, {}),
    ("wrapper", Mechanism.HLS, 0x20, Form.GENERAL_GLO, {"max_pdu": 200}),
    ("wrapper", Mechanism.HLS_GMAC, 0x30, Form.DED, {"conformance": ALL & ~BLOCK_GET, "max_pdu": 300}),
    ("wrapper", Mechanism.LLS, 0, Form.GLO, {"conformance": ALL & ~BLOCK_GET, "max_pdu": 150}),
    ("hdlc", Mechanism.HLS_SHA256, 0, Form.GLO, {"max_pdu": 200}),
    ("wrapper", Mechanism.HLS_GMAC, 0x30, Form.GENERAL_CIPHERING, {"max_pdu": 300}),
]
DECODERS = (
    axdr.decode_all,
    apdu_octets.decode_apdu,
    apdu_octets.decode_results,
    apdu_octets.decode_values,
    lambda octets: apdu_octets.decode_outcomes(octets, False),
    lambda octets: apdu_octets.decode_outcomes(octets, True),
    acse.AssociationRequest.decode,
    acse.AssociationResponse.decode,
    acse.Release.decode,
    acse.InitiateRequest.decode,
    acse.InitiateResponse.decode,
    notification.DataNotification.decode,
    notification.DataNotificationConfirm.decode,
    ciphering.parse_sealed,
    general_ciphering.parse_general,
    lambda octets: register_push.push_object_of(axdr.decode_all(octets)),
    *(
        lambda octets, layout=layout: register_push.read_registers(layout, axdr.decode_all(octets))
        for layout in register_push.register_layouts()[::5]
    ),
    hdlc.Frame.decode,
    links.HdlcParameters.decode,
    wrapper.unwrap,
    lambda octets: hdlc.HdlcReader().feed(octets),
    lambda octets: hdlc.HdlcReader(octet_stuffing=True).feed(octets),
    lambda octets: push.read_push(push.layouts()[0], axdr.decode_all(octets)),
    lambda octets: profile.read_buffer(COLUMNS, axdr.decode_all(octets)),
    lambda octets: profile.read_captures(axdr.decode_all(octets)),
)


def mutate(octets, rng):
    """A few bytes changed, taken out, put in, doubled or cut off."""
    out = bytearray(octets)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 1 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del out[at : at + rng.randrange(1, 9)]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 4:
            out[at:at] = out[at : at + rng.randrange(1, 40)]
        else:
            del out[at:]
    return bytes(out)


def traffic(case):
    """Frames of a whole conversation: [(to the server?, octets)], plain APDUs included."""
    kind, mechanism, policy, form, settings = case
    client, server = pair(kind, mechanism, policy, form, settings=settings)
    seen = []
    client.open()
    steps = [
        lambda: client.get(Item(Ref(7, BLOCK_LOAD, 2), profile.by_entry(1, 12))),
        lambda: client.get(Item(Ref(1, "0.0.42.0.0.255", 2)), Item(Ref(15, "0.0.40.0.0.255", 2))),
        lambda: client.set((Item(Ref(1, "0.0.96.1.0.255", 2)), axdr.Data(axdr.Tag.OCTET_STRING, bytes(300)))),
        lambda: client.action((Ref(70, "0.0.96.3.10.255", 1), axdr.Data(axdr.Tag.INTEGER, 0))),
        client.release,
    ]
    while True:
        up = client.take_out()
        for frame in up:
            seen.append((True, frame))
            server.feed(frame, NOW)
        down = server.take_out()
        for frame in down:
            seen.append((False, frame))
            client.feed(frame)
        if not up and not down:
            if not steps:
                return seen
            steps.pop(0)()


def pushes():
    """Bodies of pushes of every layout, as plain bytes: what the decoders of bodies are given, mutated."""
    clock = axdr.Data(axdr.Tag.OCTET_STRING, CosemDateTime.from_stamp(NOW).encode())
    found = []
    for layout in register_push.register_layouts():
        row = tuple(clock if column.tag in (axdr.Tag.OCTET_STRING, axdr.Tag.DATE_TIME) else axdr.NULL for column in layout.columns)
        head = (axdr.Data(axdr.Tag.OCTET_STRING, b"XMA1"), axdr.Data(axdr.Tag.OCTET_STRING, push.obis_bytes(layout.push_object)), clock)
        rows = axdr.Data(axdr.Tag.STRUCTURE, row)
        tail = {"flat": row, "row": (rows,), "rows": (axdr.Data(axdr.Tag.ARRAY, (rows, rows)),)}[layout.row_shape]
        found.append(axdr.encode(axdr.Data(axdr.Tag.STRUCTURE, head + tail)))
    return found


def fuzz(count, seed):
    """`count` mutated frames; (frames refused, frames taken, the slowest one in s of CPU). Raises whatever is not a MeterError."""
    rng = random.Random(seed)
    conversations = [traffic(case) for case in CASES]
    bodies = pushes()
    refused = taken = 0
    slowest_s = 0.0
    client = server = None
    for k in range(count):
        which = rng.randrange(len(CASES))
        if k % 20 == 0 or client is None:
            kind, mechanism, policy, form, settings = CASES[which]
            client, server = pair(kind, mechanism, policy, form, settings=settings)
            client.open()
            pump(client, server)
            if k % 40 == 0:
                client.get(Item(Ref(7, BLOCK_LOAD, 2)))
                client.take_out()
        upward, frame = rng.choice(conversations[which])
        octets = mutate(frame, rng)
        inner = mutate(rng.choice(bodies) if k % 8 == 0 else frame[8:], rng)
        begun_s = time.process_time()
        try:
            if upward:
                server.feed(octets, NOW)
                server.take_out()
            else:
                client.feed(octets)
            rng.choice(DECODERS)(inner)
            taken += 1
        except MeterError:
            refused += 1
        slowest_s = max(slowest_s, time.process_time() - begun_s)
    return refused, taken, slowest_s


if __name__ == "__main__":
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    begun = time.perf_counter()
    result = fuzz(frames, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(
        {
            "frames": frames,
            "refused": result[0],
            "taken": result[1],
            "slowest_ms": round(1000 * result[2], 1),
            "rss_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "s": round(time.perf_counter() - begun, 1),
        }
    )
