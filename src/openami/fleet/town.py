"""A constructed town around real consumption: feeders, transformers, phases, accounts, keys, and what truly flows in each wire.

The households' consumption is real; everything else here is constructed from a seed, and says so: which transformer a house hangs on, losses
in the wires, voltages, power factors, accounts, recharges. Energies are int32 Wh a quarter hour, [meter, slot] over all days.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from ..cosem.ciphering import Keys
from ..errors import InputError
from ..money import TransferRow
from ..readings import CURRENT_A, IMPORT_VAH, IMPORT_WH, VOLTAGE_V, Calendar, Int32, Int64
from ..registry import Account, Feeder, Meter, NodeKind, PaymentMode, Transformer, UsagePoint
from .households import DAYS, SLOTS_PER_DAY, load_households, true_consumption

CONSUMERS_PER_TRANSFORMER = 25
TRANSFORMERS_PER_FEEDER = 8
RATINGS_KVA = (63, 100, 160, 200, 250, 315, 500, 630, 1000)
CURRENT_A_MAX = 600.0
"""Where a single-phase meter's current register ends (a long-unsigned in 0.01 A holds 655.35)."""
HEADEND_TITLE = b"OAM\x00\x00PUSH"[:8]

NO_LOAD_SHARE = 0.002
LOAD_LOSS_SHARE = 0.012
LOW_VOLTAGE_LOSS_SHARE = 0.03
FEEDER_LOSS_SHARE = 0.008
"""Losses as a share of the rating (no-load) or of the energy at rated load (the others, growing with its square). Constructed."""


@dataclass(frozen=True, slots=True)
class MeterSecrets:
    """What a simulated meter and the head-end share: its keys, and the invocation counter that it starts from."""

    keys: Keys
    counter_start: int


@dataclass(slots=True)
class Town:
    """The registry as the utility believes it (`points` may hold a wrong transformer), and the truth beside it.

    true_transformer: int32 [meter], where a consumer really hangs; true_wh, metered_wh: int32 [meter, slot over all days], what flowed and
    what the meter counts; channels: name -> int32 [meter, slot] as the meter would push it. Meters stand in registry order:
    all consumers, then transformers, then feeders; `Meter.shard` and `Meter.index` place them in the shards' arrays.
    """

    seed: int
    calendar: Calendar
    first_day: date
    days: int
    feeders: list[Feeder]
    transformers: list[Transformer]
    meters: list[Meter]
    points: list[UsagePoint]
    accounts: list[Account]
    recharges: list[TransferRow]
    secrets: dict[str, MeterSecrets]
    households: Int64
    consumers: int
    true_transformer: Int32
    true_wh: Int32
    metered_wh: Int32
    channels: dict[str, Int32] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        return self.days * SLOTS_PER_DAY


def check_size(consumers: int, days: int) -> None:
    """InputError where the shipped households cannot fill such a town."""
    if not 1 <= days <= DAYS:
        raise InputError(f"--days {days}: the shipped households have {DAYS} days; give 1 to {DAYS}")
    if not 20 <= consumers <= 2_800:
        raise InputError(f"--meters {consumers}: the demo town takes 20 to 2,800 (400 real households, each at most 7 times, weeks apart)")


