package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
)

// The errors below have the shapes of those of drivers.
type (
	pgError    struct{ code string }              // pgx, lib/pq
	mysqlError struct{ Number uint16 }            // go-sql-driver/mysql, by pointer
	modernc    struct{ code int }                 // modernc.org/sqlite, by pointer
	errno      int                                // mattn/go-sqlite3, by value
	mattn      struct{ Code, ExtendedCode errno } //
	ncruces    struct{ code uint64 }              // ncruces/go-sqlite3, by pointer
	errorCode  uint8                              //
	odd        struct{ Code, Number func() }      // no driver
)

func (e *pgError) Error() string    { return e.code }
func (e *pgError) SQLState() string { return e.code }
func (e *mysqlError) Error() string { return fmt.Sprint(e.Number) }
func (e *modernc) Error() string    { return fmt.Sprint(e.code) }
func (e *modernc) Code() int        { return e.code }
func (e mattn) Error() string       { return fmt.Sprint(e.Code) }
func (e *ncruces) Error() string    { return fmt.Sprint(e.code) }
func (e *ncruces) Code() errorCode  { return errorCode(e.code) }
func (e *odd) Error() string        { return "odd" }

// Codes are found in the errors of all drivers, also if other errors wrap them.
func TestCodesAreFoundInTheErrorsOfDrivers(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("x: %w", errors.Join(io.EOF, fmt.Errorf("y: %w", err))) }
	for _, c := range []struct {
		name      string
		d         Dialect
		err       error
		transient bool
	}{
		{"pgx serialization", PostgreSQL, &pgError{"40001"}, true},
		{"pgx deadlock", PostgreSQL, &pgError{"40P01"}, true},
		{"pgx syntax", PostgreSQL, &pgError{"42601"}, false},
		{"mysql deadlock", MySQL, &mysqlError{1213}, true},
		{"mysql lock timeout", MySQL, &mysqlError{1205}, true},
		{"mysql duplicate key", MySQL, &mysqlError{1062}, false},
		{"modernc busy", SQLite, &modernc{5}, true},
		{"modernc busy snapshot", SQLite, &modernc{5 | 2<<8}, true},
		{"modernc read-only", SQLite, &modernc{8}, false},
		{"mattn busy", SQLite, mattn{Code: 5}, true},
		{"mattn full", SQLite, mattn{Code: 13}, false},
		{"ncruces locked", SQLite, &ncruces{6}, true},
		{"ncruces corrupt", SQLite, &ncruces{11}, false},
		{"the code of another dialect", MySQL, &pgError{"40001"}, false},
		{"functions instead of codes", SQLite, &odd{}, false},
		{"no code", PostgreSQL, io.ErrUnexpectedEOF, false},
	} {
		if got := c.d.transient(c.err); got != c.transient {
			t.Errorf("%s: transient = %v", c.name, got)
		}
		if got := c.d.transient(wrap(c.err)); got != c.transient {
			t.Errorf("%s, wrapped: transient = %v", c.name, got)
		}
	}
	for _, d := range []Dialect{PostgreSQL, MySQL, SQLite} {
		if d.transient(nil) || d.stale(nil) || d.duplicate(nil) || d.otherSetup(nil) {
			t.Errorf("dialect %d finds a code in nil", d)
		}
	}
}

// A connection was lost if the server has given no code, or has said so; a server that cannot be reached, and a row that is not
// there, are no lost connections.
func TestLostConnectionsAreTold(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for _, c := range []struct {
		name string
		d    Dialect
		err  error
		lost bool
	}{
		{"end of file", PostgreSQL, io.ErrUnexpectedEOF, true},
		{"reset", MySQL, &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, true},
		{"refused", PostgreSQL, fmt.Errorf("connect: %w", refused), false},
		{"refused", MySQL, refused, false},
		{"shut down", PostgreSQL, &pgError{"57P01"}, true},
		{"connection failure", PostgreSQL, &pgError{"08006"}, true},
		{"starting", PostgreSQL, &pgError{"57P03"}, false},
		{"read-only", PostgreSQL, &pgError{"25006"}, false},
		{"shut down", MySQL, &mysqlError{1053}, true},
		{"read-only", MySQL, &mysqlError{1290}, false},
		{"any", SQLite, io.ErrUnexpectedEOF, false},
	} {
		if got := c.d.lost(c.err); got != c.lost {
			t.Errorf("%s in dialect %d: lost = %v", c.name, c.d, got)
		}
	}
}

// A pause ends with the context.
func TestAPauseEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for n := range 20 {
		if !pause(t.Context(), n) {
			t.Fatal("the context has not ended")
		}
		if pause(ctx, 20) {
			t.Fatal("the context has ended")
		}
	}
}
