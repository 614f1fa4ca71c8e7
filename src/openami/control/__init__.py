"""Control: may this supply be cut now? Facts and a dated policy in, a decision with all its reasons out.

    guard.py     `decide`: the disconnection guard, a pure function
    rules.py     the rules, one named function each
    record.py    a decision written down with what it rested on, and made again
    policy.py    a utility's rules as effective-dated data; holiday lists
    order.py     the life of one order to a meter, as a state table

What always holds: a missing fact refuses; every rule is asked, and every answer, yes or no, is in the decision with its source;
no rule can be switched off in data, a policy only sets its numbers.
"""

from .guard import Decision, Reason, decide
from .policy import Policy, PolicyBook, load_policies
from .rules import NEVER, Facts, Never

__all__ = ["NEVER", "Decision", "Facts", "Never", "Policy", "PolicyBook", "Reason", "decide", "load_policies"]
