"""Conditions on the fields that a release declares filterable, and on source, tenant, key and the time of the log.

    {"metadata.team": "red", "metadata.year": {"gte": 2020}, "metadata.lang": {"any": ["en", "tr"]},
     "metadata.reviewed": {"exists": true}, "received": {"lt": "2026-11-01"}}

As a text, for the command line, an address and the page: `team=red; year>=2020; lang=en,tr; reviewed?; received<2026-11-01`.
A document meets all of them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Discriminator, Field, Strict, Tag, TypeAdapter, ValidationError

from twinline.clients.store.conditions import Condition, Either, Exists, Range
from twinline.contract.documents.filterable import METADATA, FieldType, typed_value
from twinline.contract.errors import DocumentError

MAX_CONDITIONS: Final = 32
MAX_VALUES: Final = 100
MAX_WHERE_CHARS: Final = 4_000
# Every release has these.
BUILT_IN: Final[Mapping[str, FieldType]] = {"source": "keyword", "tenant": "keyword", "key": "keyword", "received": "datetime"}
_BOUNDS: Final = ("gte", "gt", "lte", "lt")
_ORDERED: Final[tuple[FieldType, ...]] = ("integer", "float", "datetime")
_WANTED: Final[Mapping[FieldType, str]] = {
    "keyword": 'a text, such as "red"',
    "integer": "a whole number of at most 2**53-1, such as 2020",
    "float": "a number, such as 0.5",
    "datetime": 'a date of RFC 3339, such as "2026-01-31" or "2026-01-31T09:30:00Z"',
    "bool": "true or false",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VALUE_FORMS: Final = "must be a text, a number, true or false"


def _kind(value: object) -> str | None:
    if isinstance(value, Mapping | Where):
        return "condition"
    return {bool: "bool", int: "int", float: "float", str: "str"}.get(type(value))


_Bool = Annotated[Annotated[bool, Strict()], Tag("bool")]
_Int = Annotated[Annotated[int, Strict()], Tag("int")]
_Float = Annotated[Annotated[float, Strict(), Field(allow_inf_nan=False)], Tag("float")]
_Text = Annotated[Annotated[str, Strict(), Field(max_length=1024)], Tag("str")]
_AS_VALUE: Final = Discriminator(_kind, custom_error_type="value", custom_error_message=_VALUE_FORMS)
Value = Annotated[_Bool | _Int | _Float | _Text, _AS_VALUE]


@dataclass(frozen=True, slots=True)
class Where:
    """What one field must meet: one of several values, bounds, or being there at all. Exactly one of the three is given."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    any: Annotated[list[Value] | None, Field(min_length=1, max_length=MAX_VALUES, description="One of these.")] = None
    gte: Annotated[Value | None, Field(description="This or more. Dates are RFC 3339.")] = None
    gt: Annotated[Value | None, Field(description="More than this.")] = None
    lte: Annotated[Value | None, Field(description="This or less.")] = None
    lt: Annotated[Value | None, Field(description="Less than this.")] = None
    exists: Annotated[
        Annotated[bool, Strict()] | None, Field(description="true: the field has a value of its type; false: it has none.")
    ] = None


_AS_CONDITION: Final = Discriminator(
    _kind,
    custom_error_type="condition",
    custom_error_message=f"{_VALUE_FORMS}, or an object with any, gte, gt, lte, lt or exists",
)
# By name: `source`, `tenant`, `key`, `received`, or a declared field such as `metadata.team`.
Filters = Annotated[
    dict[str, Annotated[_Bool | _Int | _Float | _Text | Annotated[Where, Tag("condition")], _AS_CONDITION]],
    Field(max_length=MAX_CONDITIONS),
]
_FILTERS: Final = TypeAdapter[dict[str, Any]](Filters)


