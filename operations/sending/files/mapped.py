"""Turn rows with the user's own columns into the fields of a transaction, by a map (docs/files.md)."""

import json
from collections.abc import Iterable, Sequence
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

from operations.sending.files.mapping import Amount, Mapping, Text, TransactionId, Type
from operations.sending.files.shape import METADATA, BadLine, Fields, Shape, quoted
from operations.sending.files.temporary import Seen
from operations.sending.files.values import MINOR_DIGITS, Money, Times, text_of

#: Namespace of ids derived from columns (UUID version 5); documented, so that others can derive the same ids.
DERIVED = uuid5(NAMESPACE_URL, "urn:wallet-ledger:derived-id")
_TIMES = ("occurred_at", "recorded_at")


class Mapped:
    """Applies a map to the columns and rows of one file; remembers the ids it derived."""

    def __init__(self, mapping: Mapping, shape: Shape) -> None:
        self._map, self._shape = mapping, shape
        self._amount = mapping.amount or Amount()
        self._type = mapping.type or Type(column="type")
        self._id = mapping.transaction_id or TransactionId(column="transaction_id")
        self._money = Money(self._amount.decimal_mark, self._amount.thousands_mark)
        described = {name: getattr(mapping, name) for name in _TIMES if name in shape.known}
        self._times = {
            name: table and Times(table.formats, ZoneInfo(table.zone) if table.zone else None)
            for name, table in described.items()
        }
        self._seen = Seen()
        #: Every column that the map reads, without metadata columns under their usual names.
        self.known = self._columns(shape.known)
        self._needed = self._columns(
            name for name in shape.known if name in shape.required or self._says(name)
        )

    def close(self) -> None:
        """Forget the derived ids."""
        self._seen.close()

    # -- the columns

    def wants(self, name: str) -> bool:
        """Whether a column is read."""
        usual = self._map.metadata is None and (name == "metadata" or name.startswith(METADATA))
        return name in self.known or (usual and self._shape.metadata)

    def problem(self, names: Sequence[str]) -> str | None:
        """Columns of the map that the file does not have, or of the file that the map does not mention, or None."""
        if lacks := [name for name in self._needed if name not in names]:
            return f"the map reads {quoted(lacks)}, which the file does not have"
        return self.strange(names)

    def strange(self, names: Iterable[str]) -> str | None:
        """Columns that the map does not mention, unless it ignores those."""
        others = [name for name in names if not self.wants(name)]
        if not others or self._map.other_columns != "refuse":
            return None
        if "recorded_at" not in self._shape.known and (table := self._map.recorded_at):
            dated = [name for name in table.taken() or ["recorded_at"] if name in others]
            if dated:
                return (
                    f"{quoted(dated)} cannot be used as recorded_at: records that are sent get Kafka's time. To keep "
                    'dates, use `wallet import`; to leave them out, set other_columns = "ignore"'
                )
        return f'{quoted(others)} not in the map: add them, or set other_columns = "ignore"'

    @property
    def zoned(self) -> frozenset[str]:
        """Columns whose times get their zone from the map."""
        tables = {name: getattr(self._map, name) for name in self._times}
        return frozenset(
            column
            for name, table in tables.items()
            if table and table.zone
            for column in table.taken() or [name]
        )

    def _says(self, name: str) -> bool:
        return getattr(self._map, name) is not None

    def _columns(self, names: Iterable[str]) -> tuple[str, ...]:
        found = [column for name in names for column in self._columns_of(name)]
        return tuple(dict.fromkeys([*found, *(self._map.metadata or {}).values()]))

    def _columns_of(self, name: str) -> Sequence[str]:
        if name == "amount":
            return self._amount.taken()
        if name == "type" and self._amount.debit:
            return []
        table = getattr(self._map, name)
        if table is None or (name in _TIMES and table.column is None):
            return [name]
        return list(table.taken())

    # -- the rows

    def fields(self, row: Fields) -> Fields:
        """The fields of a transaction; raises BadLine."""
        fields: Fields = {name: self._plain(row, name) for name in ("wallet_id", "currency", "group_id")}
        fields |= {name: self._time(row, name, times) for name, times in self._times.items()}
        fields["type"], fields["amount"] = self._type_and_amount(row, fields["currency"])
        fields["transaction_id"] = self._id_of(row)
        if self._map.metadata is None:
            fields |= {name: row[name] for name in row if self.wants(name) and name not in self.known}
        else:
            fields |= {f"{METADATA}{key}": row.get(column) for key, column in self._map.metadata.items()}
        return fields

    def _plain(self, row: Fields, name: str) -> object:
        table = getattr(self._map, name)
        if isinstance(table, Text) and table.constant:
            return table.constant
        return row.get(table.column if table else name)

    def _time(self, row: Fields, name: str, times: Times | None) -> object:
        columns = self._columns_of(name)
        if not all(row.get(column) is not None for column in columns):
            return None
        value = row[columns[0]] if len(columns) == 1 else " ".join(text_of(row, column) for column in columns)
        return times.read(value, " and ".join(columns)) if times else value

    def _id_of(self, row: Fields) -> object:
        """An id from its column, or derived: the same values give the same id, whoever sends them and whenever."""
        if self._id.derived_from is None:
            return row.get(str(self._id.column))
        cells = [None if (cell := row.get(name)) is None else str(cell) for name in self._id.derived_from]
        if not any(cells):
            raise BadLine(f"all of {quoted(self._id.derived_from)} are empty, so no id can be derived")
        name = _as_name(cells)
        try:
            times = self._seen.times(name)
        except UnicodeEncodeError:
            raise BadLine("the id cannot be derived: a column is not Unicode text") from None
        if times > 1 and self._id.repeats == "refuse":
            raise BadLine(
                f"another row has the same {quoted(self._id.derived_from)}, so both would get the same id: derive it "
                'from more columns, or set repeats = "number"'
            )
        return str(uuid5(DERIVED, name if times == 1 else _as_name([*cells, times])))

    # -- money

    def _type_and_amount(self, row: Fields, currency: object) -> tuple[object, object]:
        if self._amount.debit and self._amount.credit:
            return self._of_two(row, currency, {"DEBIT": self._amount.debit, "CREDIT": self._amount.credit})
        [column] = self._amount.taken()
        value = row.get(column)
        if value is not None and (self._map.amount or self._type.minus):
            value = amount = self._minor(value, column, currency)
            if self._type.minus:
                other = "DEBIT" if self._type.minus == "CREDIT" else "CREDIT"
                return (self._type.minus if amount < 0 else other), abs(amount)
        return self._word(row), value

    def _of_two(self, row: Fields, currency: object, columns: dict[str, str]) -> tuple[object, object]:
        """The type is that of the column that is filled; a zero counts as empty."""
        filled = {
            kind: amount
            for kind, column in columns.items()
            if (value := row.get(column)) is not None and (amount := self._minor(value, column, currency))
        }
        if len(filled) != 1:
            raise BadLine(f"{'both' if filled else 'none'} of {quoted([*columns.values()])} have an amount")
        [(kind, amount)] = filled.items()
        if amount < 0:
            raise BadLine(
                f"{columns[kind]!r} has a sign, but its amounts are already of type {kind}: leave the sign out"
            )
        return kind, amount

    def _minor(self, value: object, column: str, currency: object) -> int:
        return self._money.minor_units(value, self._digits(currency), column)

    def _digits(self, currency: object) -> int:
        if not self._amount.decimal_mark:
            return 0
        given = self._amount.minor_digits
        if isinstance(given, int):
            return given
        digits = (given or {}).get(str(currency), MINOR_DIGITS.get(str(currency)))
        if digits is None:
            raise BadLine(
                f"currency {str(currency)[:10]!r} has no minor digits in ISO 4217: set amount.minor_digits in the map"
            )
        return digits

    def _word(self, row: Fields) -> object:
        if self._type.constant or self._map.type is None:
            return self._type.constant or row.get("type")
        word = row.get(str(self._type.column))
        if word is None or word in self._type.credit:
            return word and "CREDIT"
        if word in self._type.debit:
            return "DEBIT"
        raise BadLine(
            f"{self._type.column} {str(word)[:20]!r} is not one of {', '.join((*self._type.credit, *self._type.debit))}"
        )


def _as_name(parts: Sequence[str | int | None]) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
