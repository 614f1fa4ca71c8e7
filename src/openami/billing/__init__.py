"""Billing: a tariff and energies in, charge lines in paise out. Integers only; pure; vectorised over accounts.

    tariff.py        what a tariff is; `load_tariffs`, `TariffBook.on`
    tariff_file.py   reads and checks the effective-dated TOML
    tou.py           hours to time-of-use periods (`tou_index`) and day blocks to energies (`fold`)
    tariff_rules.py  the kinds of lines, and how their numbers become exact integers
    bill.py          `B`, the whole bill of a billing period to date
    machine.py       its compiled arithmetic
    explain.py       why a day cost what it did: a tree that always sums, in English and Hindi
    notes.py         what is said beside it: readings, what was set off, limits passed, why a line applied
    tree.py          the tree as text, JSON and HTML
    netting.py       net metering: what is billed, banked and settled
    charge.py        a day's charge = B(to the day) - B(to the day before); splits at a change of tariff

What always holds: each line is rounded half up once, the total is the sum of the printed lines, and the days add up to the month.
"""

from .bill import Bill, bill
from .charge import Segment, charge, segment
from .tariff import Tariff, TariffBook, load_tariffs
from .tou import fold, fold_columns, tou_index

__all__ = ["Bill", "Segment", "Tariff", "TariffBook", "bill", "charge", "fold", "fold_columns", "load_tariffs", "segment", "tou_index"]
