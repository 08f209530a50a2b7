package flags

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/midair-go/midair/flags/internal/flagd"
)

// value is a Var of any type, for its store. The caller of each method but notify holds the lock of the store.
type value interface {
	place(index int)
	begin(now *view)
	parts() []string
	decode(get func(key string) *entry) (any, error)
	keep(before []any, value any) any
	changed(before, after *view)
	notify()
}

// protect calls a function of the program. A panic is an error.
func protect(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return fn()
}

// A badValue is a refused value of a flag.
type badValue struct {
	key, value string // the value is empty if the flag has none
	err        error
	secret     bool
}

func (b *badValue) Error() string {
	switch {
	case b.value == "":
		return "it is refused: " + b.err.Error()
	case b.secret:
		return "the value " + redacted + " is refused; the reason is not told, because it may have the value in it"
	}
	return fmt.Sprintf("the value %s is refused: %s", cut(b.value), cut(b.err.Error()))
}

// redacted stands for a secret value.
const redacted = "(secret)"

// shown is a value as a text for the log.
func shown(value any, secret bool) string {
	if secret {
		return redacted
	}
	return cut(fmt.Sprintf("%+v", value))
}

// plainValue returns the JSON of the value for everybody; nil stands for the default of the Var. A whole number has no fraction
// and no exponent, also if the file has 5.0 or 5e3.
func plainValue(key string, get func(key string) *entry) ([]byte, *badValue) {
	e := get(key)
	variant, why := e.static()
	switch {
	case variant != nil && variant.Kind == flagd.Number && variant.Exact:
		return strconv.AppendInt(nil, variant.Whole, 10), nil
	case variant != nil:
		return variant.JSON(), nil
	case e == nil || e.flag == nil || e.flag.Disabled || !e.flag.Targeted() && e.flag.Default == nil:
		return nil, nil
	}
	return nil, &badValue{key: key, err: errors.New(why)}
}

// cut returns the beginning of a text for the log.
func cut(text string) string {
	const most = 256
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
