package flags

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// kind is the type of a value, in rules and in variants.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

func (k kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "list", "object"}[k]
}

// value is what an expression gives. It is passed by value, in registers, so that evaluating allocates nothing.
type value struct {
	kind kind
	num  float64 // of a number; 1 or 0 for a boolean
	str  string
	ref  any // of a list: []value, []any or []string; of an object: map[string]any; of a literal: its *variant, if any
}

func truth(b bool) value {
	if b {
		return value{kind: boolean, num: 1}
	}
	return value{kind: boolean}
}

func textual(s string) value { return value{kind: text, str: s} }

func numeric(n float64) value { return value{kind: number, num: n} }

// valueOf takes what a caller put into an evaluation context.
func valueOf(x any) value {
	switch x := x.(type) {
	case nil:
		return value{}
	case bool:
		return truth(x)
	case string:
		return textual(x)
	case float64:
		return numeric(x)
	case int:
		return numeric(float64(x))
	case int64:
		return numeric(float64(x))
	case []any, []string:
		return value{kind: list, ref: x}
	case map[string]any:
		return value{kind: object, ref: x}
	}
	return reflected(x)
}

// reflected takes values of all other types: basic ones as what they are, the rest as what they are in JSON.
func reflected(x any) value {
	if _, ok := x.(json.Marshaler); ok {
		return encoded(x)
	}
	switch v := reflect.ValueOf(x); v.Kind() {
	case reflect.Bool:
		return truth(v.Bool())
	case reflect.String:
		return textual(v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return numeric(float64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return numeric(float64(v.Uint()))
	case reflect.Float32, reflect.Float64:
		return numeric(v.Float())
	}
	return encoded(x)
}

func encoded(x any) value {
	data, err := json.Marshal(x)
	if err != nil {
		return value{}
	}
	var plain any
	if json.NewDecoder(bytes.NewReader(data)).Decode(&plain) != nil {
		return value{}
	}
	return valueOf(plain)
}

// truthy is what counts as yes: everything but null, false, 0, NaN, the empty text and the empty list.
func (v value) truthy() bool {
	switch v.kind {
	case boolean, number:
		return v.num != 0 && !math.IsNaN(v.num)
	case text:
		return v.str != ""
	case list:
		return v.len() != 0
	case object:
		return true
	}
	return false
}

func (v value) len() int {
	switch l := v.ref.(type) {
	case []value:
		return len(l)
	case []any:
		return len(l)
	case []string:
		return len(l)
	}
	return 0
}

// number is the value as JavaScript would calculate with it; NaN if it is not a number.
func (v value) number() float64 {
	switch v.kind {
	case null:
		return 0
	case boolean, number:
		return v.num
	case text:
		return parseNumber(v.str)
	}
	return math.NaN()
}

// parseNumber looks at the text first: the error of strconv would be an allocation for each comparison with a word.
func parseNumber(s string) float64 {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0
	}
	if strings.Trim(s, "+-.0123456789eE") != "" || strings.IndexByte("eE", s[0]) >= 0 {
		return math.NaN()
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(n, 0) {
		return math.NaN()
	}
	return n
}

// equal is the == of JsonLogic: null equals null alone, two texts are compared as such, all else as numbers.
func equal(a, b value) bool {
	switch {
	case a.kind == null || b.kind == null:
		return a.kind == b.kind
	case a.kind == text && b.kind == text:
		return a.str == b.str
	}
	return a.number() == b.number()
}

// same is the === of JsonLogic: equal and of one type.
func same(a, b value) bool { return a.kind == b.kind && equal(a, b) }

// compare gives -1, 0 or 1, and false if there is no order between the two. Two texts are compared as such, all else
// as numbers, where null is 0.
func compare(a, b value) (int, bool) {
	if a.kind == text && b.kind == text {
		return strings.Compare(a.str, b.str), true
	}
	x, y := a.number(), b.number()
	switch {
	case x < y:
		return -1, true
	case x > y:
		return 1, true
	}
	return 0, x == y
}

// contains is the in of JsonLogic: a part of a text, or an element of a list.
func contains(in, what value) bool {
	if in.kind == text {
		return what.kind == text && strings.Contains(in.str, what.str)
	}
	switch l := in.ref.(type) {
	case []value:
		for i := range l {
			if same(l[i], what) {
				return true
			}
		}
	case []any:
		for i := range l {
			if same(valueOf(l[i]), what) {
				return true
			}
		}
	case []string:
		for i := range l {
			if what.kind == text && l[i] == what.str {
				return true
			}
		}
	}
	return false
}

// name is the variant that a rule means by its result; false if it cannot mean one.
func (v value) name() (string, bool) {
	switch v.kind {
	case text:
		return v.str, true
	case boolean:
		return strconv.FormatBool(v.num != 0), true
	case number:
		return strconv.FormatFloat(v.num, 'f', -1, 64), true
	}
	return "", false
}

// GoString shows the value in messages.
func (v value) GoString() string {
	if s, ok := v.name(); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("a value of type %v", v.kind)
}
