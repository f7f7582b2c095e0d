"""Answers that never arrive, and a service that is restarted part by part under load."""

import threading
import time
from collections.abc import Callable

import pytest

from client import Client
from tests import scale
from tests.chaos.oracle import Audit
from tests.chaos.proxy import proxied
from tests.chaos.service import Customer, Service
from tests.conftest import free_port


@pytest.mark.parametrize("count", scale.CUT_REPLIES)
def test_answers_that_are_cut_off_make_no_second_job(
    service: Service, customer: Customer, settle: Callable[[], Audit], count: int
) -> None:
    service.start_workers(2)
    with proxied([service.port], cut_share=0.4) as proxy:
        customer.url = proxy.url
        customer.post(count, at_once=8)
    print(f"{proxy.cut} answers cut off while {count} jobs were posted")
    found = settle()
    found.require_nothing_wrong()
    assert found.states == {"succeeded": count}
    assert proxy.cut > count // 4


@pytest.mark.parametrize("rounds", scale.ROLLING_RESTARTS)
def test_a_rolling_restart_fails_no_request_that_the_client_retries(
    service: Service, customer: Customer, settle: Callable[[], Audit], rounds: int
) -> None:
    second = free_port()
    apis = [f"api-{service.port}", service.start_api(port=second)]
    workers = service.start_workers(2)
    over, asked, errors = threading.Event(), list[float](), list[BaseException]()

    def use(url: str) -> None:
        try:
            with Client(url, customer.key) as client:
                while not over.is_set():
                    list(client.jobs(limit=1))
                    asked.append(time.monotonic())
                    over.wait(0.02)
        except BaseException as error:
            errors.append(error)

    def post() -> None:
        try:
            while not over.is_set():
                customer.post(1, first_seed=len(customer.accepted))
                over.wait(0.3)
        except BaseException as error:
            errors.append(error)

    with proxied([service.port, second]) as proxy:
        customer.url = proxy.url
        users = [threading.Thread(target=use, args=(proxy.url,)), threading.Thread(target=post)]
        for user in users:
            user.start()
        for _ in range(rounds):
            for name in apis:
                service.stop(name)
                service.start_api(port=int(name.removeprefix("api-")))
            for number, name in enumerate(workers):
                service.stop(name)
                workers[number] = service.start_workers(1)[0]
        over.set()
        for user in users:
            user.join()
    service.stop(f"api-{second}")
    found = settle()
    print(f"{rounds} restarts of 2 APIs and 2 workers: {len(asked)} reads, {len(customer.accepted)} posts, {errors}")
    assert errors == []
    found.require_nothing_wrong()
    assert set(found.states) == {"succeeded"}
