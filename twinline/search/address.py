"""A question given in an address: its parameters are the fields of `Question`, with their limits and descriptions."""

import inspect
from dataclasses import MISSING, Field, fields
from typing import Any, Final, get_type_hints

from twinline.search.results import Question

# In an address the question is `q`, as everywhere on the web.
_QUERY: Final = "q"


def question_by_address(**named: Any) -> Question:
    """Return the question of a request's parameters; a dependency for FastAPI, which reads the signature set below."""
    return Question(named.pop(_QUERY), **named)


def _parameter(field: Field[Any], hint: Any) -> inspect.Parameter:
    name = _QUERY if field.name == "query" else field.name
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


_HINTS: Final = get_type_hints(Question, include_extras=True)
_SIGNATURE: Final = inspect.Signature([_parameter(field, _HINTS[field.name]) for field in fields(Question)])
setattr(question_by_address, "__signature__", _SIGNATURE)  # noqa: B010  (a function's type does not know of it)
