"""The routes of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from headstart import __version__
from headstart.core.errors import ImageError
from headstart.core.machine import cores
from headstart.core.predictor import Prediction
from headstart.use.serve import front, guards, schema
from headstart.use.serve.bodies import Bodies, Refused, Upload
from headstart.use.serve.frame import Frame
from headstart.use.serve.heat import MOST as MOST_HEAT_MAPS
from headstart.use.serve.heat import Heat
from headstart.use.serve.limits import Limits
from headstart.use.serve.log import event
from headstart.use.serve.metrics import Metrics
from headstart.use.serve.models import Models, Served
from headstart.use.serve.pool import LargeQueueFull, Outputs, Pool, QueueFull

GONE = 499  # what nginx writes down of a client that did not wait
RELOAD_SECONDS = 1.0
STOP_SECONDS = 5.0  # that threads may still take when nobody waits for what they do any more
T = TypeVar("T")


@dataclass
class Service:
    """What the routes share; the pool lives as long as the server runs."""

    models: Models
    limits: Limits
    keys: guards.Keys
    metrics: Metrics
    bodies: Bodies
    pool: Pool | None = field(default=None)
    heat: Heat = field(default_factory=Heat)
    left: int = 0  # threads that had not ended when the server did


router = APIRouter()
_bearer = HTTPBearer(auto_error=False, description="An API key, where the server has any.")


def create_app(
    models: Models,
    limits: Limits | None = None,
    *,
    keys: guards.Keys | None = None,
    hosts: frozenset[str] | None = guards.LOOPBACK,
    origins: Iterable[str] = (),
    reload: bool = False,
    access_log: bool = True,
) -> FastAPI:
    """Return the server as an ASGI application.

    Args:
        models: What is served.
        limits: How much a client may ask for.
        keys: API keys; without any, everybody may ask.
        hosts: Names that the server answers to; None: any.
        origins: Other sites whose pages may call.
        reload: Whether a new model in a model's folder is picked up.
        access_log: Whether each request is a line on standard error.
    """
    limits = limits or Limits()
    service = Service(models, limits, keys or guards.Keys(), Metrics(), Bodies(limits))
    app = FastAPI(
        title="headstart",
        version=__version__,
        description=schema.DESCRIPTION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lambda app: _running(service, reload=reload),
    )
    app.state.service = service
    app.include_router(router)
    app.include_router(front.router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    if not service.keys:
        _say_open(app)
    app.add_middleware(Frame, metrics=service.metrics, hosts=hosts, origins=frozenset(origins), access_log=access_log)
    return app


def _say_open(app: FastAPI) -> None:
    """Let the description of the API say that no key is needed."""
    described = app.openapi()  # kept by FastAPI, which hands out this very dictionary
    described.get("components", {}).pop("securitySchemes", None)
    for methods in described["paths"].values():
        for one in methods.values():
            one.pop("security", None)
            one["responses"].pop("401", None)


@asynccontextmanager
async def _running(service: Service, *, reload: bool) -> AsyncIterator[None]:
    service.pool = Pool(cores(), service.limits.queue, service.limits.pixels, service.metrics.batch.observe)
    service.metrics.watch_queue(lambda: service.pool.waiting if service.pool else 0)
    _note_loaded(service)
    watching = asyncio.create_task(_watch_folders(service)) if reload else None
    try:
        yield
    finally:
        if watching is not None:
            watching.cancel()
        # Every request has been answered or given up by now, within the grace that uvicorn gives.
        seconds = min(service.limits.seconds, STOP_SECONDS)
        service.left = sum(
            await asyncio.gather(
                asyncio.to_thread(service.pool.close, seconds), asyncio.to_thread(service.heat.close, seconds)
            )
        )
        if service.left:
            event("stopped", threads_left=service.left, reason=f"still busy {seconds:g} s after the last request")


def _note_loaded(service: Service) -> None:
    # Not in `_running`: what its variables name is held until the server stops, a model that was exchanged too.
    for one in service.models:
        service.metrics.loaded.labels(one.name).set(one.loaded)


async def _watch_folders(service: Service) -> None:
    """Look once a second for new models; a damaged one is said and the old one stays."""
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        try:
            await _exchange_changed(service)
        except Exception as error:  # whatever it is, such as a network drive that is away: look again
            event("models not looked at", reason=f"{type(error).__name__}: {error}")


async def _exchange_changed(service: Service) -> None:
    for old in await asyncio.to_thread(service.models.changed):
        await _exchange(service, old)


async def _exchange(service: Service, old: Served) -> None:
    try:
        new = await asyncio.to_thread(service.models.reload, old)
    except Exception as error:  # whatever it is: the old model stays, and the next one is looked at
        service.metrics.reloads.labels(old.name, "refused").inc()
        event("model refused", model=old.name, folder=old.folder, reason=str(error))
    else:
        service.metrics.reloads.labels(old.name, "picked up").inc()
        service.metrics.loaded.labels(old.name).set(new.loaded)
        event("model picked up", model=old.name, folder=old.folder)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _allowed(request: Request, given: Annotated[Any, Security(_bearer)]) -> None:
    keys = _service(request).keys
    if keys and not keys.accept(given.credentials if given is not None else ""):
        raise Refused(
            401, "the API key is missing or wrong: send Authorization: Bearer KEY.", {"WWW-Authenticate": "Bearer"}
        )


def _model(service: Service, name: str | None) -> Served:
    model = service.models.get(name)
    if model is None:
        known = ", ".join(repr(one.name) for one in service.models)
        raise Refused(404, f"there is no model {name!r}: this server has {known}.")
    return model


@router.post(
    "/predict",
    summary="Name what is in pictures",
    responses=schema.PREDICT_RESPONSES,
    openapi_extra=schema.BODY,
    dependencies=[Depends(_allowed)],
)
async def predict(request: Request, asked: Annotated[schema.Asked, Query()]) -> Response:
    """Answer for each picture, in order. Where no picture could be read, the status is 422."""
    service = _service(request)
    model = _model(service, asked.model)
    uploads: list[Upload] = []
    try:
        async with asyncio.timeout(service.limits.seconds):
            _pool(service).check_room(1)  # before the body is read: a refusal must cost little
            with service.bodies.holding() as body:
                uploads = await body.read(request.headers, request.stream())
                pictures = [upload.data for upload in uploads]
                if asked.heat_map and len(pictures) > MOST_HEAT_MAPS:
                    raise Refused(
                        413, f"heat maps are drawn for at most {MOST_HEAT_MAPS} pictures: send fewer at once."
                    )
                outputs, drawn = await _unless_gone(request, _computed(service, model, pictures, asked.heat_map))
    except QueueFull as full:
        service.metrics.pictures.labels(model.name, "refused").inc()
        why = "too many pictures are waiting. Try again soon."
        if isinstance(full, LargeQueueFull):
            why = "too many large pictures are waiting. Try again soon, with fewer or smaller ones."
        raise Refused(503, why, {"Retry-After": "1"}) from None
    except TimeoutError:
        service.metrics.pictures.labels(model.name, "late").inc()
        seconds = f"{service.limits.seconds:g} s"
        if not uploads:
            raise Refused(408, f"the body had not arrived after {seconds}. Send less at once.") from None
        advice = "Send fewer pictures at once" if len(uploads) > 1 else "Try again later, or send a smaller picture"
        raise Refused(504, f"there was no answer within {seconds}. {advice}.") from None
    except ClientDisconnect:  # for the log: nobody reads the answer
        if not uploads:
            raise Refused(400, "the connection was closed before the body had arrived.") from None
        service.metrics.pictures.labels(model.name, "gone").inc()
        raise Refused(GONE, "the connection was closed before there was an answer.") from None
    request.state.pictures = len(uploads)
    return _answered(service, model, uploads, outputs, drawn, asked.top)


async def _computed(
    service: Service, model: Served, pictures: list[bytes], heat_map: bool
) -> tuple[list[Outputs | ImageError], dict[int, str | None]]:
    """Return what the network says of each picture, and the heat maps by position, where they are asked for."""
    waiting = _pool(service).submit(model.predictor, pictures)
    try:
        outputs = await asyncio.gather(*waiting)
    finally:
        for one in waiting:
            one.cancel()  # where one of them was refused or failed; those that are done stay as they are
    if not heat_map:
        return outputs, {}
    wanted = {
        index: picture
        for index, (picture, found) in enumerate(zip(pictures, outputs, strict=True))
        if not isinstance(found, ImageError)
    }
    drawn = await service.heat.draw(model.predictor, list(wanted.values()))
    return outputs, dict(zip(wanted, drawn, strict=True))


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` does, or give it up as soon as the client has closed the connection.

    Raises:
        ClientDisconnect: It has.
    """
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(_closed(request))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        doing.cancel()
        gone.cancel()


