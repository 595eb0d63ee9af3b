"""`OPTIONS["pool"]`, checked once, where it comes in.

`parse()` reads what a project's settings say and answers with `PoolOptions` or
with every `Problem` at once, so that a check can list them all. Nothing is
corrected silently.
"""

from __future__ import annotations

import difflib
import enum
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from djpool.core.errors import OptionsError

# What a lock can wait for: anything longer overflows. 49 days on some systems.
LONGEST = threading.TIMEOUT_MAX

# The default of `max_size`, unless `min_size` is larger.
MAX_SIZE = 10

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class ProblemKind(enum.Enum):
    """What is wrong with an option; the checks give each kind its own id."""

    UNKNOWN = enum.auto()
    TYPE = enum.auto()
    BOUNDS = enum.auto()
    REFUSED = enum.auto()  # belongs to a native pool, and means nothing here


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one option, as a sentence, and a way out."""

    kind: ProblemKind
    option: str
    message: str
    hint: str | None = None


class _WrongType(Exception):
    """A value is not of its option's kind; says which kind it is."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number, or a string of one."""

    least: int = 0
    nullable: bool = False

    def read(self, value: Any) -> Any:
        kind = "a whole number" + (" or None" if self.nullable else "")
        if _is_a(value, bool):
            raise _WrongType(kind)
        if _is_a(value, int):
            return value
        if self.nullable and _is_none(value):
            return None
        try:
            return int(_text(value))
        except ValueError:
            raise _WrongType(kind) from None

    def bounds_broken_by(self, value: Any) -> str | None:
        if value is not None and value < self.least:
            return f"{self.least} or more"
        return None


@dataclass(frozen=True, slots=True)
class Seconds:
    """A duration in seconds: a number, or a string of one."""

    positive: bool = False
    nullable: bool = False

    def read(self, value: Any) -> Any:
        kind = "a number of seconds" + (
            " or None for no limit" if self.nullable else ""
        )
        if _is_a(value, bool):
            raise _WrongType(kind)
        if self.nullable and _is_none(value):
            return None
        try:
            return float(value if _is_a(value, int, float) else _text(value))
        except (ValueError, OverflowError):
            raise _WrongType(kind) from None

    def bounds_broken_by(self, value: Any) -> str | None:
        if value is None:
            return None
        least = "more than 0" if self.positive else "0 or more"
        allowed = value > 0 if self.positive else value >= 0
        # NaN fails every comparison, so it fails these.
        if allowed and value <= LONGEST:
            return None
        none = "; None is no limit" if self.nullable else ""
        return f"{least} and at most {LONGEST:.0f} seconds{none}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several words, some of which may be booleans."""

    choices: tuple[str | bool, ...]

    def read(self, value: Any) -> Any:
        if isinstance(value, bool) and value in self.choices:
            return value
        if isinstance(value, str):
            word = value.strip().lower()
            if word in self.choices:
                return word
            if True in self.choices and word in _TRUE:
                return True
            if False in self.choices and word in _FALSE:
                return False
        raise _WrongType("one of " + ", ".join(map(repr, self.choices)))

    def bounds_broken_by(self, value: Any) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Text:
    """A name that is not empty."""

    def read(self, value: Any) -> Any:
        if isinstance(value, str) and value.strip():
            return value
        raise _WrongType("a name, as text that is not empty")

    def bounds_broken_by(self, value: Any) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Mappings:
    """A dict of what is passed on to a native pool as it is."""

    def read(self, value: Any) -> Any:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return dict(value)
        raise _WrongType("a dict with names as keys")

    def bounds_broken_by(self, value: Any) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Provider:
    """A callable, or the dotted path of one."""

    def read(self, value: Any) -> Any:
        if value is None or callable(value):
            return value
        if isinstance(value, str) and "." in value:
            return value
        raise _WrongType("a callable, the dotted path of one, or None")

    def bounds_broken_by(self, value: Any) -> str | None:
        return None


# Returns connection parameters; or the dotted path of what does.
Credentials = str | Callable[[], Mapping[str, Any]] | None

Kind = Whole | Seconds | Choice | Text | Mappings | Provider


