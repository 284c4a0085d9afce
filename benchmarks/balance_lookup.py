"""How long a wallet's balance at a time takes in PostgreSQL, by how many entries the wallet has.

By hand: `python -m benchmarks.balance_lookup --entries 1000000 --svg docs/balance-lookup.svg`. The rows are made in
SQL; a database of its own is made on the server of WALLET_POSTGRES, or of the local stack, and dropped afterwards.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from config.settings import Settings
from operations.cli import context
from sinks import postgres
from sinks.postgres import Connection, databases
from sinks.postgres.migrations import migrate
from sinks.postgres.months import make_months

WALLET = "busy"
#: Entries are spread evenly over these months.
MONTHS = 12
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=360)
INTERVAL = 100
LOOKUPS = 200


class Timing(NamedTuple):
    """Lookups of one wallet: median and slowest in a hundred, in milliseconds."""

    entries: int
    with_snapshots: tuple[float, float]
    without: tuple[float, float] | None


def fill(settings: Settings, wallet_id: str, entries: int, *, snapshots: bool) -> None:
    """Make a wallet of so many entries of 3 minor units each, evenly over the span, with or without snapshots."""
    migrate(settings)
    with postgres.connect(settings) as connection:
        months = [date(2025, 1 + month, 1) for month in range(MONTHS)]
        make_months(connection, months, settings)
        asked = {"wallet": wallet_id, "entries": entries, "start": BEGIN, "span": SPAN}
        connection.execute(
            "INSERT INTO wallets VALUES (%(wallet)s, 'EUR', %(start)s) ON CONFLICT DO NOTHING", asked
        )
        made = "%(start)s::timestamptz + %(span)s::interval * (n::float8 / %(entries)s) - interval '1 us'"
        connection.execute(
            f"""
            INSERT INTO transactions
            SELECT %(wallet)s, n, gen_random_uuid(), 'CREDIT', 3, 'EUR', at, NULL, '{{}}', 3 * n, at, 0, n - 1,
                sha256(n::text::bytea), ''
            FROM (SELECT n, {made} AS at FROM generate_series(1, %(entries)s) AS n) AS entries
            """,  # noqa: S608 - our own words
            asked,
        )
        if snapshots:
            connection.execute(
                f"""
                INSERT INTO transaction_snapshots
                SELECT %(wallet)s, 'EUR', 3 * n, n, {made}, 0, n - 1, sha256(n::text::bytea), 'INTERVAL'
                FROM generate_series({INTERVAL}, %(entries)s, {INTERVAL}) AS n
                """,  # noqa: S608 - our own words
                asked,
            )
        connection.execute("ANALYZE transactions, transaction_snapshots, wallets")


def measure(settings: Settings, entries: int, lookups: int = LOOKUPS) -> Timing:
    """Fill a wallet with and one without snapshots, and look both up at random times."""
    with_snapshots, without = f"{WALLET}-{entries}", f"{WALLET}-{entries}-bare"
    fill(settings, with_snapshots, entries, snapshots=True)
    fill(settings, without, entries, snapshots=False)
    few = max(5, min(lookups, 20_000_000 // entries))
    with postgres.connect(settings, postgres.READER) as connection:
        return Timing(
            entries, _looked_up(connection, with_snapshots, lookups), _looked_up(connection, without, few)
        )


def _looked_up(connection: Connection, wallet_id: str, lookups: int) -> tuple[float, float]:
    times = random.Random(7)
    taken = []
    for number in range(lookups + 5):
        at = BEGIN + SPAN * times.random()
        began_s = time.perf_counter()
        connection.execute("SELECT wallet_balance_at(%s, %s)", [wallet_id, at]).fetchone()
        if number >= 5:  # the first ones plan
            taken.append((time.perf_counter() - began_s) * 1_000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[-1]


def svg(timings: Sequence[Timing]) -> str:
    """A plot of the medians, both axes logarithmic."""
    width, height, left, bottom = 560, 300, 60, 40
    most = max(timing.entries for timing in timings)

    def place(entries: int, ms: float) -> str:
        x = left + (math.log10(entries) - 3) / max(1.0, math.log10(most) - 3) * (width - left - 20)
        y = 20 + (3 - math.log10(max(ms, 0.1))) / 4 * (height - bottom - 20)
        return f"{x:.1f},{y:.1f}"

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for power in range(-1, 4):
        y = place(1_000, 10.0**power).partition(",")[2]
        lines += [
            f'<line x1="{left}" x2="{width - 20}" y1="{y}" y2="{y}" stroke="#ddd"/>',
            f'<text x="{left - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{10.0**power:g} ms</text>',
        ]
    for timing in timings:
        x = place(timing.entries, 1).partition(",")[0]
        lines.append(f'<text x="{x}" y="{height - 16}" text-anchor="middle">{timing.entries:,}</text>')
    for name, colour, points in (
        ("with snapshots", "#06c", [place(one.entries, one.with_snapshots[0]) for one in timings]),
        ("without", "#c30", [place(one.entries, one.without[0]) for one in timings if one.without]),
    ):
        lines.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(points)}"/>'
        )
        x, _, y = points[-1].partition(",")
        lines.append(f'<text x="{x}" y="{float(y) - 8:.1f}" text-anchor="end" fill="{colour}">{name}</text>')
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    """Measure, print a table, and write the plot if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--entries", type=int, default=1_000_000, help="of the largest wallet; a power of ten"
    )
    parser.add_argument("--svg", type=Path, help="write the plot there")
    arguments = parser.parse_args()
    server = context.current()
    settings = databases.create(server, f"balance_lookup_{random.SystemRandom().randrange(10**6)}")
    try:
        powers = range(3, round(math.log10(arguments.entries)) + 1)
        print("| entries of the wallet | with snapshots: median | slowest 1 % | without: median |")
        print("|---|---|---|---|")
        timings = []
        for power in powers:
            timing = measure(settings, 10**power)
            timings.append(timing)
            bare = f"{timing.without[0]:.2f} ms" if timing.without else "-"
            median, slowest = timing.with_snapshots
            print(f"| {timing.entries:,} | {median:.2f} ms | {slowest:.2f} ms | {bare} |", flush=True)
    finally:
        databases.drop(server, settings.postgres.get_secret_value().rpartition("/")[2])
    if arguments.svg:
        arguments.svg.write_text(svg(timings), "utf-8")


if __name__ == "__main__":
    main()
