package sqlstore

import (
	"fmt"
	"strings"
	"time"
)

// A Dialect is a kind of SQL.
type Dialect int

const (
	// PostgreSQL is for version 9.5 and later.
	PostgreSQL Dialect = iota + 1
	// MySQL is for MariaDB and MySQL, which behave the same here, with and without the options clientFoundRows and
	// interpolateParams of go-sql-driver/mysql.
	MySQL
	// SQLite is for version 3.24 and later, best in WAL mode. Set busy_timeout to some milliseconds: SQLite waits that long
	// without looking at the context, and the Store tries again by itself until the context ends. For modernc.org/sqlite:
	//
	//	file:sessions.db?_pragma=busy_timeout(20)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)
	SQLite
)

// pruneAge is the time from the expiry of a record to its removal.
const pruneAge = time.Minute

// The statements of a Store.
const (
	stmtLoad = iota
	stmtInsert
	stmtTakeOver
	stmtSwap
	stmtTouch
	stmtDelete
	stmtState
	stmtPage
	stmtPrune
	statements
)

// Schema returns the SQL to create the table and the index unless they exist: statements with a semicolon at the end of each. A tool
// that owns the schema of the database can run the SQL in place of [Store.Setup]. The name of the table is as in
// [Options].Table; for a name that [New] refuses, and for an unknown dialect, Schema returns "".
func Schema(d Dialect, name string) string {
	t, err := parseTable(name)
	if err != nil || d < PostgreSQL || d > SQLite {
		return ""
	}
	return strings.Join(d.schema(t), ";\n") + ";\n"
}

func (d Dialect) schema(t table) []string {
	create := "CREATE TABLE IF NOT EXISTS " + d.quote(t)
	columns := " (\n\tid %s NOT NULL PRIMARY KEY,\n\trev BIGINT NOT NULL,\n\texpires BIGINT NOT NULL,\n\tdata %s NOT NULL%s\n)"
	index := t.name + "_expires"
	switch d {
	case PostgreSQL: // the index is in the schema of its table
		return []string{
			create + fmt.Sprintf(columns, "BYTEA", "BYTEA", ""),
			"CREATE INDEX IF NOT EXISTS " + d.quote(table{name: index}) + " ON " + d.quote(t) + " (expires)",
		}
	case MySQL: // which has no CREATE INDEX IF NOT EXISTS
		key := ",\n\tKEY " + d.quote(table{name: index}) + " (expires)"
		return []string{create + fmt.Sprintf(columns, "BINARY(32)", "LONGBLOB", key) + " ENGINE=InnoDB"}
	default:
		return []string{
			create + fmt.Sprintf(columns, "BLOB", "BLOB", ""),
			"CREATE INDEX IF NOT EXISTS " + d.quote(table{t.schema, index}) + " ON " + d.quote(table{name: t.name}) + " (expires)",
		}
	}
}

func (d Dialect) quote(t table) string {
	q := `"`
	if d == MySQL {
		q = "`"
	}
	name := q + t.name + q
	if t.schema != "" {
		name = q + t.schema + q + "." + name
	}
	return name
}

// statements returns the texts, with a mark ? for each argument, or $1 in PostgreSQL.
func (d Dialect) statements(t table) [statements]string {
	name := d.quote(t)
	insert := "INSERT INTO " + name + " AS t (id, rev, expires, data) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE" +
		" SET rev = excluded.rev, expires = excluded.expires, data = excluded.data WHERE t.expires <= ?"
	expired := "expires < ?"
	var prune string
	switch d {
	case PostgreSQL:
		expired += " AND expires < CAST(extract(epoch FROM now()) * 1000 AS bigint) - " + fmt.Sprint(pruneAge.Milliseconds())
		prune = "DELETE FROM " + name + " WHERE id IN (SELECT id FROM " + name + " WHERE " + expired +
			" ORDER BY expires LIMIT ? FOR UPDATE SKIP LOCKED)"
	case MySQL:
		insert = "INSERT INTO " + name + " (id, rev, expires, data) VALUES (?, ?, ?, ?)"
		expired += " AND expires < UNIX_TIMESTAMP() * 1000 - " + fmt.Sprint(pruneAge.Milliseconds())
		prune = "DELETE FROM " + name + " WHERE " + expired + " ORDER BY expires LIMIT ?"
	default:
		prune = "DELETE FROM " + name + " WHERE id IN (SELECT id FROM " + name + " WHERE " + expired + " ORDER BY expires LIMIT ?)"
	}
	texts := [statements]string{
		stmtLoad:     "SELECT data, rev, expires FROM " + name + " WHERE id = ?",
		stmtInsert:   insert,
		stmtTakeOver: "UPDATE " + name + " SET rev = ?, expires = ?, data = ? WHERE id = ? AND expires <= ?",
		stmtSwap:     "UPDATE " + name + " SET rev = ?, expires = ?, data = ? WHERE id = ? AND rev = ? AND expires > ?",
		stmtTouch:    "UPDATE " + name + " SET expires = ? WHERE id = ? AND expires > ?",
		stmtDelete:   "DELETE FROM " + name + " WHERE id = ?",
		stmtState:    "SELECT rev, expires FROM " + name + " WHERE id = ?",
		stmtPage:     "SELECT id, data, rev, expires FROM " + name + " WHERE id > ? ORDER BY id LIMIT ?",
		stmtPrune:    prune,
	}
	if d == PostgreSQL {
		for i := range texts {
			texts[i] = numbered(texts[i])
		}
	}
	return texts
}

// numbered replaces each ? by $1, $2 and so on.
func numbered(text string) string {
	var b strings.Builder
	n := 0
	for _, c := range []byte(text) {
		if c == '?' {
			n++
			fmt.Fprintf(&b, "$%d", n)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// A table is a validated name.
type table struct{ schema, name string }

const (
	defaultTable = "midair_sessions"
	// maxName leaves room for the suffix of the index in the 63 bytes of a name in PostgreSQL.
	maxName = 50
)

func parseTable(name string) (table, error) {
	if name == "" {
		name = defaultTable
	}
	t := table{name: name}
	if schema, rest, ok := strings.Cut(name, "."); ok {
		t = table{schema: schema, name: rest}
		if !validName(schema) {
			return t, fmt.Errorf("sqlstore: %q is not the name of a table", name)
		}
	}
	if !validName(t.name) {
		return t, fmt.Errorf("sqlstore: %q is not the name of a table", name)
	}
	return t, nil
}

func validName(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}
