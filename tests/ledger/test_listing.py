"""Facts about pages: every row once, the newest first, while others arrive; no key is trusted."""

from collections.abc import Callable
from typing import Any

import pytest
from small_model import ASCENT, Working
from sqlalchemy import event

from expunge.errors import ExpungeError, UnknownError
from expunge.ledger.actions import Action, Outcome, put_down
from expunge.ledger.listing import LARGEST, actions_page, requests_page, versions_page

Make = Callable[..., Working]


def walked(page: Callable[..., Any], **given: Any) -> list[Any]:
    """All rows, page by page."""
    found, after = [], None
    while True:
        one = page(after=after, **given)
        assert 0 < len(one.rows) <= given["limit"]
        found += one.rows
        if one.next is None:
            return found
        after = one.next


def test_every_request_stands_on_one_page_while_others_arrive(
    working: Make, empty_url: str
) -> None:
    made = working(url=empty_url)
    ids = [made.ask("subject", f"writer {i}", **ASCENT) for i in range(7)]

    def page(after: Any, limit: int) -> Any:
        found = requests_page(made.ledger, made.model, after=after, limit=limit)
        made.ask("subject", "writer 30", **ASCENT)  # newer than all: on no later page
        return found

    rows = walked(page, limit=3)
    assert [row.request for row in rows] == ids[::-1]
    assert [row.number for row in rows] == [7, 6, 5, 4, 3, 2, 1]
    assert (rows[0].kind, rows[0].state, rows[0].method) == (
        "subject",
        "received",
        ASCENT["method"],
    )
    assert rows[0].deadline > rows[0].created
    assert "writer" not in str(rows)


def test_requests_are_listed_by_state_and_by_who_asked(working: Make) -> None:
    made = working()
    first, second = (made.ask("subject", f"writer {i}", **ASCENT) for i in range(2))
    nobody = made.ask("subject", "no such person")
    for account, request in (("one", first), ("two", second), ("one", nobody)):
        put_down(
            made.ledger, Action(account, "requester", "submit", Outcome.DONE, "digits", request)
        )
    put_down(made.ledger, Action("one", "requester", "submit", Outcome.FAILED, "digits", second))
    put_down(made.ledger, Action("one", "requester", "see request", Outcome.DONE, "digits", second))
    made.work()

    def ids(**given: Any) -> list[str]:
        return [r.request for r in requests_page(made.ledger, made.model, **given).rows]

    assert ids(state="published") == [second, first]
    assert ids(state="answered") == [nobody]
    assert ids(asked_by="one") == [nobody, first]
    assert ids(asked_by="one", state="published", limit=1) == [first]
    assert ids(asked_by="nobody") == []
    with pytest.raises(ExpungeError, match="state 'lost'"):
        ids(state="lost")
    with pytest.raises(UnknownError, match="no model 'emoji'"):
        requests_page(made.ledger, "emoji")

    by_time = walked(lambda **given: actions_page(made.ledger, **given), limit=2)
    assert [a.target for a in by_time] == [second, second, nobody, second, first]
    assert [a.actor for a in actions_page(made.ledger, actor="two").rows] == ["two"]
    assert actions_page(made.ledger, models=["emoji"]).rows == ()


def test_versions_have_their_figures(working: Make) -> None:
    made = working()
    for i in range(2):
        made.served("subject", f"writer {i}", **ASCENT)
    rows = walked(lambda **given: versions_page(made.ledger, made.model, **given), limit=2)
    assert [(row.version, row.cause) for row in rows] == [
        (2, "request"),
        (1, "request"),
        (0, "registration"),
    ]
    assert rows[0].weights == made.version()["weights_digest"]
    assert (rows[2].kept, rows[2].deletion_state) == (1.0, None)
    assert rows[0].kept == pytest.approx(rows[0].retained / rows[2].retained)


@pytest.mark.parametrize(
    "after", [["7"], [7, 7], [], [True], [7.0], [None], [2**63], ["x' OR 1=1 --"]]
)
def test_a_key_that_no_page_gave_is_refused(working: Make, after: Any) -> None:
    made = working()
    with pytest.raises(ExpungeError, match="none that a page of this list gave"):
        requests_page(made.ledger, made.model, after=after)
    for limit in (0, LARGEST + 1):
        with pytest.raises(ExpungeError, match=f"limit {limit}"):
            requests_page(made.ledger, made.model, limit=limit)


def test_a_page_is_found_by_an_index_and_not_sorted(working: Make) -> None:
    made = working()
    asked: list[tuple[str, Any]] = []

    @event.listens_for(made.ledger.database.engine, "before_cursor_execute")
    def noted(_c: object, _u: object, statement: str, values: Any, *_: object) -> None:
        if "LIMIT" in statement:
            asked.append((statement, values))

    requests_page(made.ledger, made.model, after=[5])
    versions_page(made.ledger, made.model, after=[5])
    actions_page(made.ledger, after=["2026", "a1"])
    assert len(asked) == 3
    for statement, values in tuple(asked):
        with made.ledger.database.reading() as connection:
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            steps = [str(row[-1]) for row in found]
        assert all("USING INDEX" in step or "PRIMARY KEY" in step for step in steps), steps
        assert not any("TEMP B-TREE" in step for step in steps)
