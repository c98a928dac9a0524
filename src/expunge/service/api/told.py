"""What the API tells: the answers of its routes, and how they are made of what the ledger says."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue

from expunge.ledger.certificate import Removal
from expunge.ledger.following import Progress
from expunge.ledger.policy import Policy
from expunge.ledger.sealing import Plan
from expunge.service.api.asked import example

REQUEST, RUN, AT = "r3214905aea05", "u390c0a7e03cc", "2026-01-15T09:30:00.000000Z"
DIGEST = "5f0c3d1d" * 8

# examples that several answers have a part of
MODEL: dict[str, Any] = {
    "name": "emoji",
    "version": 1,
    "deletion_state": "edited, base kept",
    "requests": {"published": 1},
    "overdue": [],
    "due_soon": [],
    "next_deadline": None,
    "published": AT,
    "lagging": [],
    "unreadable": None,
}
VERSION: dict[str, Any] = {
    "version": 1,
    "cause": "request",
    "created": AT,
    "deletion_state": "edited, base kept",
    "weights": DIGEST,
    "metric": "accuracy",
    "retained": 0.538,
    "kept": 0.93,
}
ASKED: dict[str, Any] = {
    "request": REQUEST,
    "number": 1,
    "kind": "subject",
    "state": "published",
    "reason": None,
    "rows": 41,
    "method": None,
    "priority": 0,
    "deadline": AT,
    "created": AT,
    "updated": AT,
    "sealed": False,
}
STEP: dict[str, Any] = {
    "run": RUN,
    "kind": "serve",
    "state": "running",
    "step": "unlearn",
    "since": AT,
    "share": 0.4,
}
STATEMENT: dict[str, Any] = {
    "model": "emoji",
    "version": 1,
    "parent": 0,
    "cause": "request",
    "before": DIGEST,
    "after": DIGEST,
    "request_hashes": ["9a3f" * 16],
    "kinds": {"subject": 1},
    "method": "gradient-difference",
    "parameters": {},
    "settings": "request",
    "aggregation": "sum",
    "strengths": {},
    "code_version": "0.1.0",
    "seed": 0,
    "deletion_state": "edited, base kept",
    "figures": [
        {
            "name": "kept",
            "value": 0.9268,
            "threshold": 0.9,
            "passed": True,
            "against": "the registered model",
        }
    ],
    "not_covered": ["Whether single rows still show in the weights was not asked."],
    "issued_at": AT,
    "anchor": [17, "ab12" * 16],
    "guards": [],
}

RequestState = Literal[
    "received", "running", "guarded", "published", "answered", "refused", "failed", "withdrawn"
]


class ModelSummary(BaseModel):
    """A registered model, and what waits for it."""

    model_config = example(**MODEL)

    name: str
    version: int = Field(description="Number of the current version.")
    deletion_state: str | None
    requests: dict[str, int] = Field(description="How many there are, by state.")
    overdue: list[str] = Field(description="Ids of requests whose deadline is past.")
    due_soon: list[str] | None = Field(description="Null where the policy cannot be read.")
    next_deadline: str | None = Field(description="The earliest of open requests.")
    published: str = Field(description="When the current version was, and so was last measured.")
    lagging: list[str] = Field(description="What was made from an earlier version.")
    unreadable: str | None = Field(description="Why the policy cannot be read, if so.")

    @classmethod
    def of(cls, name: str, found: Mapping[str, Any]) -> Self:
        """Of what the status says of a model."""
        return cls(
            name=name,
            version=found["version"],
            deletion_state=found["deletion state"],
            requests=found["requests"],
            overdue=found["overdue"],
            due_soon=found["due soon"],
            next_deadline=found["next deadline"],
            published=found["published"],
            lagging=found["lagging descendants"],
            unreadable=found["policy"],
        )


class Models(BaseModel):
    """All models that whoever asks may see."""

    models: list[ModelSummary]


class ModelDetail(ModelSummary):
    """A registered model with its policy and what its current version scores."""

    model_config = example(
        **MODEL,
        family="dual_encoder",
        aggregation="sum",
        registered=AT,
        metric="accuracy",
        retained=0.538,
        kept=0.93,
        policy=Policy().model_dump(mode="json"),
    )

    family: str
    aggregation: str
    registered: str
    metric: str
    retained: float = Field(description="Score on held-out rows of nobody's request.")
    kept: float = Field(description="Share of the registered model's retained score.")
    policy: Policy


class Column(BaseModel):
    """A column of the training table."""

    model_config = example(name="subject", values=1064)

    name: str
    values: int | None = Field(description="Distinct ones; null where these are very many.")


class Columns(BaseModel):
    """What a request may name."""

    model_config = example(columns=[{"name": "subject", "values": 1064}], classes=[])

    columns: list[Column]
    classes: list[str] = Field(description="Texts of the labels, where the table holds texts.")


class Touched(BaseModel):
    """A class of which rows would be forgotten."""

    label: str
    text: str
    rows: int
    named: int
    left: int


class Preview(BaseModel):
    """What a request would remove."""

    model_config = example(
        column="subject",
        rows=14,
        forgotten=3,
        copies=2,
        exact=1,
        removed=11,
        held_out=4,
        of=1064,
        unknown=[],
        sealed=False,
        labels=[],
        reason=None,
        sentence="14 records of this subject, 2 near-duplicates, 3 already forgotten",
        notes=[],
    )

    column: str
    rows: int = Field(description="Training rows that it names.")
    forgotten: int = Field(description="Those of them that are forgotten already.")
    copies: int | None = Field(description="Rows that repeat them; null where not looked for.")
    exact: int | None = Field(description="Those of the copies that are equal.")
    removed: int = Field(description="Rows that would be newly forgotten.")
    held_out: int
    of: int = Field(description="Training rows of the model.")
    unknown: list[str] = Field(description="Values that no training row has.")
    sealed: bool
    labels: list[Touched]
    reason: str | None = Field(description="Why nothing would be forgotten.")
    sentence: str
    notes: list[str]


class Advice(BaseModel):
    """One method, for one request."""

    method: str
    paper: str
    advised: bool = Field(description="Whether it is the one that is advised.")
    fits: bool
    reason: str = Field(description="Why it is advised, what it does, or what is missing.")
    reads: str = Field(description="The sets and fields that it opens.")
    prepares_with: str = Field(description="The same, before requests come.")
    starts: str = Field(description="The model that it starts from.")
    returns: str
    state: str = Field(description="The deletion state that it leaves.")
    rows: dict[str, int] = Field(description="How many rows of each set it opens.")
    costs: str = Field(description="What is known of its cost.")
    own: bool = Field(description="Whether it is the one that the model was registered with.")


class Advised(BaseModel):
    """The methods for a request: the advised one, those that fit, those that do not."""

    model_config = example(
        methods=[
            {
                "method": "gradient-difference",
                "paper": "Liu, Liu, Stone 2022, Continual Learning and Private Unlearning",
                "advised": True,
                "fits": True,
                "reason": "The model was registered with it.",
                "reads": "forget, retain",
                "prepares_with": "nothing",
                "starts": "the base",
                "returns": "a delta",
                "state": "edited, base kept",
                "rows": {"forget": 41, "retain": 1023},
                "costs": "8 passes over the forget set",
                "own": True,
            }
        ]
    )

    methods: list[Advice]


class Identified(BaseModel):
    """Which version has the weights of a file."""

    model_config = example(
        version=1,
        versions=[1],
        base=False,
        current=True,
        digest=DIGEST,
        sentence="These are the weights of emoji@1, the current version.",
    )

    version: int | None
    versions: list[int]
    base: bool
    current: bool
    digest: str | None
    sentence: str


class Receipt(BaseModel):
    """A removal request that was taken."""

    model_config = example(
        request=REQUEST, model="emoji", number=1, state="received", repeated=False
    )

    request: str
    model: str
    number: int
    state: RequestState
    repeated: bool = Field(description="Whether the same key asked for the same before.")


class RequestSummary(BaseModel):
    """A removal request in a list."""

    model_config = example(**ASKED)

    request: str
    number: int
    kind: str
    state: RequestState
    reason: str | None
    rows: int | None = Field(description="Training rows; null before they were looked for.")
    method: str | None
    priority: int
    deadline: str | None
    created: str
    updated: str
    sealed: bool


class Step(BaseModel):
    """Where a run stands."""

    model_config = example(**STEP)

    run: str
    kind: str
    state: str
    step: str
    since: str
    share: float | None = Field(description="Of the step that is done, where that is known.")


class Attempt(BaseModel):
    """What was tried for a request."""

    model_config = example(run=RUN, what="as asked", outcome="refused: kept")

    run: str
    what: str
    outcome: str


class RequestFigures(BaseModel):
    """What the current version scores on the rows of a request."""

    metric: str
    kind: str
    rows: int = Field(description="Training rows that it named and that are still there.")
    before: float | None = Field(description="The score on them before the request was served.")
    served: float | None = Field(description="Right after it was served.")
    after: float | None = Field(description="In the current version.")
    reference: float | None = Field(description="To reach: of a model that never saw them.")
    against: str = Field(description="What the reference is of: the oracle, or its stand-in.")
    held_out_rows: int
    held_out: float | None
    stored: bool = Field(description="Not measured again: its rows are gone.")
    still_served: float | None = Field(description="Share of its rows that stores still serve.")


class RequestDetail(BaseModel):
    """A removal request; what it names is told by `/scope` alone."""

    model_config = example(
        **ASKED,
        model="emoji",
        strength=None,
        runs=[],
        versions=["emoji@1 (request)"],
        attempts=[{"run": RUN, "what": "as asked", "outcome": "passed"}],
        figures={
            "metric": "accuracy",
            "kind": "subject",
            "rows": 41,
            "before": 1.0,
            "served": 0.0,
            "after": 0.0,
            "reference": 0.00094,
            "against": "chance",
            "held_out_rows": 41,
            "held_out": 0.0,
            "stored": False,
            "still_served": None,
        },
        unreadable=None,
    )

    request: str
    model: str
    number: int
    kind: str
    state: RequestState
    reason: str | None
    rows: int | None
    method: str | None
    strength: float | None
    priority: int
    deadline: str | None
    created: str
    updated: str
    sealed: bool
    runs: list[Step]
    versions: list[str]
    attempts: list[Attempt]
    figures: RequestFigures | None
    unreadable: str | None = Field(description="Why its figures cannot be read, if so.")

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Of what is shown of a request, without its words."""
        own = {name: value for name, value in found.items() if name not in ("scope", "account")}
        figures = own.pop("figures")
        said = isinstance(figures, str)
        return cls(**own, figures=None if said else figures, unreadable=figures if said else None)


