"""Many balances at once, to compare them with another system's."""

from collections.abc import Sequence
from datetime import datetime

from sinks.postgres import Connection

#: In minor units, 0 before the first entry; both None for a wallet without any.
Found = tuple[int | None, str | None]


def balances(connection: Connection, wallets: Sequence[str], times: Sequence[datetime | None]) -> list[Found]:
    """Balance and currency of each of these wallets at its time by recorded_at; None is now."""
    return connection.execute(
        """
        SELECT
            CASE WHEN asked.at IS NULL THEN wallet_balance(asked.wallet_id)
                ELSE wallet_balance_at(asked.wallet_id, asked.at) END,
            wallets.currency
        FROM unnest(%s::text[], %s::timestamptz[]) WITH ORDINALITY AS asked (wallet_id, at, number)
        LEFT JOIN wallets ON wallets.wallet_id = asked.wallet_id
        ORDER BY asked.number
        """,
        [wallets, times],
    ).fetchall()
