"""Suspects: whom to visit first, why, and what else it could be.

In: `Features`, and, where there are any, results of inspections. Out: a probability and an expected energy for each meter, and `Suspect`s with
evidence and innocent explanations in plain sentences.

Two models. The interpretable one adds up evidence: each `Evidence` turns features into a strength 0..1, and a weight says how much log-odds it is
worth. The weights begin as judged (no labels needed) and are moved by inspections, never below zero: what is evidence cannot become an alibi by
chance (MAP logistic regression around the first weights). The second one is gradient boosting (LightGBM, the extra `suspects`), which wants some
hundred inspections; both log-odds are averaged as inspections grow.

What always holds: a suspicion is a reason to look, never a verdict; nothing personal goes in (see features.py); a meter whose place on the network
is doubtful is first a mapping question; a random share of visits must stay random, or the models only learn what they already believe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, RequestError
from ..readings import Bool
from .features import COLUMN, NAMES, Features
from .metered import Float32
from .network import Float64

BASE_LOG_ODDS = -4.0
FIRST_SPREAD = 1.0
BOOST_LABELS_MIN = 200
BOOST_LABELS_FULL = 2_000
NEWTON_ROUNDS = 25


@dataclass(frozen=True, slots=True)
class Evidence:
    """One kind of evidence. strength: features -> 0..1; weight: log-odds at full strength before any inspection; says: with {name} of features;
    innocent: what else it could be."""

    name: str
    strength: Callable[[Float32], Float32]
    weight: float
    says: str
    innocent: str


def _ramp(name: str, none: float, full: float) -> Callable[[Float32], Float32]:
    """0 at `none`, 1 at `full` and beyond, straight between; none > full: less is more. Unknown is no evidence; an unknown doubt is no doubt, and
    where nobody measures what is missing, something may be."""
    unknown = 1.0 if name in ("doubt", "missing") else 0.0

    def strength(values: Float32) -> Float32:
        found = (values[:, COLUMN[name]] - none) / (full - none)
        return np.asarray(np.clip(np.nan_to_num(found, nan=unknown), 0.0, 1.0), np.float32)

    return strength


def _both(*parts: Callable[[Float32], Float32]) -> Callable[[Float32], Float32]:
    """As strong as the weakest part."""
    return lambda values: np.asarray(np.minimum.reduce([part(values) for part in parts]), np.float32)


_MISSING = _ramp("missing", 0.01, 0.03)
"""What a curve looks like accuses nobody whose transformer misses nothing; a percent its meters' own errors can be."""
_LIVED_IN = _ramp("size", -2.0, -1.0)
"""Little more than a refrigerator has no memory, or no variation, by nature."""

