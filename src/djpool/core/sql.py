"""Read the text of SQL: leave out literals and comments, and split at semicolons.

This knows the dialects' quotes and comments, and nothing of their grammar. A regular
expression finds one token at a time, and each token begins behind the one before it.
No expression has a repetition within a repetition, and those that search begin with a
fixed character or behind a word. So the time is proportional to the text's length,
whatever the text is.

How a text is read may depend on the session's settings. Such a text has several
readings, and each of them counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

# A text with more characters, tokens or statements is in doubt. Hostile texts of this
# size take some tens of milliseconds.
MOST_CHARACTERS, MOST_TOKENS, MOST_STATEMENTS = 8_000_000, 100_000, 10_000
# Comments within comments.
DEEPEST = 1_000
# In a text with more tokens or characters, most tokens may be doubled quotes ('it''s').
FEW_TOKENS, LONG = 1_000, 50_000
# Stands for the opening of a comment that may be run. No text has it otherwise.
RUN = "\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a database reads quotes and comments."""

    #: The quotes of literals.
    literals: str = "'"
    #: The quotes of names. "[" ends with "]", and is the last.
    names: str = '"'
    #: True if a setting decides whether a backslash escapes a quote in a literal.
    backslashes: bool = False
    #: True if a setting decides whether "…" is a literal or a name.
    ansi_quotes: bool = False
    #: E'…', in which a backslash always does.
    e_literals: bool = False
    #: $$…$$ and $tag$…$tag$.
    dollars: bool = False
    #: q'[…]'.
    q_literals: bool = False
    #: What begins a comment that ends with its line; regular expressions.
    line_comments: tuple[str, ...] = ("--",)
    #: The characters that end such a comment, as in a regular expression's class.
    line_ends: str = r"\n"
    #: True if servers may differ in whether a carriage return does.
    unsure_of_returns: bool = False
    #: True if /* /* */ */ is one comment.
    nested: bool = False
    #: True if a comment without an end runs to the end of the text.
    endless: bool = False
    #: True if /*! … */ is run, on some servers.
    running: bool = False
    #: True if statements run within this process. Then a long literal costs less than
    #: to find each of its doubled quotes, and a text with many is in doubt.
    in_process: bool = False


class Reading(NamedTuple):
    """A text as one server reads it."""

    #: Each statement in lower case, without its literals and comments. "'" stands for
    #: a literal. A name in quotes is followed by its closing quote, and that quote
    #: alone stands for a name with other characters than a word has.
    statements: list[str]
    #: False if a literal, name or comment has no end. Then the statement that it
    #: stands in is left out: the server refuses it.
    complete: bool


class _Splitter(NamedTuple):
    """How to split a text that has some kinds of tokens."""

    split: Callable[[str, int], list[str]]
    #: So many pieces for each token: what is before it, and the groups.
    stride: int
    #: True if the last group is of a comment without an end.
    comments: bool
    #: True if the last group, or the one before that, is of a [ without an end.
    brackets: bool


UNREADABLE = Reading([], complete=False)

STANDARD = Dialect(unsure_of_returns=True)
POSTGRESQL = Dialect(
    backslashes=True, e_literals=True, dollars=True, line_ends=r"\r\n", nested=True
)
MYSQL = Dialect(
    literals="'\"",
    names="`",
    backslashes=True,
    ansi_quotes=True,
    # Two dashes without a space may be minus minus.
    line_comments=(r"--(?=[\x00-\x20\x7f]|\Z)", "#"),
    running=True,
)
SQLITE = Dialect(names='"`[', endless=True, in_process=True)
ORACLE = Dialect(q_literals=True, unsure_of_returns=True)

# Makes no token of what is around it, as a space would of --''.
_NEUTRAL = "~"
_CLOSING = {"[": "]"}
_SIMPLE = r"[\w$]+"
_SIMPLE_NAME = re.compile(_SIMPLE)
_NESTING = re.compile(r"/\*|\*/")
_RETURN = re.compile(r"\r(?!\n)")
_MAY_RUN = re.compile(r"/\*[mM]?!")
# To servers every character beyond ASCII is a letter.
_LETTER = "a-zA-Z_\x80-\U0010ffff"
_WORD = f"[{_LETTER}][{_LETTER}0-9$]*"
# Several words. What is behind the last of them decides how that one is read, so it is
# left for the next search.
_BETWEEN = r" \t\r\n\f\v(),.="
_PHRASE = f"[{_LETTER}][{_LETTER}0-9{_BETWEEN}]*[{_BETWEEN}]"
_DOLLARS = rf"\$(?:[{_LETTER}][{_LETTER}0-9]*)?\$"
_NUMBER_AND_DOLLARS = rf"\$?[0-9][{_LETTER}0-9.]*{_DOLLARS}"
# Pairs of quotes in q'[…]'; any other character is its own partner.
_Q_PAIRS = {"[": "]", "{": "}", "(": ")", "<": ">"}