async def _closed(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _pool(service: Service) -> Pool:
    if service.pool is None:
        raise Refused(503, "the server is starting or stopping. Try again soon.", {"Retry-After": "1"})
    return service.pool


def _answered(
    service: Service,
    model: Served,
    uploads: list[Upload],
    outputs: list[Outputs | ImageError],
    drawn: dict[int, str | None],
    top: int | None,
) -> Response:
    results: list[dict[str, Any]] = []
    for index, (upload, found) in enumerate(zip(uploads, outputs, strict=True)):
        if isinstance(found, ImageError):
            results.append({"path": upload.name, "error": str(found)})
        else:
            heat = {"heat_map": drawn[index]} if index in drawn else {}
            results.append({"path": upload.name, **_told(model, found, top), **heat})
    broken = sum("error" in result for result in results)
    service.metrics.pictures.labels(model.name, "unreadable").inc(broken)
    service.metrics.pictures.labels(model.name, "answered").inc(len(results) - broken)
    told = {"model": model.name, "results": results}
    if broken < len(results):
        return JSONResponse(told)
    return JSONResponse({"error": f"{results[0]['path']}: {results[0]['error']}", **told}, status_code=422)


def _told(model: Served, outputs: Outputs, top: int | None) -> dict[str, Any]:
    novelty = float(outputs["novelty"]) if "novelty" in outputs else None
    prediction = Prediction("", outputs["probabilities"], novelty=novelty)
    return model.predictor.answer(prediction).to_json(top)


@router.get(
    "/models",
    summary="The models that are served",
    response_model=schema.ModelsAnswer,
    responses=schema.refusals(401),
    dependencies=[Depends(_allowed)],
)
async def list_models(request: Request) -> Response:
    """The first is the one meant when a request names none."""
    service = _service(request)
    return JSONResponse({"models": [one.to_json() for one in service.models], "limits": asdict(service.limits)})


@router.get(
    "/model",
    summary="One model: classes, image size, figures",
    response_model=schema.ModelAnswer,
    responses=schema.refusals(401, 404, 422),
    dependencies=[Depends(_allowed)],
)
async def show_model(request: Request, asked: Annotated[schema.AskedModel, Query()]) -> Response:
    """What clients may know of a model."""
    return JSONResponse(_model(_service(request), asked.model).to_json())


@router.get("/healthz", summary="Whether the process lives", response_model=schema.Health, responses=schema.refusals())
async def healthy() -> Response:
    """Answer as long as the event loop turns."""
    return JSONResponse({"status": "alive"})


@router.get(
    "/readyz", summary="Whether requests are answered", response_model=schema.Health, responses=schema.refusals(503)
)
async def ready(request: Request) -> Response:
    """Answer 503 while the server starts, and when a thread has died or been busy for longer than a request may take.

    A server that stops takes no more connections, so that nobody is told.
    """
    service = _service(request)
    pool = _pool(service)
    if not pool.alive:
        raise Refused(503, "a thread of the server has died: restart it.", {"Retry-After": "1"})
    if pool.longest > service.limits.seconds:
        raise Refused(
            503,
            f"a thread has been busy for more than {service.limits.seconds:g} s, longer than a request may take: "
            "restart the server if it stays so.",
            {"Retry-After": "1"},
        )
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **schema.refusals(401)},
    dependencies=[Depends(_allowed)],
)
async def metrics(request: Request) -> Response:
    """The text format of Prometheus."""
    return Response(generate_latest(_service(request).metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # of the framework: no such page, no such method
        return JSONResponse({"error": f"{error.detail}."}, status_code=error.status_code, headers=error.headers)
    assert isinstance(error, Refused)
    return JSONResponse({"error": str(error)}, status_code=error.status, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg'].lower()}" for one in error.errors()]
    return JSONResponse({"error": f"the query is wrong: {'; '.join(problems)}."}, status_code=422)
