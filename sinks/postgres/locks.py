"""Advisory locks, which let only one process do a job: which session has one, for people."""

from sinks.postgres import Connection


def holder(connection: Connection, lock: int) -> str | None:
    """The session that has this lock, as far as this one may see it; None if it has just ended."""
    row = connection.execute(
        """
        SELECT a.application_name, a.usename, a.pid, coalesce(host(a.client_addr), 'an unknown address')
        FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
            AND (l.classid::bigint << 32 | l.objid::bigint) = %s AND l.objsubid = 1
        """,
        [lock],
    ).fetchone()
    if row is None:
        return None
    name, user, backend, host = row
    return f"{name or f'a session of {user} without a name'} (backend {backend}, from {host})"
