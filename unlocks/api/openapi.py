"""The description of the API in OpenAPI, as `docs/openapi.json` has it too: what ninja knows, and what each answers."""

import json
from functools import cache

from . import acting, instructions, putting, reading
from .endpoints import api
from .problems import ProblemOut

REGISTERED = (reading, acting, instructions, putting)  # by their import
_WHEN = {
    400: "The body is no JSON.",
    401: "No token, or one that does not work.",
    403: "The token lacks the scope that this takes.",
    404: "There is no such thing.",
    409: "Refused, as things stand. Nothing was done; `refusals` say why.",
    413: "The body is too long.",
    415: "The body is not sent as JSON.",
    422: "What was sent can't be read, or its Idempotency-Key belongs to another call.",
    429: "Too many calls in a minute.",
    503: "The database or its guards are not in place; or the ledger's key.",
}
_READS = {304: {"description": "Nothing changed since the answer with this ETag."}}
_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "Names the act: the same key with the same call gets the same answer, and nothing is done twice.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[!-~]{1,100}$"},
}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


@cache
def description():
    """Return the whole description, as JSON values."""
    described = json.loads(json.dumps(api.get_openapi_schema(path_prefix="/api/v1/")))
    described["components"]["schemas"] |= _schema(ProblemOut, "Problem", mode="serialization")
    for body in putting.BODIES:
        described["components"]["schemas"] |= _schema(body, body.__name__)
    described["openapi"] = "3.1.0"
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method, "{" in path)
    return described


def _schema(model, name, **how):
    """Return a schema and those that it is made of, by their names."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}", **how)
    return {**schema.pop("$defs", {}), name: schema}


def _complete(operation, method, of_one):
    """Name all that an operation answers, and the header that makes a call one act."""
    skipped = {*(() if of_one else (404,)), *(() if method in ("post", "put") else (400, 409, 413, 415))}
    answers = {str(status): _problem(status) for status in _WHEN if status not in skipped}
    answers |= {str(status): said for status, said in _READS.items() if method == "get"}
    operation["responses"] = dict(sorted((operation["responses"] | answers).items()))
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _not_null(parameter["schema"])
    if operation.pop("x-idempotent", False):
        operation["parameters"] = [*operation.get("parameters", []), _KEY]


def _not_null(schema):
    """Return the schema of what may be left out of an address: there is no null in it."""
    some = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    return some[0] if len(some) == 1 else schema


def _problem(status):
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": _WHEN[status], "content": content} | ({"headers": _RETRY} if status in (429, 503) else {})
