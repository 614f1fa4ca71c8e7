"""The town of `bench web` that may stay."""

from datetime import timedelta

import pytest

from api.houses import build
from openami.bench import run_bench
from openami.bench.web_town import begin_running_day, is_town
from openami.day.running import open_day
from openami.errors import InputError


def test_a_town_is_kept_only_where_nothing_else_lies(tmp_path):
    assert not is_town(tmp_path / "new", 100)
    (tmp_path / "bench.json").write_text('{"meters": 100, "days": 1000}')
    assert is_town(tmp_path, 100)
    with pytest.raises(InputError, match="holds no town of 200 meters"):
        is_town(tmp_path, 200)
    with pytest.raises(InputError, match="nothing that could be kept"):
        next(run_bench("vee", 100, tmp_path))


def test_a_day_runs_behind_the_last_closed_one_once(tmp_path):
    house = build(tmp_path / "town")
    last = house.site.lake.days("closes")[-1]
    now_s = house.site.calendar.day_start(last + timedelta(days=2))
    assert open_day(house.site, now_s) is None
    begin_running_day(house.folder)
    assert open_day(house.site, now_s) == last + timedelta(days=1)
    held = house.site.lake.version("raw")
    begin_running_day(house.folder)
    assert house.site.lake.version("raw") == held
