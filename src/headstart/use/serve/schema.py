"""What the API says of itself in `/openapi.json`: what a request may hold, what an answer holds, with examples."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from headstart.use.serve.bodies import FIELD

DESCRIPTION = """Send pictures, get classes with their probabilities.

Nothing that is sent is written to disk, and a picture is never fetched from an address or a path.
A request is refused with one sentence in `error`: 400 and 415 (the body), 401 (the API key), 403 (who asks),
404 (no such model), 408 (the body came too slowly), 413 (too large), 422 (no picture could be read, or a parameter is
wrong), 503 with `Retry-After` (too much at once), 504 (the time is up)."""


class Asked(BaseModel):
    """The query of `POST /predict`."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str | None, Field(description="A name of `/models`; the first one where none is given.")] = None
    top: Annotated[int | None, Field(ge=1, le=100_000, description="Only so many classes; all by default.")] = None
    heat_map: Annotated[
        bool, Field(description="Draw where the model looked, for at most 4 pictures; takes a second a picture.")
    ] = False


class AskedModel(BaseModel):
    """The query of `GET /model`."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str | None, Field(description="A name of `/models`; the first one where none is given.")] = None


class PictureAnswer(BaseModel):
    """What is said of one picture: an answer, or the `error` that says why there is none."""

    path: str = Field(description="The name that was sent with the picture, or its position; shown, never opened.")
    label: str | None = Field(None, description="The most probable class; absent where a picture has several labels.")
    labels: list[str] | None = Field(None, description="Where a picture has several labels: those given, maybe none.")
    probabilities: dict[str, float] | None = Field(None, description="By class, the most probable first.")
    set: list[str] | None = Field(None, description="The classes that cannot be excluded at the model's coverage.")
    unknown: bool | None = Field(None, description="Whether it is probably none of the classes.")
    novelty: float | None = Field(None, description="How unlike the training pictures it is.")
    heat_map: str | None = Field(None, description="The picture with the heat over it: the data URI of a PNG.")
    error: str | None = Field(None, description="Why the picture could not be read, as `headstart predict` says it.")


class Answers(BaseModel):
    """The answer to `POST /predict`: one result for each picture, in order."""

    model: str
    results: list[PictureAnswer]


class Unreadable(Answers):
    """No picture of the request could be read."""

    error: str


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str


class ModelAnswer(BaseModel):
    """What clients are told of a model; more of what `model.json` holds may follow."""

    model_config = ConfigDict(extra="allow")

    name: str
    classes: list[str]
    image_size: list[int]
    precision: str
    loaded: str


class ModelsAnswer(BaseModel):
    """All models that are served; the first is the one meant when a request names none."""

    models: list[ModelAnswer]
    limits: dict[str, float] = Field(description="Of a request: bytes, pictures, pixels of each, seconds.")


class Health(BaseModel):
    """Whether the server lives, or is ready for requests."""

    status: str


_ANSWERS = {
    "model": "cats-dogs",
    "results": [
        {"path": "cat.jpg", "label": "cat", "probabilities": {"cat": 0.9987, "dog": 0.0013}},
        {
            "path": "notes.txt",
            "error": "it is not a picture of a known format (JPEG, PNG, …). Replace it or leave it out.",
        },
    ],
}
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"Pictures in the multipart field `{FIELD}`, or one picture as the whole body. What a picture "
        "is, is told from its bytes, not from its name or type.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
            "image/jpeg": _PICTURE,
            "application/octet-stream": _PICTURE,
        },
    }
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI is told of refusals with these statuses."""
    words = {
        400: "The body is empty or damaged.",
        401: "The API key is missing or wrong.",
        403: "Pages of that site may not call.",
        404: "There is no such model.",
        408: "The body came too slowly.",
        413: "The body or the number of pictures is too large.",
        415: "The body is compressed.",
        422: "A parameter is wrong.",
        503: "Too much at once: try again after `Retry-After` seconds.",
        504: "The time is up.",
    }
    retry = {"headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}}
    return {
        status: {"model": Refusal, "description": words[status], **(retry if status == 503 else {})}
        for status in (403, *statuses)
    }


PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Answers, "content": {"application/json": {"example": _ANSWERS}}},
    **refusals(400, 401, 404, 408, 413, 415, 503, 504),
    422: {"model": Unreadable | Refusal, "description": "No picture could be read, or a parameter is wrong."},
}
