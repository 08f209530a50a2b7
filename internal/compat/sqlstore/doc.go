// Package sqlstore tries session/sqlstore on PostgreSQL, MariaDB and SQLite, with the drivers that most programs use.
package sqlstore
