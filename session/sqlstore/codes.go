package sqlstore

import (
	"database/sql"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
)

// Codes of errors, by their meaning for a statement.
var (
	// Nothing was done, and the same statement may work in a moment.
	transientStates  = []string{"40001", "40P01", "55P03", "53300"} // serialization, deadlock, lock timeout, too many connections
	transientNumbers = []int{1213, 1205, 1020, 1040}                // deadlock, lock timeout, changed since read, too many connections
	transientCodes   = []int{5, 6}                                  // SQLITE_BUSY, SQLITE_LOCKED
	// The server has ended the connection, also while the statement was executed.
	endedStates  = []string{"57P01", "57P02", "57P05", "25P03"}
	endedNumbers = []int{1053, 1927, 4031}
	// The prepared statement is of no use any more: the table was changed, or another connection answers.
	staleStates  = []string{"0A000", "26000", "42P05"}
	staleNumbers = []int{1243, 1615}
	// Another process sets up the same table.
	setupStates = []string{"23505", "42P07", "42710", "XX000"}
)

const (
	duplicateKey     = 1062 // of MySQL; the other dialects have ON CONFLICT
	sqlitePrimary    = 0xff // the part of a code of SQLite that is the primary one
	connectionFailed = "08" // the class of SQLSTATE
)

func (d Dialect) transient(err error) bool {
	return d.match(err, transientStates, transientNumbers, transientCodes)
}

func (d Dialect) stale(err error) bool { return d.match(err, staleStates, staleNumbers, nil) }

func (d Dialect) duplicate(err error) bool { return d.match(err, nil, []int{duplicateKey}, nil) }

func (d Dialect) otherSetup(err error) bool { return d.match(err, setupStates, nil, nil) }

// lost reports whether the connection was lost, so that nobody knows whether the statement was executed. A server that cannot be
// reached is no lost connection.
func (d Dialect) lost(err error) bool {
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" || errors.Is(err, sql.ErrNoRows) {
		return false
	}
	switch d {
	case PostgreSQL:
		state, ok := sqlState(err)
		return !ok || strings.HasPrefix(state, connectionFailed) || slices.Contains(endedStates, state)
	case MySQL:
		n, ok := number(err, "Number")
		return !ok || slices.Contains(endedNumbers, n)
	}
	return false
}

// match reports whether the list for the dialect has the code of err.
func (d Dialect) match(err error, states []string, numbers, codes []int) bool {
	if err == nil {
		return false
	}
	switch d {
	case PostgreSQL:
		state, ok := sqlState(err)
		return ok && slices.Contains(states, state)
	case MySQL:
		n, ok := number(err, "Number")
		return ok && slices.Contains(numbers, n)
	}
	n, ok := number(err, "Code")
	return ok && slices.Contains(codes, n&sqlitePrimary)
}

func sqlState(err error) (string, bool) {
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		return "", false
	}
	return coded.SQLState(), true
}

// number returns the integer in a field of an error of the chain, or the result of a method Code.
func number(err error, field string) (int, bool) {
	switch e := err.(type) {
	case nil:
		return 0, false
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if n, ok := number(inner, field); ok {
				return n, true
			}
		}
		return 0, false
	}
	if n, ok := ownNumber(reflect.ValueOf(err), field); ok {
		return n, true
	}
	return number(errors.Unwrap(err), field)
}

func ownNumber(v reflect.Value, field string) (int, bool) {
	if field == "Code" {
		if m := v.MethodByName("Code"); m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 {
			return integer(m.Call(nil)[0])
		}
	}
	if v = reflect.Indirect(v); v.Kind() != reflect.Struct {
		return 0, false
	}
	return integer(v.FieldByName(field))
}

func integer(v reflect.Value) (int, bool) {
	switch {
	case !v.IsValid():
		return 0, false
	case v.CanInt():
		return int(v.Int()), true
	case v.CanUint():
		return int(v.Uint()), true
	}
	return 0, false
}
