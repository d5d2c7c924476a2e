"""A question given in an address: its parameters are the fields of `Question`, with their limits and descriptions."""

import inspect
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Final, get_type_hints

from fastapi import Query

from twinline.search.filters import MAX_WHERE_CHARS, where_of
from twinline.search.results import Question

# In an address the question is `q`, as everywhere on the web.
_QUERY: Final = "q"


def question_by_address(**named: Any) -> Question:
    """Return the question of a request's parameters; a dependency for FastAPI, which reads the signature set below."""
    return Question(named.pop(_QUERY), **{**named, "where": where_of([named.get("where") or ""])})


def _parameter(field: Field[Any], hint: Any) -> inspect.Parameter:
    name = _QUERY if field.name == "query" else field.name
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


_HINTS: Final = get_type_hints(Question, include_extras=True)
# Conditions are a text here.
_HINTS["where"] = Annotated[
    str | None, Query(max_length=MAX_WHERE_CHARS, description="Conditions: `team=red; lang=en,tr; year>=2020; reviewed?`.")
]
_SIGNATURE: Final = inspect.Signature([_parameter(field, _HINTS[field.name]) for field in fields(Question)])
setattr(question_by_address, "__signature__", _SIGNATURE)  # noqa: B010  (a function's type does not know of it)