class RequestWords(BaseModel):
    """What a request names, and the account of what was searched and done. It names people."""

    model_config = example(
        request=REQUEST,
        scope={
            "name": "two sea animals",
            "column": "subject",
            "values": ["1f40b", "1f419"],
            "anchor": None,
            "metadata": {},
        },
        account={"searched": {"column": "subject"}},
    )

    request: str
    scope: dict[str, JsonValue] | str | None = Field(description="A sentence where it is gone.")
    account: dict[str, JsonValue] | str | None


class Said(BaseModel):
    """What a version answers."""

    text: str = Field(description="The class, concept, number or text.")
    probability: float | None = Field(description="Of that answer.")
    right: float | None = Field(description="Of the true answer.")


class Answered(BaseModel):
    """One row: what both versions answer, and the truth."""

    row: str
    asked: str | None = Field(description="The question, where it is a text.")
    before: Said
    after: Said
    truth: str


class Answers(BaseModel):
    """Answers of two versions on the rows of a request. They show the forgotten."""

    model_config = example(
        request=REQUEST,
        before=0,
        after=1,
        rows=[
            {
                "row": "emoji:1f40b",
                "asked": None,
                "before": {"text": "whale", "probability": 0.98, "right": 0.98},
                "after": {"text": "dolphin", "probability": 0.31, "right": 0.0},
                "truth": "whale",
            }
        ],
        more=40,
        gone=0,
    )

    request: str
    before: int = Field(description="Number of the version before.")
    after: int = Field(description="Number of the version after.")
    rows: list[Answered]
    more: int = Field(description="Rows that are not shown.")
    gone: int = Field(description="Rows that are in the training table no more.")


