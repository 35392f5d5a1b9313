"""The line: bounded, in rotation between clients, and every slot comes back."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from edgespec.serve.desk import Desk
from edgespec.serve.errors import ApiError


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    while not condition():
        await asyncio.sleep(0)


def test_clients_are_served_in_rotation_and_each_in_its_own_order() -> None:
    async def main() -> list[str]:
        desk, order = Desk(1, 10, 60), list[str]()
        gate = asyncio.Event()

        async def ask(client: str, name: str) -> None:
            async with desk.turn(client):
                order.append(name)
                await gate.wait()

        tasks = [asyncio.ensure_future(ask("greedy", "g0"))]
        await until(lambda: order)
        for client, name in (("greedy", "g1"), ("greedy", "g2"), ("greedy", "g3"), ("other", "o1"), ("third", "t1")):
            tasks.append(asyncio.ensure_future(ask(client, name)))
        await until(lambda: desk.waiting == 5)
        gate.set()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(main()) == ["g0", "g1", "o1", "t1", "g2", "g3"]


def test_one_more_than_may_wait_is_told_when_to_come_back() -> None:
    async def main() -> ApiError:
        desk = Desk(1, 2, 60)
        async with desk.turn("a"):
            waiting = [asyncio.ensure_future(desk.turn(name).__aenter__()) for name in "bc"]
            await until(lambda: desk.waiting == 2)
            with pytest.raises(ApiError) as refusal:
                await desk.turn("d").__aenter__()
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert desk.waiting == 0 and desk.running == 1
        assert desk.running == 0
        return refusal.value

    refusal = asyncio.run(main())
    assert refusal.status == 429 and int(refusal.headers["Retry-After"]) >= 1
    assert "2 requests wait already" in refusal.message


def test_a_wait_that_is_too_long_ends() -> None:
    async def main() -> None:
        desk = Desk(1, 2, 0.01)
        async with desk.turn("a"):
            with pytest.raises(ApiError, match=r"waited 0\.01 seconds") as refusal:
                await desk.turn("b").__aenter__()
            assert refusal.value.status == 429 and desk.waiting == 0

    asyncio.run(main())


def test_closing_refuses_those_in_line_and_lets_those_go_on_that_have_begun() -> None:
    async def main() -> None:
        desk = Desk(1, 2, 60)
        async with desk.turn("a"):
            waits = asyncio.ensure_future(desk.turn("b").__aenter__())
            await until(lambda: desk.waiting == 1)
            desk.close()
            for late in (waits, asyncio.ensure_future(desk.turn("c").__aenter__())):
                with pytest.raises(ApiError, match="shutting down"):
                    await late
            assert desk.running == 1
        assert desk.running == 0

    asyncio.run(main())


@settings(max_examples=40, deadline=None)
@given(slots=some.integers(1, 4), requests=some.integers(1, 40), seed=some.integers(0, 2**16))
def test_whoever_leaves_or_stays_no_slot_is_lost_and_none_is_given_twice(slots: int, requests: int, seed: int) -> None:
    async def main() -> None:
        draw, desk, most = random.Random(seed), Desk(slots, 100, 60), 0

        async def ask(client: str) -> None:
            nonlocal most
            async with desk.turn(client):
                most = max(most, desk.running)
                assert desk.running <= slots
                for _ in range(draw.randrange(4)):
                    await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(ask(str(draw.randrange(3)))) for _ in range(requests)]
        for task in tasks:
            if draw.random() < 0.3:
                for _ in range(draw.randrange(6)):
                    await asyncio.sleep(0)
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert desk.running == 0 and desk.waiting == 0
        async with desk.turn("last"):
            assert desk.running == 1

    asyncio.run(main())
