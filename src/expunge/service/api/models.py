"""Models: which there are, what may be asked of them, how they got where they are, their seal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger import asking, looking, sealing
from expunge.ledger.actions import asked_by
from expunge.ledger.advising import Advice, advise
from expunge.ledger.identifying import identify
from expunge.ledger.material import Source
from expunge.ledger.opening import model_row
from expunge.ledger.policy import policy_of
from expunge.ledger.previewing import preview
from expunge.ledger.registering import Columns as KnownColumns
from expunge.ledger.registering import register
from expunge.ledger.scope import Scope
from expunge.ledger.serving import version_row
from expunge.ledger.steps import read_figures
from expunge.service import uploads
from expunge.service.access import Actor, Permission, allowed, doing
from expunge.service.api import asked, told
from expunge.service.api.asked import LARGEST_NUMBER, ModelName
from expunge.service.computing import computed
from expunge.service.settings import Settings
from expunge.service.state import Here, Service

router = APIRouter(prefix="/v1", tags=["models"])
RUN_FILES = (".yaml", ".yml")
Number = Annotated[int, Query(ge=0, le=LARGEST_NUMBER)]


@router.get("/models")
def list_models(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.ONESELF, on="everything"))],
) -> told.Models:
    """Models with what waits for them: those that the account has a role for."""
    found = looking.status(here.ledger)["models"]
    return told.Models(
        models=[
            told.ModelSummary.of(n, _seen(here, actor, n, own))
            for n, own in found.items()
            if actor.sees(n)
        ]
    )


@router.post("/models", status_code=201)
async def register_model(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.REGISTER, on="everything"))],
    given: asked.Registration,
    response: Response,
) -> told.ModelDetail:
    """Register a model from a run file that lies in the folder of run files; it takes as long as
    the model takes to be read and measured."""

    def made() -> told.ModelDetail:
        with doing(here, actor, Permission.REGISTER, model=given.name):
            source = Source.of_run_file(_run_file(here.settings, given.run_file))
            register(here.ledger, given.name, source, given.policy)
        return _detail(here, actor, given.name)

    found = await computed(here, made)
    response.headers["Location"] = f"/v1/models/{given.name}"
    return found


@router.get("/models/{model}")
def show_model(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_MODEL))],
    model: ModelName,
) -> told.ModelDetail:
    """A model, its policy, and what its current version scores."""
    return _detail(here, actor, model)


@router.get("/models/{model}/columns")
def list_columns(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.PREVIEW))],
    model: ModelName,
) -> told.Columns:
    """The columns of the training table that a request may name, without their values."""
    with here.ledger.database.reading() as connection:
        row = model_row(connection, model)
    found = here.ledger.made_of(row["columns"], KnownColumns.of_bytes)
    columns = [
        told.Column(name=name, values=None if hashes is None else len(hashes))
        for name, hashes in sorted(found.hashes.items())
    ]
    return told.Columns(columns=columns, classes=list(found.classes))


@router.post("/models/{model}/preview")
async def preview_request(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.PREVIEW))],
    model: ModelName,
    scope: asked.Scope,
) -> told.Preview:
    """What a request would remove; nothing is written."""

    def found() -> told.Preview:
        standing = here.models.standing(model)
        return told.Preview(**preview(here.ledger, standing, scope_of(scope)).to_json())

    return await computed(here, found)


@router.post("/models/{model}/advice")
async def advise_method(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.PREVIEW))],
    model: ModelName,
    scope: asked.Scope,
) -> told.Advised:
    """The methods that fit a request, the advised one first, each with its reason."""

    def found() -> told.Advised:
        standing = here.models.standing(model)
        fitting = advise(here.ledger, standing, scope_of(scope))
        return told.Advised(methods=[_advice(own) for own in fitting])

    return await computed(here, found)


@router.get("/models/{model}/history")
def show_history(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_HISTORY))],
    model: ModelName,
) -> told.History:
    """Every version, and what each scores on the rows of every request."""
    return told.History.of(looking.history(here.ledger, model))


@router.get("/models/{model}/difference")
async def compare_versions(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_HISTORY))],
    model: ModelName,
    one: Annotated[Number, Query(alias="from", description="A version.", examples=[0])],
    other: Annotated[Number, Query(alias="to", description="Another.", examples=[1])],
) -> told.Difference:
    """Two versions side by side: figures, and how far their weights are apart."""
    return told.Difference(**await computed(here, looking.diff, here.ledger, model, one, other))


@router.post(
    "/models/{model}/identification",
    openapi_extra={"requestBody": {"required": True, "content": {uploads.WEIGHTS: {
        "schema": {"type": "string", "format": "binary"}}}}},
)  # fmt: skip
async def identify_weights(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.IDENTIFY))],
    model: ModelName,
    request: Request,
) -> told.Identified:
    """Which version of a model the weights in a safetensors file are."""
    async with uploads.weights(request) as path:
        return await computed(here, _identified, here, model, path)


@router.get("/models/{model}/seal-plan")
def plan_seal(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_HISTORY))],
    model: ModelName,
    before: Annotated[
        str | None, Query(max_length=64, description="Requests published before it (ISO 8601).")
    ] = None,
) -> told.SealPlan:
    """What a seal would destroy, and what it cannot reach; nothing is changed."""
    with here.ledger.database.reading() as connection:
        row = model_row(connection, model)
    return told.SealPlan.of(sealing.plan(here.ledger, row, before))


@router.post("/models/{model}/seals", status_code=202)
def seal_model(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEAL))],
    model: ModelName,
    given: asked.Seal,
) -> told.Queued:
    """Queue a seal: the history becomes a new base, and what could bring the forgotten back is
    destroyed. Until a worker begins, its run can be cancelled; then nothing undoes it."""
    with doing(here, actor, Permission.SEAL, model=model) as act:
        act.target = asking.seal(here.ledger, model, given.before, given.planned)
    return told.Queued(run=act.target)


def scope_of(given: asked.Scope) -> Scope:
    """The scope that a body names."""
    name = given.name or f"{given.column} {given.values[0]}"
    return Scope(name, given.column, tuple(given.values), given.anchor, given.text or "")


def _identified(here: Service, model: str, path: Path) -> told.Identified:
    standing = here.models.standing(model)
    try:
        return told.Identified(**identify(here.ledger, model, path, standing).to_json())
    except IntegrityError as error:  # of the file that was sent
        raise ExpungeError(str(error).replace(str(path), "the file")) from None


def _advice(found: Advice) -> told.Advice:
    own = {name: value for name, value in found.to_json().items() if name != "cost"}
    return told.Advice(**own)


def _run_file(settings: Settings, given: str) -> Path:
    """A run file by its name: one of those that lie in the folder, whatever the name says.

    Raises:
        ExpungeError: there is no folder, or none of this name in it.
    """
    folder = settings.run_files
    if folder is None or not folder.is_dir():
        raise ExpungeError("The service has no folder of run files; set EXPUNGE_SERVICE_RUN_FILES.")
    lying = {p.name: p for p in folder.iterdir() if p.suffix in RUN_FILES and p.is_file()}
    if given not in lying:
        raise ExpungeError(
            f"The folder of run files holds no such name; it holds {', '.join(sorted(lying))}."
            if lying
            else "The folder of run files holds none."
        )
    return lying[given]


def _seen(here: Service, actor: Actor, model: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the status says of a model, without the ids of requests that are not to be seen."""
    if actor.may(Permission.SEE_ALL_REQUESTS, model):
        return found
    own = asked_by(here.ledger, actor.account)
    listed = {name: found[name] for name in ("overdue", "due soon")}
    return {**found, **{n: ids and [i for i in ids if i in own] for n, ids in listed.items()}}


def _detail(here: Service, actor: Actor, model: str) -> told.ModelDetail:
    ledger = here.ledger
    row, version = version_row(ledger, model)
    figures = read_figures(ledger, version)
    found = looking.status(ledger, model)["models"][model]
    summary = told.ModelSummary.of(model, _seen(here, actor, model, found))
    return told.ModelDetail(
        **summary.model_dump(),
        family=row["family"],
        aggregation=row["aggregation"],
        registered=row["created_at"],
        metric=figures.metric,
        retained=figures.retained,
        kept=figures.kept,
        policy=policy_of(ledger, row),
    )
