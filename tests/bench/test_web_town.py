"""The town of `bench web` that may stay."""

import pytest

from openami.bench import run_bench
from openami.bench.web_town import is_town
from openami.errors import InputError


def test_a_town_is_kept_only_where_nothing_else_lies(tmp_path):
    assert not is_town(tmp_path / "new", 100)
    (tmp_path / "bench.json").write_text('{"meters": 100, "days": 1000}')
    assert is_town(tmp_path, 100)
    with pytest.raises(InputError, match="holds no town of 200 meters"):
        is_town(tmp_path, 200)
    with pytest.raises(InputError, match="nothing that could be kept"):
        next(run_bench("vee", 100, tmp_path))
