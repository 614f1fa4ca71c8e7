"""The studies' own parts: planted truth is what it says, pages are written whole, unknown studies are refused. The studies' findings stand in
docs/results; what they claim is held by the tests of each kernel."""

from __future__ import annotations

import numpy as np
import pytest

from openami.errors import InputError
from openami.studies import interval, pages
from openami.studies.theft import PER_DAY, SHAPES, _auc, _steal


def test_auc_by_hand():
    assert _auc(np.array([1.0, 2.0]), np.array([3.0])) == 1.0
    assert _auc(np.array([1.0, 3.0]), np.array([2.0])) == 0.5
    assert _auc(np.array([2.0]), np.array([2.0])) == 0.5


def test_each_shape_of_theft_is_as_defined():
    rng = np.random.default_rng(1)
    true = rng.gamma(2, 100, (14 * PER_DAY, 7))
    shape = np.arange(7, dtype=np.int8)
    told, stolen = _steal(true, shape, 14, np.random.default_rng(2))
    last, was = told[-PER_DAY:], true[-PER_DAY:]
    assert np.array_equal(told[:, 0], true[:, 0])
    assert np.ptp(last[:, 1] / was[:, 1]) < 1e-9
    assert 8 <= (last[:, 2] == 0).sum() <= 24
    assert ((last[:, 3] / was[:, 3] >= 0.1) & (last[:, 3] / was[:, 3] <= 0.8)).all()
    assert last[:, 4].max() <= 0.8 * true[:, 4].mean() * 1.2
    assert np.ptp(last[:, 5]) < 1e-9
    assert np.array_equal(last[:, 6], was[::-1, 6])
    assert last[:, 5:].sum() == pytest.approx(was[:, 5:].sum())
    assert (stolen[1:5] > 0).all()
    assert stolen[[0, 5, 6]] == pytest.approx([0, 0, 0], abs=1e-6)
    assert len(SHAPES) == 6


def test_a_page_says_how_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "INTERVAL_RUNS", 2)
    (path,) = pages.write(["interval"], tmp_path, 7, None)
    text = path.read_text()
    assert text.startswith("# Are the intervals")
    assert "`openami report losses interval --seed 7`" in text
    assert text.count("| transformer |") == 3
    assert all(f"| {setting.name} |" in text for setting in interval.OTHERS)


def test_what_is_not_known_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="'gossip'; known are interval"):
        list(pages.write(["gossip"], tmp_path, 1, None))
    with pytest.raises(InputError, match="--data"):
        list(pages.write(["forecast"], tmp_path, 1, None))
    with pytest.raises(InputError, match="give the folder"):
        list(pages.write(["forecast"], tmp_path, 1, tmp_path))
