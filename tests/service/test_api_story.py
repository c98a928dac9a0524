"""Facts about the API: the whole life of a request over HTTP, and every part of it that is told."""

import json

from api_world import MODEL, World, asked, problem

from expunge.ledger.certificate import verified

pytest_plugins = ["api_fixtures"]


def test_a_request_is_answered_revoked_asked_again_and_sealed(world: World) -> None:
    with world.asking() as client:
        operator, auditor = client("operator"), client("auditor")
        where = f"/v1/models/{MODEL}/requests"
        taken = operator.post(where, json=asked("writer 3", metadata={"ticket": 1}))
        assert taken.status_code == 201
        request = taken.json()["request"]
        assert taken.headers["location"] == f"/v1/requests/{request}"
        assert operator.get(f"/v1/requests/{request}").json()["state"] == "received"
        world.working.work()
        shown = auditor.get(f"/v1/requests/{request}").json()
        assert (shown["state"], shown["versions"]) == ("published", ["digits@1 (request)"])
        assert shown["figures"]["rows"] == shown["rows"] > 0
        assert "writer" not in json.dumps(shown)
        words = auditor.get(f"/v1/requests/{request}/scope").json()
        assert words["scope"]["values"] == ["writer 3"]
        assert words["scope"]["metadata"] == {"ticket": 1}

        certificate = auditor.get(f"/v1/models/{MODEL}/versions/1/certificate")
        key = client("").get("/v1/signing-key").json()
        stated = verified(certificate.content, key["pem"].encode())
        assert stated["predicate"]["version"] == 1
        detail = auditor.get(f"/v1/models/{MODEL}/versions/1").json()
        assert detail["statement"] == stated["predicate"]

        revoked = operator.post(f"/v1/requests/{request}/revocation", json={"reason": "withdrawn"})
        assert revoked.status_code == 202
        assert [r["kind"] for r in operator.get("/v1/runs").json()["runs"]] == ["revoke"]
        world.working.work()
        assert auditor.get(f"/v1/requests/{request}").json()["state"] == "withdrawn"
        versions = auditor.get(f"/v1/models/{MODEL}/versions").json()["items"]
        assert [v["version"] for v in versions] == [2, 1, 0]
        assert versions[0]["weights"] == versions[2]["weights"] != versions[1]["weights"]

        again = operator.post(where, json=asked("writer 3")).json()["request"]
        world.working.work()
        history = auditor.get(f"/v1/models/{MODEL}/history").json()
        assert [v["cause"] for v in history["versions"]][-1] == "request"
        plan = operator.get(f"/v1/models/{MODEL}/seal-plan").json()
        assert plan["requests"] == [again]
        assert operator.post(f"/v1/models/{MODEL}/seals", json={}).status_code == 202
        world.working.work()
        assert auditor.get(f"/v1/requests/{again}").json()["sealed"] is True
        gone = auditor.get(f"/v1/requests/{again}/scope").json()
        assert "destroyed" in gone["scope"]
        conflict = operator.post(f"/v1/requests/{again}/revocation", json={"reason": "late"})
        assert "sealed" in problem(conflict, 409)["detail"]
        every = client("admin").post("/v1/verification", json={}).json()
        assert (every["holds"], every["faults"]) == (True, [])


def test_answers_show_the_forgotten_and_every_reading_is_put_down(lived: World) -> None:
    with lived.asking() as client:
        [request] = client("auditor").get(f"/v1/models/{MODEL}/requests").json()["items"]
        where = f"/v1/requests/{request['request']}"
        before = len(lived.working.rows("actions", action="see answers"))
        shown = client("auditor").get(f"{where}/answers", params={"limit": 3}).json()
        assert (shown["before"], shown["after"], len(shown["rows"])) == (0, 1, 3)
        assert {"text", "probability", "right"} == set(shown["rows"][0]["before"])
        actions = lived.working.rows("actions", action="see answers")
        assert [a["target"] for a in actions[before:]] == [request["request"]]
        assert {a["actor"] for a in actions} == {lived.account("auditor")}
        problem(client("requester").get(f"{where}/answers"), 403)


