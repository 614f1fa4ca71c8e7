"""One thing that a frame holds, with what is inside it: the tree that `openami decode` shows, and its form as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

Shown = str | int | float | bool | None


@dataclass(slots=True)
class Node:
    """what: its name; value: as it stands on the wire, None where it only holds others; means: what that stands for, "" if nothing more.

    problem: what is wrong with it, "" if nothing; fields: its small parts by name; inside: its large ones, in order.
    """

    what: str
    value: Shown = None
    means: str = ""
    problem: str = ""
    fields: dict[str, Shown] = field(default_factory=dict)
    inside: list[Node] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Without what is empty."""
        out: dict[str, object] = {"what": self.what}
        if self.value is not None:
            out["value"] = self.value
        out |= {name: text for name, text in (("means", self.means), ("problem", self.problem)) if text}
        if self.fields:
            out["fields"] = self.fields
        if self.inside:
            out["inside"] = [one.as_json() for one in self.inside]
        return out

    def problems(self) -> list[str]:
        """Everything that is wrong in this tree."""
        return ([self.problem] if self.problem else []) + [text for one in self.inside for text in one.problems()]

    def forgive(self) -> None:
        """Nothing in this tree is a fault: it is only not complete yet."""
        self.problem = ""
        for one in self.inside:
            one.forgive()
