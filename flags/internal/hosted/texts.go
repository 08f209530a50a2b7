package hosted

import (
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// encode returns a value as text. In JSON a float64 always has a point or an exponent, and an int64 never has.
func encode(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	}
	data, err := json.Marshal(marked(value))
	return string(data), err == nil
}

// decode is the inverse of encode. It returns nil for a text that is no such value.
func decode(text string, kind reflect.Kind) any {
	var value any
	var err error
	switch kind {
	case reflect.String, everybody:
		return text
	case reflect.Bool:
		value, err = strconv.ParseBool(text)
	case reflect.Int64:
		value, err = strconv.ParseInt(text, 10, 64)
	case reflect.Float64:
		value, err = strconv.ParseFloat(text, 64)
	default:
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		err = dec.Decode(&value)
		value = unmarked(value)
	}
	if err != nil {
		return nil
	}
	return value
}

// marked replaces each float64 by a number with a point or an exponent.
func marked(value any) any {
	switch v := value.(type) {
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return json.Number(text)
	case map[string]any:
		return mapped(v, marked)
	case []any:
		return listed(v, marked)
	}
	return value
}

// unmarked is the inverse of marked.
func unmarked(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		n, _ := v.Float64()
		return n
	case map[string]any:
		return mapped(v, unmarked)
	case []any:
		return listed(v, unmarked)
	}
	return value
}

// equal compares a copy of replica with a value.
func equal(copied, value any) bool {
	switch c := copied.(type) {
	case map[string]any:
		v, ok := value.(map[string]any)
		return ok && maps.EqualFunc(c, v, equal)
	case []any:
		v, ok := value.([]any)
		return ok && slices.EqualFunc(c, v, equal)
	}
	switch value.(type) {
	case nil, bool, int64, float64, string:
		return copied == value
	}
	return false
}

func mapped(from map[string]any, fn func(any) any) map[string]any {
	to := make(map[string]any, len(from))
	for name, x := range from {
		to[name] = fn(x)
	}
	return to
}

func listed(from []any, fn func(any) any) []any {
	to := make([]any, len(from))
	for i, x := range from {
		to[i] = fn(x)
	}
	return to
}

// replica returns a copy of a value, and adds its size in bytes. It reports false for a value whose type would not outlive JSON, and
// for one that is too large, which a value that contains itself is as well.
func replica(value any, size *int) (copied any, ok bool) {
	if *size += 8; *size > maxMemory {
		return nil, false
	}
	ok = true
	each := func(x any) any {
		part, good := replica(x, size)
		ok = ok && good
		return part
	}
	switch v := value.(type) {
	case nil, bool, int64:
	case float64:
		return v, !math.IsInf(v, 0) && !math.IsNaN(v)
	case string:
		*size += len(v)
		return v, utf8.ValidString(v)
	case map[string]any:
		for name := range v {
			*size += len(name)
			ok = ok && utf8.ValidString(name)
		}
		copied = mapped(v, each)
		return copied, ok
	case []any:
		copied = listed(v, each)
		return copied, ok
	default:
		return nil, false
	}
	return value, true
}