def store_conditions(
    where: Mapping[str, Any] | None, declared: Mapping[str, FieldType], release: str
) -> dict[str, str | list[str] | list[int] | Condition]:
    """Return the store's conditions, by payload field.

    Args:
        declared: the fields that the release declares filterable, with their types.
        release: for messages.

    Raises:
        DocumentError: a field is unknown or not declared, a value is of another type, or a condition cannot be; the message
            names field, value, remedy and the declared fields.
    """
    try:
        given = _FILTERS.validate_python(dict(where or {}))
    except ValidationError as exc:
        raise _fault("wrong_filter", "; ".join(_said(error) for error in exc.errors(include_url=False)), declared) from exc
    return dict(_Reader(name, declared, release).read(value) for name, value in given.items())


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one field's condition."""

    name: str
    declared: Mapping[str, FieldType]
    release: str

    def read(self, wanted: Any) -> tuple[str, Any]:
        type_ = self._type()
        condition = self._condition(wanted, type_)
        return ("timestamp_ms", _in_milliseconds(condition)) if self.name == "received" else (self.name, condition)

    def _type(self) -> FieldType:
        known = {**self.declared, **BUILT_IN}
        if self.name in known:
            return known[self.name]
        if self.name.startswith(METADATA):
            raise _fault(
                "undeclared_field",
                f"where: {self.name!r} is not declared filterable in release {self.release}: name it with its type in "
                "params.yaml, encoder.index.filters, and release again, or leave the condition out",
                self.declared,
            )
        meant = f"write {METADATA + self.name!r}" if METADATA + self.name in known else "use one of the known fields"
        raise _fault("unknown_field", f"where: {self.name!r} is no field to filter by: {meant}", self.declared)

    def _condition(self, wanted: Any, type_: FieldType) -> Any:
        if not isinstance(wanted, Where):
            return self._one_of([wanted], type_)
        given = {name: value for name, value in asdict(wanted).items() if value is not None}
        bounds = {name: value for name, value in given.items() if name in _BOUNDS}
        both = {"gte", "gt"} <= given.keys() or {"lte", "lt"} <= given.keys()
        if len(given) - len(bounds) + bool(bounds) != 1 or both:
            raise self._wrong(
                f"has {', '.join(given) or 'no condition'}", "give `any`, or `exists`, or bounds, one for each side at most"
            )
        if "exists" in given:
            return Exists(wanted.exists is True)
        if "any" in given:
            return self._one_of(given["any"], type_)
        if type_ not in _ORDERED:
            raise self._wrong(f"has the bounds {bounds}", f"the field is declared {type_}, which has no order: give values")
        return Range(**{name: self._bound(value, type_) for name, value in bounds.items()})

    def _one_of(self, values: list[Any], type_: FieldType) -> Any:
        if type_ in ("keyword", "integer", "bool"):
            return [self._typed(value, type_) for value in values]
        # Stores compare floats and moments only by bounds.
        bounds = [self._bound(value, type_) for value in values]
        ranges = tuple(Range(gte=bound, lte=bound) for bound in bounds)
        return ranges[0] if len(ranges) == 1 else Either(ranges)

    def _bound(self, value: Any, type_: FieldType) -> float | datetime:
        typed = self._typed(value, type_)
        return datetime.fromisoformat(typed) if isinstance(typed, str) else typed

    def _typed(self, value: Any, type_: FieldType) -> str | int | float:
        typed = typed_value(value, type_)
        if typed is None:
            shown = json.dumps(value)[:200]
            quotes = f"; as a text, {shown} is written in quotes" if type_ == "keyword" else ""
            raise self._wrong(f"has {shown}", f"the field is declared {type_}: give {_WANTED[type_]}{quotes}")
        return typed

    def _wrong(self, said: str, remedy: str) -> DocumentError:
        return _fault("wrong_filter", f"where: {self.name!r} {said}: {remedy}", self.declared)


def _in_milliseconds(condition: Any) -> Any:
    """Return conditions on moments as those on the log's time, whole milliseconds since 1970."""
    match condition:
        case Range():
            bounds = {name: bound for name, bound in condition.bounds.items() if isinstance(bound, datetime)}
            return Range(**{name: _milliseconds(bound) for name, bound in bounds.items()})
        case Either(ranges):
            return Either(tuple(_in_milliseconds(each) for each in ranges))
        case _:
            return condition


def _milliseconds(bound: datetime) -> float:
    return (bound - _EPOCH) / timedelta(milliseconds=1)


