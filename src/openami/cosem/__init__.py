"""Meter bytes <-> values: DLMS/COSEM as a library that stands alone. No sockets, no clock, no files of its own, no side.

What always holds:
- bytes in, values out: a peer's mistake raises `MeterError` and nothing else; what is in front of it and behind it goes on;
- lengths are checked before anything is allocated, and nesting is bounded;
- encoding what was decoded gives the same bytes wherever the standard leaves one way of writing them;
- keys are never shown: not in a repr, not in an error.

The chapters, from the wire upwards:

    wrapper.py        TCP/UDP wrapper frames (IEC 62056-47)
    hdlc.py           HDLC frames, their checks and addresses (IEC 62056-46)
    links.py          whole APDUs over wrapper or HDLC: windows, segments, recovery
    hdlc_push.py      pushes in a stream of HDLC frames, as wrapper frames
    axdr.py           A-XDR: typed data, all types, compact arrays (IEC 62056-6-2, IEC 61334-6)
    clock.py          COSEM date-time, with every "not specified" form
    ciphering.py      AES-GCM protection of APDUs: glo-, ded-, general-glo-, general-ded-ciphering
    general_ciphering.py  the form that names both ends and a transaction
    protection.py     the security context of an association: forms, policy, invocation counters
    hls.py            the answers to challenges (mechanisms 2 to 6)
    acse.py           opening and closing an association: AARQ, AARE, RLRQ, RLRE, initiate
    apdu.py           GET, SET, ACTION, notifications and exceptions as values
    apdu_octets.py    the same as octets, there and back
    blocks.py         long values in blocks, general block transfer
    requests.py       what a client asks, block by block
    opening.py        how a client opens an association: its proposal, its judgement of the answer, the proofs
    client.py         the client's session: a state table
    services.py       what a meter answers, block by block
    association.py    who may open an association with a meter and do what there; the association object
    server.py         the meter's session: a state table
    objects.py        a meter's objects that hold values: data, registers, clock
    profile.py        profile generic: read and served; deltas, selection, scalers
    operations.py     a meter's objects that act: relay, limiter, scripts, image, keys, push, calendar
    notification.py   data-notification and its confirmation
    push.py           push layouts by maker and model: a push body <-> readings; `data/layouts.toml`
    register_push.py  pushes of registers, events and bills: a body <-> rows; `data/register_layouts.toml`
    is15959.py        IS 15959 parts 1 to 3 as data; `data/is15959.toml`, `data/quirks.toml`
    bulk.py           the bulk path: many pushes of known layouts at once
                      (with bulk_cipher.py, bulk_loops.py, bulk_template.py)
"""
