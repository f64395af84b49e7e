"""What a store refuses waits; a dead one costs little; one bad file blocks nothing."""

import pytest

from ddim.errors import DdimError
from ddim.tracking import outbox
from ddim.tracking.outbox import Outbox


class Store:
    """Takes what it is sent, in its order, while it is `up`."""

    def __init__(self) -> None:
        self.up, self.holds, self.attempts, self.connections = True, [], 0, 0

    def take(self, what: object) -> None:
        self.attempts += 1
        if not self.up:
            raise OSError("out of reach")
        self.holds.append(what)

    def connect(self) -> None:
        self.connections += 1
        if not self.up:
            raise OSError("out of reach")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(outbox.time, "monotonic", lambda: now[0])
    return now


def send(box: Outbox, store: Store, *what: object) -> None:
    for each in what:
        box.send(lambda each=each: store.take(each))


def test_what_was_missed_is_sent_in_order_when_the_store_is_back(store, clock, capfd):
    box = Outbox(store.connect)
    send(box, store, 1)
    store.up = False
    send(box, store, 2, 3)
    store.up = True
    send(box, store, 4)
    assert store.holds == [1]  # the pause is not over
    clock[0] += outbox.LEAST_PAUSE
    send(box, store, 5)
    assert store.holds == [1, 2, 3, 4, 5]
    assert store.connections == 2
    gone, back = capfd.readouterr().err.splitlines()
    assert gone.startswith("warning: going on without MLflow")
    assert back.endswith("is back and has what it missed")


def test_a_dead_store_is_asked_seldom_and_told_of_once(store, clock, capfd):
    """A training of 1000 epochs, of a second each, and an attempt takes three."""
    box = Outbox(store.connect)

    def wait_in_vain() -> None:
        store.connections += 1
        clock[0] += 3
        raise OSError("no answer")

    box._connect = wait_in_vain
    for _ in range(1000):
        clock[0] += 1
        send(box, store, "epoch")
    assert store.connections * 3 < 1000 / 19
    assert store.attempts == 0
    assert capfd.readouterr().err.count("\n") == 1


def test_an_action_that_always_fails_does_not_hold_up_the_others(store, clock):
    box = Outbox(store.connect)

    def open_a_missing_file() -> None:
        raise FileNotFoundError

    box.send(open_a_missing_file)
    send(box, store, 1, 2)
    box.send_all()
    assert store.holds == [1, 2]


def test_if_strict_a_failure_is_an_error(store, clock):
    store.up = False
    with pytest.raises(DdimError, match="out of reach"):
        send(Outbox(store.connect, strict=True), store, 1)