def _fault(reason: str, message: str, declared: Mapping[str, FieldType]) -> DocumentError:
    fields = ", ".join(f"{name} ({type_})" for name, type_ in {**declared, **BUILT_IN}.items())
    return DocumentError(reason, f"{message}. Fields to filter by: {fields}")


def _said(error: Mapping[str, Any]) -> str:
    names = [str(name) for name in error["loc"] if name not in ("condition", "bool", "int", "float", "str")]
    return f"where: {'.'.join(names)}: {error['msg']}"


# --- conditions as a text ---

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PART: Final = re.compile(rf'(?:{_QUOTED}|[^";])+')
_CONDITION: Final = re.compile(r'\s*([^\s=<>?!,;"]+)\s*(>=|<=|=|>|<)(?!\s*[=<>])(.*)', re.DOTALL)
_PRESENCE: Final = re.compile(r'\s*(?:([^\s=<>?!,;"]+)\s*\?|!\s*([^\s=<>?!,;"]+)\s*\?)\s*')
_VALUE: Final = rf'(?:{_QUOTED}|[^",\s](?:[^",]*[^",\s])?)'
_VALUES: Final = re.compile(rf"\s*{_VALUE}\s*(?:,\s*{_VALUE}\s*)*")
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d{0,30})(\.\d{1,30})?([eE][+-]?\d{1,3})?", re.ASCII)
_NAMES: Final = {">=": "gte", ">": "gt", "<=": "lte", "<": "lt"}
_FORMS: Final = "write team=red, lang=en,tr, year>=2020, reviewed? or !reviewed?, with `;` between conditions"


def where_of(texts: Iterable[str]) -> dict[str, Any] | None:
    """Return the conditions of texts; None where they hold none.

    A name is of the metadata, except source, tenant, key and received. A number, `true` and `false` are values of these types;
    in double quotes, as JSON, they are texts.

    Raises:
        DocumentError: a text holds no condition, or a field has two that cannot be joined.
    """
    where: dict[str, Any] = {}
    for part in (part for text in texts for part in _parts(text)):
        name, wanted = _read(part)
        name = name if name in BUILT_IN or name.startswith(METADATA) else METADATA + name
        before = where.get(name, {})
        joined = isinstance(before, dict) and isinstance(wanted, dict) and not before.keys() & wanted.keys()
        if name in where and not joined:
            raise DocumentError("wrong_filter", f"where: {name!r} has two conditions, {part.strip()!r} is the second: give one")
        where[name] = {**before, **wanted} if isinstance(wanted, dict) else wanted
    return where or None


def _parts(text: str) -> Iterator[str]:
    if len(text) > MAX_WHERE_CHARS:
        raise DocumentError("wrong_filter", f"where: {len(text)} characters, the limit is {MAX_WHERE_CHARS}: shorten it")
    end = 0
    for found in _PART.finditer(text):
        if text[end : found.start()].strip("; \t\n"):
            break
        end = found.end()
        if found[0].strip():
            yield found[0]
    if text[end:].strip("; \t\n"):
        raise DocumentError("wrong_filter", f"where: {text[end:][:200]!r} has a quote without its partner: {_FORMS}")


def _read(part: str) -> tuple[str, Any]:
    if presence := _PRESENCE.fullmatch(part):
        return presence[1] or presence[2], {"exists": presence[2] is None}
    found = _CONDITION.fullmatch(part)
    values = [_literal(value) for value in re.findall(_VALUE, found[3])] if found and _VALUES.fullmatch(found[3]) else []
    if not found or not values or (found[2] != "=" and len(values) > 1):
        raise DocumentError("wrong_filter", f"where: {part.strip()[:200]!r} is no condition: {_FORMS}")
    if found[2] != "=":
        return found[1], {_NAMES[found[2]]: values[0]}
    return found[1], values[0] if len(values) == 1 else {"any": values}


def _literal(text: str) -> Any:
    if text.startswith('"') or text in ("true", "false") or _NUMBER.fullmatch(text):
        try:
            return json.loads(text)
        except ValueError as exc:
            raise DocumentError("wrong_filter", f"where: {text[:200]} is no JSON text ({exc}): {_FORMS}") from exc
    return text