def _option(default: Any, kind: Kind) -> Any:
    return field(default=default, metadata={"kind": kind})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """A checked `OPTIONS["pool"]`. Durations are seconds; None means no limit.

    Raises:
        OptionsError: A value is of the wrong type or out of bounds.
    """

    min_size: int = _option(0, Whole())
    max_size: int = _option(MAX_SIZE, Whole(least=1))
    timeout: float = _option(30.0, Seconds())
    max_waiting: int | None = _option(None, Whole(nullable=True))
    max_lifetime: float | None = _option(3600.0, Seconds(positive=True, nullable=True))
    max_idle: float | None = _option(600.0, Seconds(positive=True, nullable=True))
    check: str | bool = _option("auto", Choice(("auto", True, False)))
    check_after: float = _option(30.0, Seconds())
    check_timeout: float = _option(5.0, Seconds(positive=True))
    reset: str = _option("auto", Choice(("auto", "always", "never")))
    release: str = _option("request", Choice(("request", "transaction")))
    leak_threshold: float | None = _option(None, Seconds(positive=True, nullable=True))
    credentials: Credentials = _option(None, Provider())  # noqa: RUF009 (immutable)
    implementation: str = _option("native", Choice(("native", "fallback")))
    name: str = _option("default", Text())
    native: Mapping[str, Any] = field(
        default_factory=dict, metadata={"kind": Mappings()}
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            read, problem = _read(each.name, each.metadata["kind"], value)
            if problem is not None:
                raise OptionsError(problem.message)
            object.__setattr__(self, each.name, read)
        if problem := _sizes_problem(self.min_size, self.max_size):
            raise OptionsError(problem.message)


KINDS: dict[str, Kind] = {
    each.name: each.metadata["kind"] for each in fields(PoolOptions)
}


@dataclass(frozen=True, slots=True)
class NativeKey:
    """What becomes of a key that belongs to a driver's own pool.

    `translate` gives djpool's options for its value, or raises ValueError with
    what the value would have to be. Without it the key is refused with `advice`.
    A value in `silent` says no more than leaving the key out does.
    """

    advice: str = ""
    translate: Callable[[Any], Mapping[str, Any]] | None = None
    silent: tuple[Any, ...] = ()


def _nothing_doubtful(given: Mapping[Any, Any]) -> Sequence[Problem]:  # noqa: ARG001 (uniform)
    return ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What one backend can do, to check a project's options against.

    `keys` are those of the driver's own pool. `doubtful` finds words of djpool's
    that another key makes a word of the driver's; they are not read.
    """

    implementations: tuple[str, ...] = ("fallback",)
    keys: Mapping[str, NativeKey] = field(default_factory=dict)
    doubtful: Callable[[Mapping[Any, Any]], Sequence[Problem]] = _nothing_doubtful


def is_on(raw: Any) -> bool:
    """Whether `OPTIONS["pool"]` asks for a pool at all; a dict always does."""
    if isinstance(raw, str):
        return raw.strip().lower() not in _FALSE | {"", "none"}
    return raw is not None and raw is not False and raw != 0


def parse(
    raw: Any, *, name: str, offer: Offer
) -> tuple[PoolOptions | None, list[Problem]]:
    """Read an `OPTIONS["pool"]` that is on, for the pool called `name` by default.

    Returns the options and no problem, or None and every problem there is.
    """
    given, problem = _as_dict(raw)
    if problem is not None:
        return None, [problem]
    values, keys, problems = _read_all(given, offer)
    values.setdefault("implementation", offer.implementations[0])
    values.setdefault("name", name)
    if values["implementation"] not in offer.implementations:
        problems.append(
            Problem(
                ProblemKind.BOUNDS,
                "implementation",
                f"implementation {values['implementation']!r} does not exist here: "
                "this driver has no pool of its own that djpool can use",
                'Take implementation: "fallback", or leave the option out.',
            )
        )
    if values.get("max_waiting") == 0:
        values["max_waiting"] = None  # as in psycopg_pool
    # A pool that says only how many connections are to stay open has room for them.
    values.setdefault("max_size", max(MAX_SIZE, values.get("min_size", 0)))
    sizes = values.get("min_size", 0), values["max_size"]
    names = keys.get("min_size", "min_size"), keys.get("max_size", "max_size")
    if not problems and (problem := _sizes_problem(*sizes, *names)):
        problems.append(problem)
    return (None, problems) if problems else (PoolOptions(**values), [])


def _read_all(
    given: Mapping[Any, Any], offer: Offer
) -> tuple[dict[str, Any], dict[str, str], list[Problem]]:
    """The values of options, the key that said each, and what is wrong with others."""
    problems = list(offer.doubtful(given))
    doubtful = {problem.option for problem in problems}
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, value in given.items():
        if key in doubtful:
            continue
        for option, translated in _translate(key, value, offer, problems).items():
            read, problem = _read(option, KINDS[option], translated)
            if problem is None and option == "native":
                problem = _add_native(read, key, values.setdefault(option, {}))
            elif problem is None and read != values.setdefault(option, read):
                problem = _twice(option, (key, value), (keys[option], given))
            if problem is None:
                keys.setdefault(option, key)
            else:
                problems.append(_in_words_of(key, value, problem))
    return values, keys, problems


def _as_dict(raw: Any) -> tuple[Mapping[Any, Any], Problem | None]:
    if isinstance(raw, Mapping):
        return raw, None
    if raw is True or (isinstance(raw, str) and raw.strip().lower() in _TRUE):
        return {}, None
    return {}, Problem(
        ProblemKind.TYPE,
        "pool",
        f"pool must be True, False, None or a dict of options, not {_repr(raw)}",
    )


def _translate(
    key: Any, value: Any, offer: Offer, problems: list[Problem]
) -> Mapping[str, Any]:
    """`key` in djpool's words; what cannot be said in them goes to `problems`."""
    native = offer.keys.get(key) if isinstance(key, str) else None
    if native is not None and value in native.silent:
        return {}
    if native is not None and native.translate is not None:
        try:
            return native.translate(value)
        except ValueError as error:
            message = f"{key} must be {error}, not {_repr(value)}"
            problems.append(Problem(ProblemKind.TYPE, key, message))
            return {}
    if native is not None:
        message = f"{key} belongs to the driver's own pool and is not taken"
        problems.append(Problem(ProblemKind.REFUSED, key, message, native.advice))
        return {}
    if key in KINDS:
        return {key: value}
    known = [*KINDS, *offer.keys]
    near = difflib.get_close_matches(str(key).lower(), known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(KINDS)}."
    problems.append(
        Problem(ProblemKind.UNKNOWN, str(key), f"{key!r} is not an option", hint)
    )
    return {}


def _add_native(
    read: Mapping[str, Any], key: str, native: dict[str, Any]
) -> Problem | None:
    """Add to what is passed on to the native pool; two keys may say the same."""
    for name, value in read.items():
        if native.setdefault(name, value) != value:
            message = f"{name} is in 'native', too, and differs"
            if key == name:
                message = f"{name} ({_repr(value)}) and 'native' differ"
            return Problem(ProblemKind.BOUNDS, key, message, "Say it once.")
    return None


def _twice(
    option: str, later: tuple[str, Any], earlier: tuple[str, Mapping[Any, Any]]
) -> Problem:
    (key, value), (first, given) = later, earlier
    return Problem(
        ProblemKind.BOUNDS,
        key,
        f"{key} ({_repr(value)}) and {first} ({_repr(given[first])}) are the same "
        f"option, {option}, and differ",
        "Leave one of them out.",
    )


def _in_words_of(key: str, value: Any, problem: Problem) -> Problem:
    """`problem` by the key that a project wrote, if djpool calls it otherwise."""
    if problem.option == key or problem.option not in KINDS:
        return problem
    message = f"{key} ({_repr(value)}) is {problem.option} here: {problem.message}"
    return replace(problem, option=key, message=message)


def _read(option: str, kind: Kind, value: Any) -> tuple[Any, Problem | None]:
    try:
        read = kind.read(value)
    except _WrongType as wanted:
        message = f"{option} must be {wanted}, not {_shown(option, value)}"
        return None, Problem(ProblemKind.TYPE, option, message)
    if bounds := kind.bounds_broken_by(read):
        message = f"{option} must be {bounds}, not {_repr(value)}"
        return None, Problem(ProblemKind.BOUNDS, option, message)
    return read, None


def _shown(option: str, value: Any) -> str:
    # What stands there by mistake may be the secret itself.
    if option in {"credentials", "native"}:
        return f"a {type(value).__name__}"
    return _repr(value)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 (a number with too many digits, or its own fault)
        return f"a {type(value).__name__}"


def _is_a(value: Any, *kinds: type) -> bool:
    """`isinstance()`, but for lazy objects that claim to be what they stand for."""
    return issubclass(type(value), kinds)


def _sizes_problem(
    min_size: int,
    max_size: int,
    least: str = "min_size",
    most: str = "max_size",
) -> Problem | None:
    """What is wrong with sizes, by the keys that said them."""
    if min_size <= max_size:
        return None
    return Problem(
        ProblemKind.BOUNDS,
        least,
        f"{least} must be from 0 to {most} ({max_size}), not {min_size}",
    )


def _is_none(value: Any) -> bool:
    return value is None or (
        isinstance(value, str) and value.strip().lower() in {"none", "null"}
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("neither a number nor text")
    return value.strip()