class Lexer:
    """Reads texts of one dialect. Thread-safe.

    Most texts are read by `re.split()`, at C's speed. Tokens whose end no regular
    expression finds in one pass (nested comments, dollar quotes, escapes) are read one
    at a time, but only in texts that seem to have some.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._quotes = dialect.literals + dialect.names
        self._alternatives = _alternatives(dialect)
        # By what opens tokens in a text: how to split it, and so many pieces for each
        # token. A text without names, say, takes half of the time.
        self._splitters: dict[tuple[str, ...], _Splitter] = {}
        self._rest_of_line = re.compile(rf"[^{dialect.line_ends}]*")
        self._opening = _opening(dialect)
        self._dollars = re.compile(_DOLLARS)
        self._other: Lexer | None = None
        if dialect.unsure_of_returns:
            ends = rf"{dialect.line_ends}\r"
            other = replace(dialect, line_ends=ends, unsure_of_returns=False)
            self._other = Lexer(other)

    def readings(self, text: str) -> list[Reading]:
        """Read the text as each server would that takes this dialect."""
        if RUN in text or len(text) > MOST_CHARACTERS:
            return [UNREADABLE]
        texts = [text]
        if self._dialect.backslashes and "\\" in text:
            # Without its escapes a literal ends where it begins to be read.
            without = text.replace("\\\\", _NEUTRAL * 2)
            escaped = [f"\\{quote}" for quote in self._dialect.literals]
            if any(each in without for each in escaped):
                for each in escaped:
                    without = without.replace(each, _NEUTRAL * 2)
                texts.append(without)
        if self._dialect.running and "!" in text and _MAY_RUN.search(text):
            texts += [_MAY_RUN.sub(RUN, each) for each in texts]
        found = [self._reading(each) for each in texts]
        if self._other is not None and "\r" in text and _RETURN.search(text):
            found += self._other.readings(text)
        return found

    def _reading(self, text: str) -> Reading:
        if self._needs_steps(text):
            code, complete = self._in_steps(text)
        else:
            code, complete = self._at_once(text)
        statements = code.lower().split(";", MOST_STATEMENTS)
        if len(statements) > MOST_STATEMENTS:
            return UNREADABLE
        return Reading(statements if complete else statements[:-1], complete)

    # -- at once -------------------------------------------------------------------

    def _at_once(self, text: str) -> tuple[str, bool]:
        """Return what is no literal and no comment; False if one has no end."""
        splitter = self._splitter(text)
        if splitter is None:
            return text, True
        pieces = self._split(text, splitter)
        complete = bool(pieces)
        if len(pieces) > 1:
            if splitter.comments and pieces[-2] is not None:  # one without an end
                if self._dialect.nested:
                    return self._in_steps(text)  # or perhaps with several
                del pieces[-2:]
                complete = self._dialect.endless
            elif splitter.brackets and pieces[-2 - splitter.comments] is not None:
                del pieces[-2 - splitter.comments :]
                complete = False
        outside = "".join(pieces[:: splitter.stride])
        for quote in self._quotes:
            if quote in outside:
                return self._until_left_open(pieces, splitter.stride), False
        return " ".join(filter(None, pieces)), complete

    def _splitter(self, text: str) -> _Splitter | None:
        # Single characters are found ten times as soon as pairs.
        openings = tuple(
            each for each in self._alternatives if each[-1] in text and each in text
        )
        if not openings:
            return None
        found = self._splitters.get(openings)
        if found is None:
            alternatives = [
                alternative
                for opening in openings
                for alternative in self._alternatives[opening]
            ]
            tokens = re.compile("|".join(alternatives), re.DOTALL)
            found = _Splitter(
                tokens.split,
                tokens.groups + 1,
                comments="/*" in openings,
                brackets="[" in openings,
            )
            self._splitters[openings] = found
        return found

    def _split(self, text: str, splitter: _Splitter) -> list[str]:
        """Return what stands between the tokens, and what stays of each; [] if many."""
        split, stride = splitter.split, splitter.stride
        pieces = split(text, FEW_TOKENS)
        if len(pieces) <= FEW_TOKENS * stride:
            return pieces
        if pieces[::stride].count("") > FEW_TOKENS / 2:
            if self._dialect.in_process:
                return []
            text = self._without_doubled(text)
        pieces = split(text, MOST_TOKENS)
        return pieces if len(pieces) <= MOST_TOKENS * stride else []

    def _without_doubled(self, text: str) -> str:
        # Two quotes in a row open and close nothing, wherever they stand.
        for quote in self._dialect.literals:
            text = text.replace(quote * 2, _NEUTRAL)
        return text

    def _until_left_open(self, pieces: list[str], stride: int) -> str:
        """Return what stands before the first quote that no other quote closes."""
        kept: list[str] = []
        for number, piece in enumerate(pieces):
            if number % stride == 0:
                found = [piece.find(each) for each in self._quotes if each in piece]
                if found:
                    kept.append(piece[: min(found)])
                    break
            if piece:
                kept.append(piece)
        return " ".join(kept)

    # -- in steps ------------------------------------------------------------------

    def _needs_steps(self, text: str) -> bool:
        dialect = self._dialect
        return (
            (dialect.e_literals and "\\" in text and "\\'" in text)
            or (dialect.q_literals and ("q'" in text or "Q'" in text))
            or (dialect.dollars and "$" in text and bool(self._dollars.search(text)))
        )

    def _in_steps(self, text: str) -> tuple[str, bool]:
        """Return the same as `_at_once()`, for any text of the dialect."""
        if len(text) > LONG and "\\'" not in text:
            text = self._without_doubled(text)
        pieces: list[str] = []
        start = position = tokens = 0
        complete = True
        while found := self._opening.search(text, position):
            position = found.end()
            tokens += 1
            if tokens > MOST_TOKENS:
                return "", False
            if found.lastindex == 1:  # a word, or a number
                continue
            opening = found[0]
            # The E of E'…' stays.
            begin = position - 1 if opening[0] in "eE" else found.start()
            pieces.append(text[start:begin])
            end, kept = self._token(text, opening, position)
            if end < 0:
                complete = opening == "/*" and self._dialect.endless
                start = len(text)
                break
            if kept:
                pieces.append(kept)
            start = position = end
        pieces.append(text[start:])
        return " ".join(pieces), complete

    def _token(self, text: str, opening: str, begin: int) -> tuple[int, str]:
        """Return where a token ends (-1 if nowhere), and what of it stays."""
        last = opening[-1]
        if opening in self._dialect.names:
            closing = _CLOSING.get(opening, opening)
            end = text.find(closing, begin)
            simple = _SIMPLE_NAME.fullmatch(text, begin, end) if end > begin else None
            return end + 1 or -1, f"{simple[0] if simple else ''}{closing}"
        if last in self._dialect.literals:
            return _end_of_literal(text, opening, begin), last
        if last == "$":
            # Servers differ in what a dollar right behind a number is.
            unclear = opening[0] != "$" or opening[1].isdigit()
            return -1 if unclear else _end_of(text, opening, begin), "'"
        if opening == "/*":
            nested = self._dialect.nested
            return (_end_of_nested if nested else _end_of_comment)(text, begin), ""
        rest = self._rest_of_line.match(text, begin)
        assert rest is not None, "it matches anything"
        return rest.end(), ""


# Each returns the position behind the end of a token, or -1 if it has none.


def _end_of(text: str, closing: str, begin: int) -> int:
    end = text.find(closing, begin)
    return end if end < 0 else end + len(closing)


def _end_of_comment(text: str, begin: int) -> int:
    return _end_of(text, "*/", begin)


def _end_of_literal(text: str, opening: str, begin: int) -> int:
    if len(opening) == 1:
        return _end_of(text, opening, begin)
    if opening[0] in "eE":
        return _end_of_escaped(text, begin)
    partner = text[begin : begin + 1]
    if not partner or partner.isspace():
        return -1
    return _end_of(text, f"{_Q_PAIRS.get(partner, partner)}'", begin + 1)


def _end_of_escaped(text: str, begin: int) -> int:
    while (end := text.find("'", begin)) >= 0:
        before = text[begin:end]
        escapes = len(before) - len(before.rstrip("\\"))
        if escapes % 2 == 0:
            if not text.startswith("'", end + 1):
                return end + 1
            end += 1  # a doubled quote
        begin = end + 1
    return -1


def _end_of_nested(text: str, begin: int) -> int:
    depth = 1
    for found in _NESTING.finditer(text, begin):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
        if depth > DEEPEST:
            break
    return -1


def _alternatives(dialect: Dialect) -> dict[str, list[str]]:
    """Return by what a token opens: the expressions for it.

    Each begins with a character, so the search skips all others at once. Its one group
    is what stays in the text.
    """
    found = {each: [f"{each}[^{each}]*({each})"] for each in dialect.literals}
    if dialect.ansi_quotes:
        # Before a parenthesis it can only be a name.
        found['"'].insert(0, rf'"({_SIMPLE}")(?=\s*\()')
    for begin in dialect.line_comments:
        opening = "#" if begin == "#" else "--"
        found[opening] = [f"{begin}[^{dialect.line_ends}]*"]
    for quote in dialect.names:
        opening, closing = re.escape(quote), re.escape(_CLOSING.get(quote, quote))
        found[quote] = [
            f"{opening}({_SIMPLE}{closing})",
            f"{opening}[^{closing}]*({closing})",
        ]
    # Last in a pattern, and here: what has no end takes all that is left. So the next
    # opening is not tried, and the text is not searched for its end once more. (Quotes
    # that are their own ends need no such care: the next would have been the end.)
    if "[" in found:
        assert dialect.names[-1] == "[", "so that its last group is the last"
        found["["].append(r"\[(.*)")
    # A comment with none of its characters in it is not nested.
    comment = r"/\*[^*/]*\*/" if dialect.nested else r"/\*.*?\*/"
    found["/*"] = [comment, r"/(\*.*)"]
    return found


def _opening(dialect: Dialect) -> re.Pattern[str]:
    """Return what finds the next token of a text that is read in steps."""
    alternatives = []
    if dialect.e_literals:
        alternatives.append("[eE]'")
    if dialect.q_literals:
        alternatives.append("[nN]?[qQ]'")
    if dialect.dollars:
        alternatives.append(_NUMBER_AND_DOLLARS)
    # Words are tokens because they may have dollars in them.
    alternatives.append(rf"({_PHRASE}|{_WORD}|\$?[0-9][{_LETTER}0-9.]*)")
    if dialect.dollars:
        alternatives.append(_DOLLARS)
    alternatives += [re.escape(each) for each in dialect.literals + dialect.names]
    alternatives += [*dialect.line_comments, r"/\*"]
    return re.compile("|".join(alternatives))


class AnyLexer:
    """Reads texts of a database whose dialect is not known. Thread-safe."""

    def __init__(self) -> None:
        self._standard = Lexer(STANDARD)
        self._others = [Lexer(each) for each in (POSTGRESQL, MYSQL, SQLITE, ORACLE)]

    def readings(self, text: str) -> list[Reading]:
        """Read the text as each server would, whatever its dialect."""
        found = self._standard.readings(text)
        if _DIFFERS.search(text):
            for lexer in self._others:
                found += lexer.readings(text)
        return found


# Without these, the dialects do not differ in how a text is read.
_DIFFERS = re.compile(r"\\|#|`|\[|\$|--|/\*|q'|Q'")

# -- what stands in a statement that was read -------------------------------------

_WORDS = re.compile(_SIMPLE)
_CALLS = re.compile(r"(?<![\w$])([\w$]+)[\"`\]]?\s*\(")
_ODD_CALLS = re.compile(r"(?<![\w$])[\"`\]]\s*\(")
# A name that is not called, between a keyword and a parenthesis. Only statements that
# define something have the keywords of `_DEFINED`.
_NAME = r"(?:[\w$]+[\"`\]]?|[\"`\]])"
_INTRODUCED = rf"(?<![\w$])(?:{{}})\s+(?:{_NAME}\s*\.\s*)?{_NAME}\s*(?=\()"
_AS = re.compile(_INTRODUCED.format("as"))
_DEFINED = re.compile(
    _INTRODUCED.format(
        "aggregate|as|column|domain|exists|function|index|into|on|only|procedure"
        "|references|routine|table|type|using|view"
    )
)


def words(code: str) -> list[str]:
    """Return the words of a statement, names in quotes among them."""
    return _WORDS.findall(code)


def calls(code: str, *, defining: bool = False) -> set[str]:
    """Return the words before parentheses, and "" if a name that is none stands there.

    If the statement is `defining`, the names that it defines are left out.
    """
    code = (_DEFINED if defining else _AS).sub(" , ", code)
    found = set(_CALLS.findall(code))
    if defining:
        found -= {"add", "modify"}  # of columns
    if _ODD_CALLS.search(code):
        found.add("")
    return found


# What may stand before a parenthesis and neither changes nor leaves anything: keywords,
# types, and functions that databases have built in.
_FUNCTIONS = """
all always and any array as asc between by case cast check collate conflict
constraint cross cube default desc distinct do else end escape except exists extract
filter first following for foreign from full generated group grouping having
identity ilike in include inner intersect into is isnull join key lateral left like
limit materialized next not notnull nulls of offset on or order outer over partition
primary qualify range recursive references returning right rollup row rows select
set sets some table tables tablesample temporary then union unique using values when
where window with within

