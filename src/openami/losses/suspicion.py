"""First suspicions: which transformers lose more than their peers, who hangs on another transformer, who is registered short.

Every result here is a reason to look, with its evidence, never a verdict. A thief who keeps the day's energy (h5, h6) or who
steals before any meter on a transformer without a meter cannot be seen; neither can a wrong mapping on a transformer without a meter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..readings import MISSING, Bool, Int32
from ..registry import ShardIndex

Float64 = npt.NDArray[np.float64]

MAD_TO_SIGMA = 1.4826
SPREAD_MIN = 0.005
EVIDENCE_MIN = 5.0
DIFFERENCES_MIN = 40
UNHEARD_MAX = 0.25
IDLE_EVIDENCE_MIN = 3.5
IDLE_EXCESS_WH_MIN = 50.0
HOURS_MIN = 24


def loss_outliers(loss_share: Float64) -> Float64:
    """Robust z of each node's loss share among its peers: (x - median) / (1.4826 x MAD); float64, shape of the input.

    The spread is taken as half a percentage point at least, because meters of accuracy class 1 cannot tell smaller differences.
    NaN where the share is NaN (unknown) or fewer than five peers are known. A transformer above about +3.5 loses unlike its
    peers; below -3.5, some of its consumers are fed from elsewhere (Iglewicz and Hoaglin's usual limit).
    """
    known = np.isfinite(loss_share)
    if known.sum() < 5:
        return np.full(loss_share.shape, np.nan)
    centre = np.median(loss_share[known])
    spread = max(MAD_TO_SIGMA * float(np.median(np.abs(loss_share[known] - centre))), SPREAD_MIN)
    return np.where(known, (loss_share - centre) / spread, np.nan)


@dataclass(frozen=True, slots=True)
class Move:
    """A proposal: `meter` (its index) hangs on transformer `to`, not on `now` as the registry says (positions in the shard index).

    explained: how much of the consumer's own variation both residuals lose by the move; 1 = all of it, as a wrong mapping would.
    evidence: the weaker of the two regressions' t values; residual_reduction: share of the two residuals' joint variance removed.
    """

    meter: int
    now: int
    to: int
    explained: float
    evidence: float
    residual_reduction: float


@dataclass(frozen=True, slots=True)
class Understated:
    """`meter`'s own ups and downs repeat in the loss of its transformer: for each Wh registered, `unregistered_per_wh` more flow.

    Evidence is a t value. Innocent explanations: wrong current-transformer ratio, a neighbour on the same pattern, or the same
    household's second connection without a meter.
    """

    meter: int
    transformer: int
    unregistered_per_wh: float
    evidence: float


def wrong_transformers(index: ShardIndex, measured: Int32) -> list[Move]:
    """Consumers whose move to another transformer lowers the variance of both transformers' residuals; the best evidence first.

    measured: int32 [slot, meter] import [Wh] over one day or several days in a row, MISSING where there is none or only an estimate:
    nobody is suspected on an estimate. Works on
    differences between neighbouring intervals, so that the daily shape, which all consumers share, does not speak.
    At most one proposal for a consumer. Work grows with consumers x transformers of the shard.
    """
    found: list[Move] = []
    steps = _Steps.of(index, measured)
    for now in range(len(index.transformers)):
        meters = np.flatnonzero(index.is_consumer & (index.transformer == now))
        if not meters.size or not steps.known[:, now].any():
            continue
        x = np.where(steps.known[:, now : now + 1], steps.meter[:, meters], 0.0)
        slope, error, power = _regress(x, steps.residual, steps.known, steps.known[:, now])
        away, away_error = -slope[:, now], error[:, now]
        evidence = np.minimum(_t(away, away_error)[:, None], _t(slope, error))
        both_fall = (away[:, None] > 0.5) & (slope > 0.5) & (evidence >= EVIDENCE_MIN)
        both_fall[:, now] = False
        gain = (2 * away - 1)[:, None] * power[:, now : now + 1] + (2 * slope - 1) * power
        joint = (steps.residual**2).sum(axis=0)
        for k in np.flatnonzero(both_fall.any(axis=1)):
            to = int(np.argmax(np.where(both_fall[k], gain[k], -np.inf)))
            found.append(
                Move(
                    meter=int(meters[k]),
                    now=now,
                    to=to,
                    explained=float(gain[k, to] / (power[k, now] + power[k, to])),
                    evidence=float(evidence[k, to]),
                    residual_reduction=float(gain[k, to] / (joint[now] + joint[to])),
                )
            )
    return sorted(found, key=lambda m: (-m.evidence, m.meter))


def understated(index: ShardIndex, measured: Int32, share_min: float = 0.15) -> list[Understated]:
    """Consumers whose transformer loses in step with what they register, at least `share_min` Wh for each Wh; best evidence first.

    measured as for `wrong_transformers`. A transformer of which any consumer was unheard for more than a quarter of the time is
    not judged: that home's use would look like somebody else's theft. What the strongest suspicion explains is taken out before the
    next one is looked for, so that one thief does not make neighbours look like more. Sees a meter that registers a constant part of the use
    (h1); one that stands still (h2) is for `idle_while_flowing`; one that registers a random part (h3) shows in `loss_outliers`
    only, if it is large enough.
    """
    found: list[Understated] = []
    steps = _Steps.of(index, measured)
    for now in range(len(index.transformers)):
        meters = np.flatnonzero(index.is_consumer & (index.transformer == now))
        own = steps.known[:, now]
        if not meters.size or not own.any() or (measured[:, meters] == MISSING).mean(axis=0).max() > UNHEARD_MAX:
            continue
        x = np.where(own[:, None], steps.meter[:, meters], 0.0)
        left = steps.residual[:, now : now + 1].copy()
        suspected: set[int] = set()
        while len(suspected) < meters.size:
            slope, error, _ = _regress(x, left, own[:, None], own)
            t = np.where(slope[:, 0] >= share_min, _t(slope, error)[:, 0], 0.0)
            t[list(suspected)] = 0.0
            k = int(np.argmax(t))
            if t[k] < EVIDENCE_MIN:
                break
            found.append(Understated(int(meters[k]), now, float(slope[k, 0]), float(t[k])))
            suspected.add(k)
            left -= slope[k, 0] * x[:, k : k + 1]
    return sorted(found, key=lambda u: (-u.evidence, u.meter))


@dataclass(frozen=True, slots=True)
class Idle:
    """`meter` registers exactly nothing for whole hours, and just then its transformer loses `excess_wh` more in an hour.

    idle_share: share of the judged hours. Evidence is a t value. Innocent explanations: a neighbour who begins when this home
    ends, a changeover to a generator or solar panels together with a loss elsewhere.
    """

    meter: int
    transformer: int
    excess_wh: float
    idle_share: float
    evidence: float


def idle_while_flowing(index: ShardIndex, measured: Int32, slots_per_hour: int) -> list[Idle]:
    """Consumers who register nothing in a tenth to nine tenths of the hours, while more is lost just then; best evidence first.

    measured as for `wrong_transformers`. The loss of an hour is explained by what the others use (straight and squared, as the wires
    do), by what this home registers, and by whether it stands still; the last one is reported. Judged are hours in which the
    transformer and all its consumers were heard, at least 24, and only where `understated` would judge. Sees a meter that is
    bypassed or switched off for part of the day (h2).
    """
    found: list[Idle] = []
    hours = measured.shape[0] // slots_per_hour
    for now in range(len(index.transformers)):
        own = np.flatnonzero(index.is_transformer & (index.transformer == now))
        meters = np.flatnonzero(index.is_consumer & (index.transformer == now))
        if not own.size or not meters.size or (measured[:, meters] == MISSING).mean(axis=0).max() > UNHEARD_MAX:
            continue
        cut = measured[: hours * slots_per_hour, np.concatenate([own, meters])].reshape(hours, slots_per_hour, -1)
        cut = cut[(cut != MISSING).all(axis=(1, 2))]
        if cut.shape[0] < HOURS_MIN:
            continue
        energy = cut.sum(axis=1, dtype=np.int64).astype(np.float64)
        homes, idle = energy[:, own.size :], (cut[:, :, own.size :] == 0).all(axis=1)
        loss = energy[:, : own.size].sum(axis=1) - homes.sum(axis=1)
        for k in np.flatnonzero((idle.mean(axis=0) >= 0.1) & (idle.mean(axis=0) <= 0.9)):
            others = homes.sum(axis=1) - homes[:, k]
            excess, error = _last_coefficient([np.ones_like(others), others, others**2, homes[:, k], idle[:, k].astype(np.float64)], loss)
            t = excess / max(error, 1e-9)
            if excess >= IDLE_EXCESS_WH_MIN and t >= IDLE_EVIDENCE_MIN:
                found.append(Idle(int(meters[k]), now, excess, float(idle[:, k].mean()), t))
    return sorted(found, key=lambda i: (-i.evidence, i.meter))


@dataclass(frozen=True, slots=True)
class _Steps:
    """Differences between neighbouring slots: of each meter [step, meter] (0 where unknown) and of each transformer's residual in - out
    [step, transformer] (0 where unknown), and where the residual's step is known."""

    meter: Float64
    residual: Float64
    known: Bool

    @staticmethod
    def of(index: ShardIndex, measured: Int32) -> _Steps:
        there = measured != MISSING
        values = np.where(there, measured, 0).astype(np.float64)
        step = np.where(there[1:] & there[:-1], values[1:] - values[:-1], 0.0)
        changed = there[1:] != there[:-1]
        nodes = len(index.transformers)
        residual = np.zeros((step.shape[0], nodes))
        known = np.zeros(residual.shape, np.bool_)
        for node in range(nodes):
            own = index.is_transformer & (index.transformer == node)
            below = index.is_consumer & (index.transformer == node)
            if own.any():
                known[:, node] = (there[1:, own] & there[:-1, own]).all(axis=1) & ~changed[:, below].any(axis=1)
                raw = step[:, own].sum(axis=1) - step[:, below].sum(axis=1)
                residual[:, node] = np.where(known[:, node], raw, 0.0)
        return _Steps(step, residual, known)


def _regress(x: Float64, residual: Float64, known: Bool, own: Bool) -> tuple[Float64, Float64, Float64]:
    """Least-squares slope of each residual on each consumer, its standard error, and the consumer's power (sum of x squared), all
    [consumer, node], over the steps that are known at the node and at the consumer's own transformer. NaN where too few."""
    mask = (known & own[:, None]).astype(np.float64)
    masked = residual * mask
    count = mask.sum(axis=0)[None, :]
    power = (x**2).T @ mask
    usable = (power > 0) & (count >= DIFFERENCES_MIN)
    safe = np.where(usable, power, 1.0)
    slope = np.where(usable, (x.T @ masked) / safe, np.nan)
    left = np.maximum((masked**2).sum(axis=0)[None, :] - np.where(usable, slope, 0.0) ** 2 * power, 0.0)
    error = np.where(usable, np.sqrt(left / np.maximum(count - 1, 1) / safe), np.nan)
    return slope, error, power


def _t(slope: Float64, error: Float64) -> Float64:
    """slope / error; 0 where it cannot be told, a large finite number where nothing is left to err."""
    t: Float64 = np.where(np.isfinite(slope), slope / np.maximum(np.nan_to_num(error), 1e-9), 0.0)
    return t


def _last_coefficient(columns: list[Float64], y: Float64) -> tuple[float, float]:
    """Least squares of y on the columns: the last column's coefficient and its standard error."""
    size = [max(float(np.abs(c).max()), 1e-12) for c in columns]
    design = np.stack([c / s for c, s in zip(columns, size, strict=True)], axis=1)
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ y
    left = y - design @ coefficients
    variance = float(left @ left) / max(len(y) - design.shape[1], 1)
    spread = float(np.sqrt(variance * (inverse @ inverse.T)[-1, -1]))
    return float(coefficients[-1]) / size[-1], spread / size[-1]
