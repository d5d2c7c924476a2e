"""The parameters of an address: an unknown or repeated one is refused, since a mistyped restriction would restrict nothing."""

from fastapi import Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


def only_known_parameters(request: Request) -> None:
    """Refuse a request with query parameters that its route does not have; a dependency for FastAPI.

    Raises:
        RequestValidationError: names each such parameter and the known ones, or each that is given twice.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = [parameter.alias for parameter in get_flat_dependant(route.dependant).query_params]
    given = [name for name, _ in request.query_params.multi_items()]
    listed = f"known are {', '.join(known)}" if known else "this address has none"
    faults = {name: f"unknown parameter: {listed}" for name in given if name not in known}
    faults |= {name: "given more than once" for name in given if name in known and given.count(name) > 1}
    if faults:
        raise RequestValidationError(
            [{"type": "parameter", "loc": ("query", name), "msg": message, "input": None} for name, message in faults.items()]
        )