class Following(BaseModel):
    """Where a request stands: the data of an event."""

    model_config = example(
        request=REQUEST,
        state="running",
        reason=None,
        updated=AT,
        steps=[STEP],
    )

    request: str
    state: RequestState
    reason: str | None
    updated: str
    steps: list[Step]

    @classmethod
    def of(cls, found: Progress) -> Self:
        """Of the progress of a request."""
        return cls(
            request=found.request,
            state=found.state,  # type: ignore[arg-type]
            reason=found.reason,
            updated=found.updated,
            steps=[Step(**vars(step)) for step in found.steps],
        )


class Cancelled(BaseModel):
    """What was withdrawn before anything was done for it."""

    model_config = example(cancelled=REQUEST, what="request 1")

    cancelled: str
    what: str


class Queued(BaseModel):
    """A run that waits for a worker."""

    model_config = example(run=RUN)

    run: str


class RunSummary(Step):
    """A run that has not ended."""

    model_config = example(
        **{**STEP, "share": None}, model="emoji", requests=[REQUEST], interrupted=False
    )

    model: str
    requests: list[str]
    interrupted: bool = Field(description="It is tried again; `expunge ledger status` says why.")

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Of what the status says of a run; why it was interrupted may name rows."""
        own = {name: value for name, value in found.items() if name != "why"}
        return cls(**own, interrupted=found["state"] == "interrupted")


class Runs(BaseModel):
    """The runs of all models that whoever asks may see."""

    runs: list[RunSummary]


class VersionSummary(BaseModel):
    """A version of a model."""

    model_config = example(**VERSION)

    version: int
    cause: str
    created: str
    deletion_state: str | None
    weights: str = Field(description="SHA-256 of the weights.")
    metric: str
    retained: float = Field(description="Score on held-out rows of nobody's request.")
    kept: float = Field(description="Share of the registered model's retained score.")


class VersionDetail(VersionSummary):
    """A version with what its certificate states."""

    model_config = example(**VERSION, statement=STATEMENT)

    statement: "Statement"


class Statement(BaseModel):
    """What a certificate states of a version."""

    model_config = example(**STATEMENT)

    model: str
    version: int
    parent: int | None
    cause: str
    before: str | None
    after: str
    request_hashes: list[str]
    kinds: dict[str, int]
    method: str | None
    parameters: dict[str, JsonValue]
    settings: str | None
    aggregation: str | None
    strengths: dict[str, float]
    code_version: str
    seed: int | None
    deletion_state: str | None
    figures: list[dict[str, JsonValue]]
    not_covered: list[str]
    issued_at: str
    anchor: list[JsonValue]
    guards: list[str]
    certified: dict[str, JsonValue] | None = Field(
        default=None, description="What the method proves: scope, epsilon, delta; else nothing is."
    )
    records_before: str | None = Field(
        default=None, description="Whether training records from before are kept or destroyed."
    )

    @classmethod
    def of(cls, removal: Removal) -> Self:
        """Of the predicate of a certificate."""
        return cls(**removal.to_json())


class HistoryVersion(BaseModel):
    """A version in the history of a model."""

    version: int
    cause: str
    created: str
    deletion_state: str | None
    weights: str
    retained: float
    kept: float
    requests: list[str] = Field(description="That its run was for.")
    certified: str | None = Field(
        default=None, description="What its method proves, in words; beside it nothing is proven."
    )


class HistoryRequest(BaseModel):
    """What every version scores on the rows of a request: a row of the persistence matrix."""

    request: str
    number: int
    kind: str
    state: RequestState
    before: float | None
    reference: float | None
    against: str | None
    after: list[float | None] = Field(description="After each version; null before it was served.")
    stored: list[bool] = Field(description="Not measured again: its rows are gone.")


class History(BaseModel):
    """How a model got where it is, and whether what was forgotten stays so."""

    model_config = example(
        model="emoji",
        metric="accuracy",
        direction="higher",
        versions=[
            {
                "version": 0,
                "cause": "registration",
                "created": AT,
                "deletion_state": None,
                "weights": DIGEST,
                "retained": 0.581,
                "kept": 1.0,
                "requests": [],
            },
            {
                "version": 1,
                "cause": "request",
                "created": AT,
                "deletion_state": "edited, base kept",
                "weights": DIGEST,
                "retained": 0.538,
                "kept": 0.93,
                "requests": [REQUEST],
            },
        ],
        requests=[
            {
                "request": REQUEST,
                "number": 1,
                "kind": "subject",
                "state": "published",
                "before": 1.0,
                "reference": 0.00094,
                "against": "chance",
                "after": [None, 0.0],
                "stored": [False, False],
            }
        ],
    )

    model: str
    metric: str
    direction: str
    versions: list[HistoryVersion]
    requests: list[HistoryRequest]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Of what the ledger remembers."""
        versions = [
            HistoryVersion(**{name.replace(" ", "_"): value for name, value in version.items()})
            for version in found["versions"]
        ]
        return cls(**{**found, "versions": versions})