bigint binary bit blob bool boolean bpchar bytea char character clob date decimal
double float float4 float8 int int2 int4 int8 integer interval nchar number numeric
nvarchar nvarchar2 raw real smallint text time timestamp timestamptz timetz tinyint
unsigned uuid varbinary varbit varchar varchar2 varying zone

abs acos acosh age any_value approx_count_distinct array_agg array_append array_cat
array_dims array_fill array_length array_lower array_ndims array_position
array_positions array_prepend array_remove array_replace array_to_json
array_to_string array_upper ascii asin asinh atan atan2 atanh avg bit_and bit_count
bit_length bit_or bit_xor bool_and bool_or btrim cardinality cbrt ceil ceiling
changes char_length character_length chr clock_timestamp coalesce concat concat_ws
convert corr cos cosh cot count covar_pop covar_samp cume_dist curdate
current_database current_date current_schema current_schemas current_setting
current_time current_timestamp current_user currval curtime datalength date_add
date_bin date_format date_part date_sub date_trunc dateadd datediff datename
datepart datetime day dayofmonth dayofweek dayofyear decode degrees dense_rank
encode every exp factorial first_value floor format format_type found_rows
from_unixtime gcd gen_random_uuid generate_series getdate greatest grouping_id hash
hex host hour ifnull iif inet_client_addr initcap instr isfinite isnull json jsonb
julianday justify_days justify_hours justify_interval lag last_day last_insert_id
last_insert_rowid last_value lastval lcase lcm lead least len length listagg ln
localtime localtimestamp locate log log10 log2 lower lpad ltrim make_date
make_interval make_time make_timestamp make_timestamptz max md5 median microsecond
min minute mod mode month monthname multirange newid now nth_value ntile nullif nvl
nvl2 obj_description octet_length ordinality overlaps overlay parse_ident
percent_rank percentile_cont percentile_disc phraseto_tsquery pi plainto_tsquery
position pow power quarter quote_ident quote_literal quote_nullable radians random
rank regexp_count regexp_instr regexp_like regexp_match regexp_matches
regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr repeat
replace reverse round row_count row_number row_to_json rpad rtrim scope_identity
second session_user set_config setweight sha1 sha2 sha224 sha256 sha384 sha512
shobj_description sign similarity sin sinh split_part sqrt st_dwithin starts_with
statement_timestamp stddev stddev_pop stddev_samp str strftime
strict_word_similarity string_agg string_to_array string_to_table strip strpos
substr substring sum sys_context sysdate sysdatetime systimestamp tan tanh timeofday
timestampadd timestampdiff to_ascii to_char to_date to_json to_jsonb to_number
to_timestamp to_tsquery to_tsvector total_changes transaction_timestamp translate
translate_regex trim trunc truncate ts_headline ts_rank ts_rank_cd tsvector_to_array
typeof ucase unaccent unicode unistr unixepoch unnest upper user utc_date utc_time
utc_timestamp uuid_generate_v4 uuidv4 uuidv7 var_pop var_samp variance version
websearch_to_tsquery week weekday width_bucket word_similarity xmlagg xmlelement
xmlforest year yearweek
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
# Functions of which the first part of the name says as much.
FAMILIES = ("json_", "jsonb_", "pg_", "regr_", "st_")


def is_harmless(name: str) -> bool:
    """Tell whether a word before a parenthesis is known to leave nothing behind."""
    return name in FUNCTIONS or name.startswith(FAMILIES)
