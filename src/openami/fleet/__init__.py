"""The fleet: simulated meters on real sockets, with seeded faults and their ground truth written beside.

    households.py   real consumption of 400 households (Swiss, CC BY-SA 4.0), as it was measured, defects included
    town.py         a constructed town around them: feeders, transformers, phases, accounts, keys; what truly flows in each wire
    faults.py       what goes wrong, planted by seed: lost, repeated, late and forged frames, wrong clocks and keys, theft, wrong mapping
    outages.py      a fuse, a transformer, a feeder without supply in the last evening, and whose last gasps are lost
    meter.py        one simulated meter: its layout, keys and counter; makes the bytes of each push
    device.py       one meter as a full DLMS/COSEM server: identity, objects, associations, and a life behind them
    serve.py        serves it on a TCP port, wrapper or HDLC; serve_udp.py: on a UDP port
    pushing.py      what it sends by itself: which push is due, and its ciphered bytes; pusher.py sends them over TCP or UDP
    associations.py the six associations of IS 15959 and what each client may do
    life.py         the energy of its household, its relay, its captures, as a function of the time it is asked at
    measured.py     its objects that show that life; meter_objects.py: those that do not; tables.py: which there are, as data
    run.py          all meters push over TCP, wait for confirmations, and repeat what was not confirmed

What always holds: the same seed gives the same town, the same faults and the same frames, byte for byte.
"""
