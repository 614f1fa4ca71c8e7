"""VEE: validate, estimate, edit. One named check per function.

In: a day block's raw values `[slot, meter]` and what is known of each meter. Out: validated values and `Quality` bits, same shape.
The order is: invalidate -> find gaps -> estimate -> validate again. What always holds:
- raw is never written; a value that cannot be estimated stays MISSING, and an estimate that no connection could carry is refused;
- the same input gives the same output, and wherever the meters are cut, the result is the same;
- where a register's difference is known, the intervals of a scaled day add up to it exactly.

    rules.py          what each check demands, per consumer class and date, and as arrays over the meters
    checks.py         the checks, one function each
    estimate.py       the estimates: linear, like day, class profile, scaled to the register
    kernel.py         the same, fused for speed; `run` is what the day calls (its loops are in blocks.py)
    facts.py          what is known beside the readings (outages, registers, exchanges ...), as arrays
    tally.py          what a validated day says of each meter, counted in one pass
    edit.py           a person's correction, with its reason
    quality_codes.py  `Quality` as IEC 61968-9 quality codes
"""

from ..readings import MISSING64
from .kernel import VeeResult, run
from .rules import MeterLimits, RuleBook, RuleSet, load_rules, meter_limits

__all__ = ["MISSING64", "MeterLimits", "RuleBook", "RuleSet", "VeeResult", "load_rules", "meter_limits", "run"]
