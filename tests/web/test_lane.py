"""Quick pages go one after another; what one of them raises reaches whoever asked, and the lane goes on."""

import asyncio
import threading

import pytest

from openami.errors import DataError
from openami.web.lane import Lane


class Page:
    """Says how many of it were being made at once. abreast: how many are waited for before any of them ends."""

    def __init__(self, abreast: int) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0
        self.together = threading.Barrier(abreast)

    def make(self) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.together.wait(60)
        with self.lock:
            self.now -= 1
        return self.most


@pytest.mark.parametrize("abreast", [1, 3])
def test_as_many_are_made_at_once_as_the_lane_is_wide_and_no_more(abreast):
    async def crowd() -> list[int]:
        lane = Lane(abreast)
        return await asyncio.gather(*(lane.go(page.make) for _ in range(6 * abreast)))

    page = Page(abreast)
    assert len(asyncio.run(crowd())) == 6 * abreast
    assert page.most == abreast


def test_one_that_fails_is_told_and_the_next_one_goes():
    def fails() -> int:
        raise DataError("a file is damaged")

    async def one_after_another() -> int:
        lane = Lane()
        with pytest.raises(DataError, match="damaged"):
            await lane.go(fails)
        return await lane.go(lambda: 7)

    assert asyncio.run(one_after_another()) == 7