def build_town(seed: int, consumers: int, first_day: date, days: int, tariffs: tuple[str, ...]) -> Town:
    """The town of `seed`. More consumers than the 400 shipped households: households come again, in other weeks (whole weeks apart)."""
    check_size(consumers, days)
    rng = np.random.default_rng(seed)
    data = load_households()
    pick = rng.permutation(len(data.ids))
    household = np.resize(pick, consumers)
    week = np.arange(consumers) // len(pick)
    day_of = (np.arange(days)[None, :] + 7 * week[:, None]) % DAYS
    metered = data.metered_wh[household[:, None], day_of].reshape(consumers, days * SLOTS_PER_DAY)
    true = true_consumption(metered)

    transformer_count = -(-consumers // CONSUMERS_PER_TRANSFORMER)
    feeder_count = max(1, min(2, transformer_count)) if transformer_count <= 16 else -(-transformer_count // TRANSFORMERS_PER_FEEDER)
    transformer_of = np.arange(consumers) % transformer_count
    feeder_of = (np.arange(transformer_count) * feeder_count // transformer_count).astype(np.int32)
    out = _out_of(true, transformer_of, transformer_count)
    loads = _flows(out, _rating_kva(out), feeder_of, feeder_count)
    feeders = [Feeder(f"F{k + 1}", "SS-1 33/11 kV") for k in range(feeder_count)]
    transformers = [Transformer(f"DT-{k + 1:02d}", f"F{feeder_of[k] + 1}", int(loads.rating_kva[k])) for k in range(transformer_count)]
    meters, points = _registry(rng, true, transformer_of, feeder_of, feeders, transformers, first_day)
    calendar = Calendar("Asia/Kolkata", 15)
    town = Town(
        seed=seed,
        calendar=calendar,
        first_day=first_day,
        days=days,
        feeders=feeders,
        transformers=transformers,
        meters=meters,
        points=points,
        accounts=[],
        recharges=[],
        secrets={m.serial: _secrets(rng) for m in meters},
        households=data.ids[household],
        consumers=consumers,
        true_transformer=transformer_of.astype(np.int32),
        true_wh=np.concatenate([true, loads.transformer_wh, loads.feeder_wh]),
        metered_wh=np.concatenate([metered, loads.transformer_wh, loads.feeder_wh]),
    )
    town.accounts, town.recharges = _accounts(rng, town, tariffs)
    return town


@dataclass(frozen=True, slots=True)
class _Flows:
    rating_kva: Int64
    transformer_wh: Int32
    feeder_wh: Int32


def flow_again(town: Town, alive: np.ndarray) -> None:
    """Let the meters of transformers and feeders count what flows now that consumers' true energy was changed. alive: the share of each slot in
    which a transformer has supply, float64 [transformer, slot]."""
    feeder_at = {f.name: k for k, f in enumerate(town.feeders)}
    feeder_of = np.array([feeder_at[t.feeder] for t in town.transformers], np.int32)
    rating = np.array([t.rating_kva for t in town.transformers], np.int64)
    out = _out_of(town.true_wh[: town.consumers], town.true_transformer, len(town.transformers))
    flows = _flows(out, rating, feeder_of, len(town.feeders), alive)
    for wh in (town.true_wh, town.metered_wh):
        wh[town.consumers :] = np.concatenate([flows.transformer_wh, flows.feeder_wh])


def _out_of(true: Int32, transformer_of: np.ndarray, transformers: int) -> np.ndarray:
    """What each transformer's consumers take, float64 [transformer, slot]."""
    out = np.zeros((transformers, true.shape[1]), np.float64)
    np.add.at(out, transformer_of, true)
    return out


def _rating_kva(out: np.ndarray) -> Int64:
    """The smallest rating that carries each transformer's peak."""
    peak_kva = out.max(axis=1) * 4 / 1000 / 0.9
    return np.array([next((r for r in RATINGS_KVA if r >= p), RATINGS_KVA[-1]) for p in peak_kva], np.int64)


def _flows(out: np.ndarray, rating: Int64, feeder_of: Int32, feeders: int, alive: np.ndarray | float = 1.0) -> _Flows:
    """What each transformer's and feeder's meter sees: its consumers' true energy plus what the wires, and the iron while it is alive, take."""
    rated_wh = (rating * 250.0)[:, None]
    through = out + LOW_VOLTAGE_LOSS_SHARE * out**2 / rated_wh
    upstream = through + NO_LOAD_SHARE * rated_wh * alive + LOAD_LOSS_SHARE * through**2 / rated_wh
    head = np.zeros((feeders, out.shape[1]), np.float64)
    np.add.at(head, feeder_of, upstream)
    rated_head = np.bincount(feeder_of, weights=rated_wh[:, 0], minlength=feeders)[:, None]
    head += FEEDER_LOSS_SHARE * head**2 / rated_head
    return _Flows(rating, np.rint(through).astype(np.int32), np.rint(head).astype(np.int32))


def _registry(
    rng: np.random.Generator,
    true: Int32,
    transformer_of: Int64,
    feeder_of: Int32,
    feeders: list[Feeder],
    transformers: list[Transformer],
    since: date,
) -> tuple[list[Meter], list[UsagePoint]]:
    """Meters with their place in the shards (a shard a feeder) and the usage points they hang at."""
    makers = rng.random(len(true)) < 0.5
    phases = rng.choice(list("RYB"), len(true))
    load_w = np.maximum(1000, 1000 * np.ceil(1.1 * true.max(axis=1) * 4 / 1000)).astype(int)
    meters: list[Meter] = []
    points: list[UsagePoint] = []
    index = [0] * len(feeders)

    def add(maker: str, model: str, security: int, phase: str, kind: NodeKind, feeder: int, transformer: str | None, load: int) -> None:
        number = len(meters) + 1
        serial = f"{maker}{number:07d}"
        title = maker.encode() + (0x1000000000 + 7919 * number).to_bytes(5, "big")
        meters.append(Meter(serial, title, maker, model, feeder, index[feeder], security, len(phase)))
        name = {NodeKind.CONSUMER: f"UP-{number:05d}", NodeKind.TRANSFORMER: f"{transformer}", NodeKind.FEEDER: feeders[feeder].name}[kind]
        points.append(UsagePoint(name, kind, serial, feeders[feeder].name, transformer, phase, load, since))
        index[feeder] += 1

    for k in range(len(true)):
        maker, model, security = ("XMA", "XMA-1P", 0x20) if makers[k] else ("XMB", "XMB-1P", 0x30)
        transformer = int(transformer_of[k])
        add(
            maker,
            model,
            security,
            str(phases[k]),
            NodeKind.CONSUMER,
            int(feeder_of[transformer]),
            transformers[transformer].name,
            int(load_w[k]),
        )
    for k, t in enumerate(transformers):
        add("XMB", "XMB-LTCT", 0x30, "RYB", NodeKind.TRANSFORMER, int(feeder_of[k]), t.name, t.rating_kva * 1000)
    for k in range(len(feeders)):
        add("XMB", "XMB-LTCT", 0x30, "RYB", NodeKind.FEEDER, k, None, 0)
    return meters, points


def _secrets(rng: np.random.Generator) -> MeterSecrets:
    return MeterSecrets(Keys(rng.bytes(16), rng.bytes(16)), int(rng.integers(1, 50_000)))


def _accounts(rng: np.random.Generator, town: Town, tariffs: tuple[str, ...]) -> tuple[list[Account], list[TransferRow]]:
    """An account a consumer. Balances are a few days to a few weeks of use; some are low, some already negative; a few recharge."""
    accounts, recharges = [], []
    paise_a_day = town.true_wh[: town.consumers].sum(axis=1) / town.days * 0.55
    days_left = rng.choice([-1.5, 0.6, 1.5, 3.0, 8.0, 20.0], town.consumers, p=[0.05, 0.10, 0.15, 0.20, 0.25, 0.25])
    for k in range(town.consumers):
        number = f"{2_000_000_000 + k + 1}"
        opening = round(float(paise_a_day[k] * days_left[k] / 100)) * 100 + int(rng.integers(0, 100))
        accounts.append(
            Account(
                number=number,
                usage_point=town.points[k].name,
                consumer_name=f"Consumer {k + 1:04d}",
                language="hi" if rng.random() < 0.75 else "en",
                tariff=tariffs[0] if rng.random() < 0.7 else tariffs[-1],
                payment_mode=PaymentMode.PREPAID,
                since=town.first_day,
                mode_since=town.first_day - timedelta(days=int(rng.integers(0, 400))),
                opening_paise=opening,
            )
        )
        for d in range(town.days):
            if rng.random() < 0.06:
                day = town.first_day + timedelta(days=d)
                amount = int(rng.choice([100, 200, 500, 1000, 2000])) * 100
                recharges.append(TransferRow(f"R-{number}-{day.isoformat()}", number, day, "recharge", amount))
    return accounts, recharges


def measure(town: Town) -> None:
    """Fill `town.channels` from `town.metered_wh`: apparent energy, voltage and current as each meter would capture them.

    Power factors and voltages are constructed: a transformer's phases wander together, and sag with its load.
    """
    rng = np.random.default_rng([town.seed, 2])
    meters, slots = town.metered_wh.shape
    factor = rng.uniform(0.88, 0.99, (meters, 1))
    wh = town.metered_wh.astype(np.float64)
    vah = np.rint(np.abs(wh) / factor)
    wander = np.cumsum(rng.normal(0, 0.25, (len(town.transformers) * 3, slots)), axis=1)
    wander -= np.linspace(0, 1, slots) * wander[:, -1:]
    loading = town.true_wh[town.consumers : town.consumers + len(town.transformers)] / np.array(
        [[t.rating_kva * 250.0] for t in town.transformers]
    )
    phase = np.array(["RYB".index(p.phase) if len(p.phase) == 1 else 0 for p in town.points])
    transformer = np.full(meters, 0)
    transformer[: town.consumers] = town.true_transformer
    transformer[town.consumers : town.consumers + len(town.transformers)] = np.arange(len(town.transformers))
    volt = (
        234.0
        + wander[3 * transformer + phase]
        - 9.0 * loading[transformer]
        - town.true_wh / 4000.0 * (np.arange(meters) < town.consumers)[:, None]
    )
    volt = np.clip(volt + rng.normal(0, 0.15, volt.shape), 190.0, 260.0)
    town.channels = {
        IMPORT_WH.name: town.metered_wh,
        IMPORT_VAH.name: vah.astype(np.int32),
        VOLTAGE_V.name: (10 * np.rint(10 * volt)).astype(np.int32),
        CURRENT_A.name: (10 * np.rint(100 * np.minimum(vah * 4 / volt, CURRENT_A_MAX))).astype(np.int32),
    }