class Distance(BaseModel):
    """How far the weights of two versions are apart."""

    distance: float = Field(description="Euclidean, over all weights.")
    changed: list[str] = Field(description="Tensors that differ, the most changed first.")
    same: int = Field(description="How many tensors are equal.")


class Difference(BaseModel):
    """Two versions side by side."""

    model_config = example(
        model="emoji",
        versions=[0, 1],
        metric="accuracy",
        retained=[0.581, 0.538],
        requests={REQUEST: [None, 0.0]},
        weights={"distance": 1.7, "changed": ["head.weight"], "same": 12},
    )

    model: str
    versions: list[int]
    metric: str
    retained: list[float]
    requests: dict[str, list[float | None]]
    weights: Distance


class CertificateChecked(BaseModel):
    """Whether a certificate holds, and what it states if so."""

    model_config = example(
        holds=True,
        sentence="The signature holds, and the version stands in this ledger.",
        listed=True,
        statement=STATEMENT,
    )

    holds: bool
    sentence: str
    listed: bool = Field(description="Whether it is the one that this ledger keeps of the version.")
    statement: Statement | None


class SigningKey(BaseModel):
    """The public key that certificates are checked with."""

    model_config = example(
        key_id="3f" * 32,
        algorithm="Ed25519",
        pem="-----BEGIN PUBLIC KEY-----\n...\n-----END PUBLIC KEY-----\n",
    )

    key_id: str
    algorithm: Literal["Ed25519"] = "Ed25519"
    pem: str


