"""Many balances at once, to compare them with another system's."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sinks.postgres import Connection


class Asked(NamedTuple):
    """A wallet, and the time by recorded_at that its balance is asked for; None is now."""

    wallet_id: str
    at: datetime | None


class Found(NamedTuple):
    """Its balance in the tables, in minor units; both None for a wallet without any entry."""

    balance: int | None
    currency: str | None


def balances(connection: Connection, asked: Sequence[Asked]) -> list[Found]:
    """The balance functions' answers, in the order of the questions; the balance is 0 before a first entry."""
    rows = connection.execute(
        """
        SELECT
            CASE WHEN asked.at IS NULL THEN wallet_balance(asked.wallet_id)
                ELSE wallet_balance_at(asked.wallet_id, asked.at) END,
            wallets.currency
        FROM unnest(%s::text[], %s::timestamptz[]) WITH ORDINALITY AS asked (wallet_id, at, number)
        LEFT JOIN wallets ON wallets.wallet_id = asked.wallet_id
        ORDER BY asked.number
        """,
        [[one.wallet_id for one in asked], [one.at for one in asked]],
    ).fetchall()
    return [Found(*row) for row in rows]