def test_two_versions_are_compared_and_weights_are_recognised(lived: World) -> None:
    from expunge.changes.weights import stored_tensors
    from expunge.ledger.serving import built
    from expunge.storage import write_tensors

    file = lived.folder.parent / "weights.safetensors"
    write_tensors(file, stored_tensors(built(lived.ledger, MODEL, 1, guards=False).model))
    with lived.asking() as client:
        auditor = client("auditor")
        query = {"from": 0, "to": 1}
        found = auditor.get(f"/v1/models/{MODEL}/difference", params=query).json()
        assert found["weights"]["distance"] > 0
        sent = auditor.post(
            f"/v1/models/{MODEL}/identification",
            content=file.read_bytes(),
            headers={"Content-Type": "application/octet-stream"},
        )
        assert (sent.json()["version"], sent.json()["current"]) == (1, True)


def test_a_preview_counts_and_advice_names_the_models_own_method(world: World) -> None:
    with world.asking() as client:
        requester = client("requester")
        found = requester.post(f"/v1/models/{MODEL}/preview", json=asked("writer 3", "nobody"))
        assert found.json()["unknown"] == ["nobody"]
        assert found.json()["rows"] == found.json()["removed"] > 0
        methods = requester.post(f"/v1/models/{MODEL}/advice", json=asked("writer 3")).json()
        assert [m["method"] for m in methods["methods"] if m["advised"]] == ["gradient-difference"]
        columns = requester.get(f"/v1/models/{MODEL}/columns").json()["columns"]
        assert {"name": "subject", "values": 40} in columns
        assert not world.working.rows("requests")


def test_a_model_tells_its_policy_its_requests_and_when_it_was_measured(lived: World) -> None:
    with lived.asking() as client:
        found = client("requester").get(f"/v1/models/{MODEL}").json()
        assert found["requests"] == {"published": 1}
        assert found["policy"]["duplicates"] == "ignore"
        assert found["published"] == lived.working.version()["created_at"]
        assert [m["name"] for m in client("requester").get("/v1/models").json()["models"]] == [
            MODEL
        ]


def test_what_waits_is_cancelled_and_what_was_refused_is_tried_again(world: World) -> None:
    with world.asking() as client:
        operator, where = client("operator"), f"/v1/models/{MODEL}/requests"
        request = operator.post(where, json=asked("writer 1")).json()["request"]
        problem(operator.post(f"/v1/requests/{request}/retry"), 409)
        cancelled = operator.post(
            f"/v1/requests/{request}/cancellation", json={"reason": "asked in error"}
        )
        assert cancelled.json() == {"cancelled": request, "what": "request 1"}
        problem(operator.post(f"/v1/requests/{request}/cancellation", json={"reason": "x"}), 409)

        published = operator.post(where, json=asked("writer 2")).json()["request"]
        world.working.work()
        run = operator.post(f"/v1/requests/{published}/revocation", json={"reason": "r"}).json()
        gone = operator.post(f"/v1/runs/{run['run']}/cancellation", json={"reason": "stays"})
        assert gone.json()["what"] == "the revocation"
        assert operator.get("/v1/runs").json() == {"runs": []}


def test_a_certificate_is_checked_and_an_altered_one_is_not_believed(lived: World) -> None:
    with lived.asking() as client:
        auditor = client("auditor")
        issued = auditor.get(f"/v1/models/{MODEL}/versions/1/certificate")
        assert issued.headers["content-type"] == "application/vnd.in-toto+json"

        def checked(content: bytes) -> dict[str, object]:
            sent = auditor.post(
                "/v1/certificates/verification",
                content=content,
                headers={"Content-Type": "application/vnd.in-toto+json"},
            )
            found: dict[str, object] = sent.json()
            return found

        found = checked(issued.content)
        assert (found["holds"], found["listed"]) == (True, True)
        for altered in (issued.content.replace(b'"sig":"', b'"sig":"A'), b"{}", b"", b"[" * 9999):
            found = checked(altered)
            assert (found["holds"], found["statement"]) == (False, None)
