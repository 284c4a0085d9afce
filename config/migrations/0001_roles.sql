-- Groups that logins are put into: sinks write as wallet_writer, people and programs read as wallet_reader.
--
-- Roles belong to the whole server, so another database's init may have made them already, or may be
-- making them at this moment (then the second one sees a unique violation instead of a duplicate).
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['wallet_writer', 'wallet_reader'] LOOP
        IF to_regrole(wanted) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        -- The owner must be able to SET ROLE. Since PostgreSQL 16 creating a role does not include that.
        IF NOT pg_has_role(
            current_user, wanted, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
        ) THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I', wanted, current_user);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END
$$;
