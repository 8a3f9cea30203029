#!/bin/sh
# Run once by PostgreSQL's image, on an empty volume. The service's role owns its database and is no superuser: row-level
# security binds no superuser.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --set password="$DATABASE_PASSWORD" <<'SQL'
CREATE ROLE provocative LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE provocative OWNER provocative;
SQL
