"""The fleet: simulated meters on real sockets, with seeded faults and their ground truth written beside.

    households.py   real consumption of 400 households (Swiss, CC BY-SA 4.0), as it was measured, defects included
    town.py         a constructed town around them: feeders, transformers, phases, accounts, keys; what truly flows in each wire
    faults.py       what goes wrong, planted by seed: lost, repeated, late and forged frames, wrong clocks and keys, theft, wrong mapping
    meter.py        one simulated meter: its layout, keys and counter; makes the bytes of each push
    run.py          all meters push over TCP, wait for confirmations, and repeat what was not confirmed

What always holds: the same seed gives the same town, the same faults and the same frames, byte for byte.
"""