class Going(BaseModel):
    """Objects of one kind that a seal destroys."""

    kind: str
    number: int
    bytes: int


class SealPlan(BaseModel):
    """What a seal would do; nothing is changed."""

    model_config = example(
        requests=[REQUEST],
        remade=[],
        objects=[{"kind": "delta", "number": 1, "bytes": 184320}],
        outside=["backups of the database and the objects: let them expire"],
    )

    requests: list[str]
    remade: list[str] = Field(description="Later requests that are made again from the new base.")
    objects: list[Going]
    outside: list[str] = Field(description="What the ledger does not own, for you to remove.")

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Of the plan of the ledger."""
        objects = [Going(kind=k, number=n, bytes=size) for k, n, size in plan.objects]
        return cls(
            requests=list(plan.requests),
            remade=list(plan.remade),
            objects=objects,
            outside=list(plan.outside),
        )


class Checked(BaseModel):
    """What was looked at, and every fault that was found."""

    model_config = example(holds=True, events=17, objects=19, certificates=2, rebuilt=1, faults=[])

    holds: bool
    events: int
    objects: int
    certificates: int
    rebuilt: int
    faults: list[str]


class Health(BaseModel):
    """That the process answers."""

    model_config = example(status="ok")

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether the service can do its work, part by part."""

    model_config = example(ready=True, database=True, store=True, signing=True, worker=True)

    ready: bool
    database: bool
    store: bool
    signing: bool = Field(description="Whether the signing key is there, for a worker.")
    worker: bool = Field(description="Whether a worker runs; requests are taken without one.")
