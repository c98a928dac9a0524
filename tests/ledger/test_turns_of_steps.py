"""Steps of several models take turns in one process, whose random stream they share."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from small_model import ASCENT, Working

from expunge.ledger import answering, queueing
from expunge.ledger.runs import Conductor

Make = Callable[..., Working]


def test_two_models_compute_one_after_another(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [working(), working()]
    inside, most = [0], [0]
    unlearned = answering.unlearn

    def slow(*arguments: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)  # long enough for the other to come in, if it may
        try:
            return unlearned(*arguments)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(answering, "unlearn", slow)
    ended: list[str] = []

    def conduct(made: Working) -> None:
        made.ask("label", "8", **ASCENT)
        [run] = queueing.due(made.ledger)
        ended.append(Conductor(made.ledger, made.step).conduct(run["id"]))

    threads = [threading.Thread(target=conduct, args=(made,)) for made in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["published", "published"]
    assert most == [1]
    assert both[0].weights() == both[1].weights()
