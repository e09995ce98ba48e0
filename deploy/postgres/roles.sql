-- Roles of the lightcurve store on a server of yours: a writer for the dumper, a reader for people and pages.
-- No superuser is needed: run it as a role that may create roles and databases (on a managed server its administrator).
--
--     psql postgresql://admin@db.observatory/postgres -v database=lightcurves -f deploy/postgres/roles.sql
--     psql postgresql://admin@db.observatory/postgres -c '\password trapline_writer'
--     psql postgresql://admin@db.observatory/postgres -c '\password trapline_reader'
--     trapline db init --config mesh.toml        # mesh.toml: [database] dsn = "postgresql://trapline_writer@.../lightcurves"
--
-- The writer owns the database and all tables in it: it makes and drops partitions. Where the server has the extension
-- q3c, `CREATE EXTENSION q3c` in the new database by its administrator makes it used; otherwise SQL functions of the same
-- names and results are made by `db init`.

\if :{?database}
\else
    \set database lightcurves
\endif
\set ON_ERROR_STOP on

SELECT 'CREATE ROLE trapline_writer LOGIN' WHERE to_regrole('trapline_writer') IS NULL \gexec
SELECT 'CREATE ROLE trapline_reader LOGIN' WHERE to_regrole('trapline_reader') IS NULL \gexec

-- To make a database for another role one must be able to become it; who made a role of PostgreSQL 16 may only grant it.
GRANT trapline_writer TO CURRENT_USER;
SELECT format('CREATE DATABASE %I OWNER trapline_writer', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec

-- Readers hold no one up and are held up by no one; a query that takes longer than a minute is a mistake.
ALTER ROLE trapline_reader SET default_transaction_read_only = on;
ALTER ROLE trapline_reader SET statement_timeout = '60s';
ALTER ROLE trapline_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE trapline_reader SET lock_timeout = '5s';
ALTER ROLE trapline_reader CONNECTION LIMIT 50;
ALTER ROLE trapline_writer SET lock_timeout = '5s';
ALTER ROLE trapline_writer SET idle_in_transaction_session_timeout = '60s';

REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO trapline_reader;

\connect :"database"
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO trapline_reader;
GRANT CREATE, USAGE ON SCHEMA public TO trapline_writer;
-- What the writer makes from now on, the tables of `db init` and later partitions among them, readers may read.
ALTER DEFAULT PRIVILEGES FOR ROLE trapline_writer GRANT SELECT ON TABLES TO trapline_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE trapline_writer GRANT USAGE ON SCHEMAS TO trapline_reader;
-- And what is there already, where this file is run again.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO trapline_reader;
