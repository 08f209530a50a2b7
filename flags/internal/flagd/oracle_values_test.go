package flagd_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// holds is what counts as yes.
func holds(x any) bool {
	switch x := x.(type) {
	case bool:
		return x
	case float64:
		return x != 0
	case string:
		return len(x) > 0
	case []any:
		return len(x) > 0
	case map[string]any:
		return len(x) > 0
	}
	return false
}

// spell is a part of a text.
func spell(x any) string {
	switch x := x.(type) {
	case nil:
		return ""
	case string:
		return x
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	panic(halt{})
}

// calculate is a number for arithmetic.
func calculate(x any) float64 {
	switch x := x.(type) {
	case float64:
		return x
	case string:
		n, err := strconv.ParseFloat(x, 64)
		if err != nil {
			return 0
		}
		return n
	}
	panic(halt{})
}

// weigh is a number for a comparison.
func weigh(x any) float64 {
	switch x := x.(type) {
	case nil:
		return 0
	case bool:
		if x {
			return 1
		}
		return 0
	case float64:
		return x
	case string:
		if strings.TrimSpace(x) == "" {
			return 0
		}
		if n, err := strconv.ParseFloat(x, 64); err == nil {
			return n
		}
	}
	return math.NaN()
}

func relation(op string, a, b any) bool {
	s, isText := a.(string)
	t, areTexts := b.(string)
	areTexts = areTexts && isText
	less, greater := weigh(a) < weigh(b), weigh(a) > weigh(b)
	equal := weigh(a) == weigh(b) && a != nil && b != nil || a == nil && b == nil
	if areTexts {
		less, greater, equal = s < t, s > t, s == t
	}
	sameType := fmt.Sprintf("%T", a) == fmt.Sprintf("%T", b)
	return map[string]bool{
		"==": equal, "!=": !equal, "===": equal && sameType, "!==": !(equal && sameType),
		"<": less, "<=": less || equal, ">": greater, ">=": greater || equal,
	}[op]
}

func member(x, in any) bool {
	text, isText := x.(string)
	switch in := in.(type) {
	case string:
		if !isText {
			panic(halt{})
		}
		return strings.Contains(in, text)
	case []any:
		for _, e := range in {
			if found(e, x) {
				return true
			}
		}
	}
	return false
}

// found reports whether an element of a list is x. A number is also in a range, and in a text that spells it.
func found(e, x any) bool {
	n, isNumber := x.(float64)
	if s, ok := e.(string); ok && isNumber {
		m, err := strconv.ParseFloat(s, 64)
		return err == nil && m == n
	}
	if l, ok := e.([]any); ok {
		return isNumber && len(l) > 1 && fmt.Sprintf("%T%T", l[0], l[1]) == "float64float64" && l[0].(float64) <= n && n <= l[1].(float64)
	}
	switch x.(type) {
	case []any, map[string]any:
		return false
	}
	if _, ok := e.(map[string]any); ok {
		return false
	}
	return e == x
}

func arithmetic(op string, v []any) any {
	n := calculate(v[0])
	for _, x := range v[1:] {
		m := calculate(x)
		switch op {
		case "+":
			n += m
		case "-":
			n -= m
		case "*":
			n *= m
		case "/":
			n /= m
		case "%":
			n = math.Mod(n, m)
		case "max":
			if m > n {
				n = m
			}
		case "min":
			if m < n {
				n = m
			}
		}
	}
	if op == "-" && len(v) == 1 {
		n = -n
	}
	return n
}

// part is substr.
func part(text string, v []any) string {
	s := []rune(text)
	from := int(calculate(v[0]))
	if from < 0 {
		from += len(s)
	}
	if from < 0 || from > len(s) {
		return text
	}
	end := len(s)
	if len(v) == 2 {
		n := int(calculate(v[1]))
		if end = from + n; n < 0 {
			end = len(s) + n
		}
	}
	if end < from {
		panic(halt{})
	}
	return string(s[from:min(end, len(s))])
}