EVIDENCE: tuple[Evidence, ...] = (
    Evidence("node", _ramp("node_excess", 0.02, 0.15), 1.0, "the transformer loses {node_excess:.0%} more than its wires explain",
             "a neighbour takes it, a direct hook before the meters, an unmetered street light or pump"),
    Evidence("in_step", _both(_ramp("joint_t", 3.0, 8.0), _ramp("joint_slope", 0.1, 0.5)), 5.0,
             "for each unit registered, {joint_slope:.2f} more is lost in step with it (t = {joint_t:.0f})",
             "a wrong current-transformer ratio, a second connection of the same house without a meter"),
    Evidence("idle", _both(_ramp("idle_t", 2.5, 6.0), _ramp("idle_excess", 0.1, 0.6)), 5.0,
             "it stands still for hours ({idle_share:.0%} of the time) and just then more is lost (t = {idle_t:.0f})",
             "a neighbour begins when this home ends; a generator or solar changeover"),
    Evidence("stands", _ramp("idle_share", 0.1, 0.35), 1.2, "it counts nothing at all for hours on end ({idle_share:.0%} of the time)",
             "an empty house, a shop that switches everything off"),
    Evidence("drop", _ramp("drop_t", -5.0, -14.0), 1.6, "its use fell to {fell:.0%} of what it was, against the town's (t = {drop_t:.0f})",
             "someone moved out, an appliance was replaced, a season's work ended"),
    Evidence("drop_found", _both(_ramp("drop_t", -4.0, -9.0), _ramp("drop_matched", 0.35, 0.9)), 3.0,
             "when its use fell, the transformer's unexplained loss rose by {drop_matched:.0%} of it",
             "two changes on one transformer in the same week"),
    Evidence("flat", _both(_ramp("variation", 0.35, 0.08), _MISSING, _LIVED_IN), 4.0, "its readings hardly vary ({variation:.2f} of the mean)",
             "a constant load (telecom tower, pump on a timer), or a stuck meter"),
    Evidence("same", _ramp("repeated", 0.3, 0.8), 3.0, "{repeated:.0%} of its readings repeat the one before",
             "a stuck register: a faulty meter, not a person"),
    Evidence("noise", _both(_ramp("lag1", 0.12, 0.0), _ramp("variation", 1.1, 0.5), _MISSING, _LIVED_IN), 3.5,
             "its readings jump about without memory (lag-1 correlation {lag1:.2f})", "a welder, a lift, a meter with a faulty sensor"),
    Evidence("rough", _both(_ramp("roughness", 1.2, 1.7), _ramp("joint_slope", 0.05, 0.4), _ramp("joint_t", 1.0, 3.0)), 1.0,
             "its readings are rougher than a household's", "motors with short cycles"),
    Evidence("phantom", _both(_ramp("joint_t", -3.5, -9.0), _ramp("joint_slope", -0.35, -0.8), _ramp("doubt", 0.9, 0.3)), 2.5,
             "its ups and downs do not arrive at its transformer (slope {joint_slope:.2f}, t = {joint_t:.0f})",
             "it hangs on another transformer than the registry says, or its clock is far off"),
    Evidence("upside_down", _ramp("shape", -0.35, -0.75), 2.5, "its day runs against everybody's (correlation {shape:.2f})",
             "night-shift work, a bakery, water heating at night, a clock that is twelve hours off"),
    Evidence("tamper", _ramp("tamper", 0.0, 2.0), 2.5, "{tamper:.0f} tamper events (magnet, cover, neutral)",
             "maintenance, a magnet of a loudspeaker, a poor neutral"),
    Evidence("volts", _ramp("volt_drop", 1.5, 3.0), 2.5, "its voltage falls {volt_drop:.1f} times as much per registered ampere as its neighbours'",
             "a long or poor service wire, a loose joint (a danger: look anyway)"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """weights: float64 [evidence]; base: log-odds without evidence; boost: a trained LightGBM model or None; labels: how many inspections it has
    learnt from."""

    weights: Float64
    base: float
    boost: Any | None = None
    labels: int = 0

    @staticmethod
    def cold() -> Model:
        """Before any inspection."""
        return Model(np.array([e.weight for e in EVIDENCE]), BASE_LOG_ODDS)


@dataclass(frozen=True, slots=True)
class Suspect:
    """meter: row of the features; probability of theft or fault; stolen_wh: expected per day if so; worth_wh: the two multiplied, by which visits are
    ranked; evidence: sentences, the strongest first; innocent: what else it could be, in the same order; first: what to do before a visit."""

    meter: int
    probability: float
    stolen_wh: float
    worth_wh: float
    evidence: tuple[str, ...]
    innocent: tuple[str, ...]
    first: str


def strengths(values: Float32) -> Float32:
    """[meter, evidence], 0..1."""
    return np.stack([e.strength(values) for e in EVIDENCE], axis=1) if len(values) else np.zeros((0, len(EVIDENCE)), np.float32)


def probabilities(model: Model, values: Float32) -> Float64:
    """Probability of theft or fault of each meter, [meter]."""
    logit = model.base + strengths(values) @ model.weights
    if model.boost is not None:
        share = min(max((model.labels - BOOST_LABELS_MIN) / (BOOST_LABELS_FULL - BOOST_LABELS_MIN), 0.0), 1.0) * 0.5 + 0.5
        boosted = np.clip(model.boost.predict(values), 1e-6, 1 - 1e-6)
        logit = (1 - share) * logit + share * np.log(boosted / (1 - boosted))
    return np.asarray(1 / (1 + np.exp(-logit)))


def learn(values: Float32, guilty: Bool, *, boost: bool = True, seed: int = 1, first: Model | None = None) -> Model:
    """The model after inspections: values [visit, feature] and what was found. With few visits the weights stay near where they began; boosting
    joins from 200 visits on, 20 of them with a finding. InputError where LightGBM is wanted and not installed. RequestError for other shapes."""
    if values.shape != (guilty.size, len(NAMES)):
        raise RequestError(f"features {values.shape} of {guilty.size} inspections; give [visit, {len(NAMES)} features]")
    begin = first or Model.cold()
    weights, base = _moved(strengths(values).astype(np.float64), guilty.astype(np.float64), begin)
    trained = (
        _boost(values, guilty, seed)
        if boost and guilty.size >= BOOST_LABELS_MIN and 20 <= guilty.sum() <= guilty.size - 20
        else begin.boost
    )
    return Model(weights, base, trained, begin.labels + int(guilty.size))


def worth(model: Model, found: Features) -> tuple[Float64, Float64]:
    """Probability, and expected energy recovered per day by a visit [Wh], both [meter]. Where nothing says how much is taken, a fifth of the
    meter's own use stands for it; never more than its transformer misses, where that is measured."""
    probability = probabilities(model, found.values)
    own = np.nan_to_num(found.mean_wh) * found.slots_per_day * 0.2
    most = np.where(np.isnan(found.missing_wh), np.inf, np.maximum(found.missing_wh, 0.0))
    return probability, probability * np.minimum(np.maximum(found.stolen_wh, own), most)


def suspects(model: Model, found: Features, count: int, doubt_max: float = 0.5) -> list[Suspect]:
    """The `count` visits that are worth most, each with what speaks for it."""
    probability, value = worth(model, found)
    order = np.argsort(-value, kind="stable")[:count]
    strong = strengths(found.values[order])
    return [_told(model, found, int(m), float(probability[m]), float(value[m]), strong[k], doubt_max) for k, m in enumerate(order)]


def _told(model: Model, found: Features, meter: int, probability: float, value: float, strong: Float32, doubt_max: float) -> Suspect:
    row = {name: float(found.values[meter, k]) for name, k in COLUMN.items()}
    row["fell"] = float(np.exp(row["drop"])) if np.isfinite(row["drop"]) else 1.0
    ranked = [k for k in np.argsort(-(strong * model.weights), kind="stable") if strong[k] * model.weights[k] >= 0.2]
    doubtful = np.nan_to_num(row["doubt"]) > doubt_max
    stuck = strong[[e.name for e in EVIDENCE].index("same")] > 0.5
    first = "settle on which transformer it hangs" if doubtful else "check the meter remotely: it may be stuck" if stuck else "visit"
    return Suspect(
        meter, probability, value / max(probability, 1e-9), value, tuple(EVIDENCE[k].says.format(**row) for k in ranked),
        tuple(EVIDENCE[k].innocent for k in ranked), first,
    )  # fmt: skip


def _moved(x: Float64, y: Float64, begin: Model) -> tuple[Float64, float]:
    """Logistic regression with a normal prior of standard deviation `FIRST_SPREAD` around the first weights; weights stay at zero or above."""
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    centre = np.append(begin.weights, begin.base)
    w = centre.copy()
    precision = 1 / FIRST_SPREAD**2
    for _ in range(NEWTON_ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(design @ w, -30, 30)))
        gradient = design.T @ (p - y) + precision * (w - centre)
        curved = (design * (p * (1 - p))[:, None]).T @ design + precision * np.eye(w.size)
        step = np.linalg.solve(curved, gradient)
        w = w - step
        w[:-1] = np.maximum(w[:-1], 0.0)
        if np.abs(step).max() < 1e-8:
            break
    return w[:-1], float(w[-1])


def _boost(values: Float32, guilty: Bool, seed: int) -> Any:
    try:
        import lightgbm
    except ImportError:
        raise InputError(
            "gradient boosting needs LightGBM; install it with: pip install 'openami[suspects]', or learn with boost=False"
        ) from None
    settings = {
        "objective": "binary", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 20, "lambda_l2": 5.0, "feature_fraction": 0.8,
        "bagging_fraction": 0.8, "bagging_freq": 1, "num_threads": 1, "seed": seed, "deterministic": True, "force_col_wise": True, "verbosity": -1,
    }  # fmt: skip
    return lightgbm.train(settings, lightgbm.Dataset(values, guilty.astype(np.int8), feature_name=list(NAMES)), num_boost_round=200)


def contributions(model: Model, values: Float32) -> Sequence[dict[str, float]]:
    """The interpretable model's log-odds by evidence, of each meter: what a reader of a suspect's page sees as bars."""
    return [{e.name: float(s * w) for e, s, w in zip(EVIDENCE, row, model.weights, strict=True) if s > 0} for row in strengths(values)]
