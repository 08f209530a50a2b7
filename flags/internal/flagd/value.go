package flagd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unsafe"
)

// A Kind is the type of a value, in rules and in variants.
type Kind uint8

const (
	Null    Kind = iota // JSON's null, and what is absent
	Boolean             // true or false
	Number              // a number, as float64 has it
	Text                // a string
	List                // an array
	Object              // an object

	failed // the evaluation cannot go on; the text of the value is the reason
)

// String returns the name of the type, for messages.
func (k Kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "list", "object", "failure"}[k]
}

// value is what an expression gives: passed by value, in registers, so that an evaluation allocates nothing. The compiler keeps
// a struct in registers up to a size of four words. So a text is a pointer and a length, as in a Value of log/slog.
type value struct {
	kind  Kind
	bytes uint32  // of a text; of the JSON that a list or an object was read from
	num   float64 // of a number; 1 or 0 for a boolean
	ref   any     // of a text: chars; of a list: []value, []any or []string; of an object: map[string]any; of a literal: the *Variant
}

// chars are the bytes of a text.
type chars *byte

// text is the content of a text, or the reason of a failure. A literal that names a variant has the name of the variant.
func (v value) text() string {
	switch p := v.ref.(type) {
	case chars:
		return unsafe.String(p, v.bytes)
	case *Variant:
		return p.Name
	}
	return ""
}

func truth(b bool) value {
	if b {
		return value{kind: Boolean, num: 1}
	}
	return value{kind: Boolean}
}

func textual(s string) value {
	return value{kind: Text, bytes: uint32(len(s)), ref: chars(unsafe.StringData(s))}
}

func numeric(n float64) value { return value{kind: Number, num: n} }

func listed(values []value) value { return value{kind: List, ref: values} }

// failure ends the evaluation with a reason.
func failure(format string, args ...any) value {
	v := textual(fmt.Sprintf(format, args...))
	v.kind = failed
	return v
}

// valueOf takes what a caller put into an evaluation context. The value failed for what JSON cannot express.
func valueOf(x any) value {
	switch x := x.(type) {
	case nil:
		return value{}
	case bool:
		return truth(x)
	case string:
		return textual(x)
	case float64:
		return finite(x)
	case int:
		return numeric(float64(x))
	case int64:
		return numeric(float64(x))
	case []any, []string:
		return value{kind: List, ref: x}
	case map[string]any:
		return value{kind: Object, ref: x}
	}
	return reflected(x)
}

// reflected takes values of all other types: basic types as such, the rest as in JSON.
func reflected(x any) value {
	switch x.(type) {
	case json.Marshaler, json.Number:
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
		return finite(v.Float())
	}
	return encoded(x)
}

// finite refuses what JSON cannot express, as flagd does.
func finite(n float64) value {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return failure("an attribute is %v, which is no number in JSON", n)
	}
	return numeric(n)
}

// encoded is a value as in JSON. A value without JSON makes the evaluation fail.
func encoded(x any) value {
	data, err := json.Marshal(x)
	if err != nil {
		return failure("an attribute cannot be written as JSON: %v", err)
	}
	var decoded any
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&decoded); err != nil {
		return failure("an attribute cannot be read as JSON: %v", err)
	}
	v := valueOf(decoded)
	if v.kind == List || v.kind == Object {
		v.bytes = uint32(len(data))
	}
	return v
}

// truthy is what counts as yes: all but null, false, 0, the empty text, the empty list and the empty object.
func (v value) truthy() bool {
	switch v.kind {
	case Boolean, Number:
		return v.num != 0
	case Text:
		return v.bytes != 0
	case List:
		return v.len() != 0
	case Object:
		m, _ := v.ref.(map[string]any)
		return len(m) != 0
	}
	return false
}

// len is the number of elements of a list.
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

// element is an element of a list.
func (v value) element(i int) value {
	switch l := v.ref.(type) {
	case []value:
		return l[i]
	case []any:
		return valueOf(l[i])
	case []string:
		return textual(l[i])
	}
	return value{}
}

// field is a part of an object, or an element of a list by a decimal index; null if there is none.
func (v value) field(name string) value {
	switch v.kind {
	case Object:
		m, _ := v.ref.(map[string]any)
		return valueOf(m[name])
	case List:
		if i, ok := index(name); ok && i < v.len() {
			return v.element(i)
		}
	}
	return value{}
}

func index(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || n > 1<<24 {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, s != ""
}

// size is the work to look at the value: elements, pieces of 64 bytes of a text, or of 8 bytes of JSON.
func (v value) size() int {
	switch v.kind {
	case Text:
		return int(v.bytes) / 64
	case List, Object:
		return v.len() + int(v.bytes)/8
	}
	return 0
}

// decimal reads a text as a number, in the decimal notation of JSON and a bit more: +1, .5 and 1. are numbers as well.
// The text is looked at first: the error of strconv would be an allocation for each comparison with a word.
func decimal(s string) (float64, bool) {
	i, digits := 0, 0
	skip := func(set string) int {
		from := i
		for i < len(s) && strings.IndexByte(set, s[i]) >= 0 {
			i++
		}
		return i - from
	}
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	digits = skip("0123456789")
	if i < len(s) && s[i] == '.' {
		i++
		digits += skip("0123456789")
	}
	if digits == 0 {
		return 0, false
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if skip("0123456789") == 0 {
			return 0, false
		}
	}
	if i != len(s) {
		return 0, false
	}
	n, _ := strconv.ParseFloat(s, 64) // the only error left is a number beyond the range, which is an infinity
	return n, true
}

// variant is the name of the variant meant by the result of a rule; false if there is none. Numbers are written
// as encoding/json does.
func (v value) variant() (string, bool) {
	switch v.kind {
	case Text:
		return v.text(), true
	case Boolean:
		return strconv.FormatBool(v.num != 0), true
	case Number:
		data, err := json.Marshal(v.num)
		return string(data), err == nil
	}
	return "", false
}

// GoString shows the value in messages.
func (v value) GoString() string {
	if s, ok := v.variant(); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("a value of type %v", v.kind)
}

// isWhole reports whether n is a whole number.
func isWhole(n float64) bool { return n == math.Trunc(n) && !math.IsInf(n, 0) }
