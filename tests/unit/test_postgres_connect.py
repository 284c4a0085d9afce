"""What is said when there is no Postgres, or a wrong DSN; never with its password."""

import psycopg
import pytest
from pydantic import SecretStr

from config.errors import ConfigurationError, NotReachable, Refused
from config.settings import Settings
from sinks.postgres import connect, lost


def test_a_server_that_does_not_answer_is_waited_for_and_named_without_the_password(
    plain_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = SecretStr("postgresql://wallet:sesame@127.0.0.1:1/wallet")
    with pytest.raises(NotReachable, match=r"PostgreSQL did not answer within 0\.3 s") as failed:
        connect(plain_settings.model_copy(update={"postgres": dsn, "startup_wait_s": 0.3}))
    assert "waiting_for_postgres" in caplog.messages
    assert "\n" not in str(failed.value)
    assert "sesame" not in str(failed.value) + caplog.text
    assert "sesame" not in "".join(str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize("dsn", ["host=x password=sesame ;;", "postgresql://u:sesame@[h/db"])
def test_a_dsn_that_is_none_is_refused_without_showing_it(plain_settings: Settings, dsn: str) -> None:
    with pytest.raises(ConfigurationError) as failed:
        connect(plain_settings.model_copy(update={"postgres": SecretStr(dsn)}), wait_s=0)
    assert "WALLET_POSTGRES" in str(failed.value)
    assert "sesame" not in str(failed.value)


@pytest.mark.parametrize(
    "password",
    ["p@sesame", "p@s:sesame", "12/sesame", "p/sesame", "sesame@", "p@ses:ame@sesame", "p@sesame/x"],
)
def test_of_a_password_that_is_not_escaped_nothing_is_shown(plain_settings: Settings, password: str) -> None:
    dsn = SecretStr(f"postgresql://wallet:{password}@127.0.0.1:1/wallet")
    with pytest.raises(ConfigurationError, match="%40") as failed:
        connect(plain_settings.model_copy(update={"postgres": dsn}), wait_s=0)
    assert "ses" not in str(failed.value)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("sslmode=sometimes", 'invalid sslmode value: "sometimes"'),
        (
            "sslmode=verify-full&sslrootcert=/nowhere/ca.crt",
            "sslrootcert of WALLET_POSTGRES is not a file: /nowhere",
        ),
        ("sslmode=verify-full&sslrootcert=/tmp", "sslrootcert of WALLET_POSTGRES is not a file: /tmp"),
        ("sslmode=prefer&sslrootcert=system", "may not be used with sslrootcert"),
        ("channel_binding=maybe", "invalid channel_binding value"),
    ],
)
def test_an_option_that_is_wrong_is_told_at_once_though_nobody_answers(
    plain_settings: Settings, option: str, said: str
) -> None:
    dsn = SecretStr(f"postgresql://wallet:sesame@127.0.0.1:1/wallet?{option}")
    with pytest.raises(ConfigurationError) as failed:
        connect(plain_settings.model_copy(update={"postgres": dsn}), wait_s=3_600)
    assert said in str(failed.value)
    assert "sesame" not in str(failed.value)


def test_a_database_without_the_pipelines_tables_is_named_in_one_line() -> None:
    told = lost(psycopg.errors.UndefinedTable('relation "wallets" does not exist'))
    assert isinstance(told, Refused)
    assert 'relation "wallets" does not exist: run `wallet init`' in str(told)
