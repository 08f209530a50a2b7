package flagd_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
)

// oracle interprets a rule from its JSON with nothing compiled, as doc.go and the documents of flagd say it. It shares no
// code with the package.
type oracle struct {
	flag, key string
	data      any   // what var looks into
	outside   []any // what the bodies of filter, none and some see beyond, innermost first
}

// halt is what the oracle panics with where an evaluation cannot go on.
type halt struct{}

// ask evaluates a rule: the name of a variant, or what helpers_test.go says for the rest.
func (o oracle) ask(rule any, variants string) (answer string) {
	defer func() {
		if p := recover(); p == (halt{}) {
			answer = "error"
		} else if p != nil {
			panic(p)
		}
	}()
	switch x := o.eval(rule).(type) {
	case nil:
		return "none"
	case string:
		answer = x
	case bool:
		answer = fmt.Sprint(x)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return "error"
		}
		answer = strconv.FormatFloat(x, 'f', -1, 64)
	default:
		return "choice"
	}
	if !strings.Contains(variants, "|"+answer+"|") {
		return "choice"
	}
	return answer
}

func (o oracle) eval(x any) any {
	switch x := x.(type) {
	case []any:
		list := []any{}
		for _, e := range x {
			list = append(list, o.eval(e))
		}
		return list
	case map[string]any:
		for op, arg := range x {
			if len(x) > 1 {
				return x
			}
			args, isList := arg.([]any)
			if !isList {
				args = []any{arg}
			}
			return o.apply(op, args)
		}
	}
	return x
}

func (o oracle) apply(op string, args []any) any {
	switch op {
	case "if":
		for ; len(args) > 1; args = args[2:] {
			if holds(o.eval(args[0])) {
				return o.eval(args[1])
			}
		}
		if len(args) == 1 {
			return o.eval(args[0])
		}
		return nil
	case "and", "or":
		var last any
		for _, a := range args {
			if last = o.eval(a); holds(last) == (op == "or") {
				break
			}
		}
		return last
	case "map", "filter", "all", "none", "some":
		return o.loop(op, o.source(args[0]), args[1])
	case "reduce":
		return o.reduce(o.source(args[0]), args[1], o.eval(args[2]))
	case "var":
		return o.variable(args)
	}
	return o.strict(op, o.eval(args).([]any))
}

// strict is for the operators that take the values of all arguments.
func (o oracle) strict(op string, v []any) any {
	switch op {
	case "!":
		return !holds(v[0])
	case "!!":
		return holds(v[0])
	case "cat":
		s := ""
		for _, x := range v {
			s += spell(x)
		}
		if len(v) > 1 {
			s = strings.TrimSpace(s)
		}
		return s
	case "substr":
		return part(spell(v[0]), v[1:])
	case "merge":
		all := []any{}
		for _, x := range v {
			if l, ok := x.([]any); ok {
				all = append(all, l...)
			} else {
				all = append(all, x)
			}
		}
		return all
	case "missing":
		return o.absent(v)
	case "missing_some":
		absent := o.absent(v[1].([]any))
		if len(v[1].([]any))-len(absent) >= int(calculate(v[0])) {
			return []any{}
		}
		return absent
	case "fractional":
		return o.split(v)
	case "sem_ver":
		return versions(v[0], v[1], v[2])
	case "starts_with", "ends_with":
		s, a := v[0].(string)
		t, b := v[1].(string)
		if !a || !b {
			return nil
		}
		return map[string]bool{"starts_with": strings.Index(s, t) == 0, "ends_with": len(t) <= len(s) && s[len(s)-min(len(s), len(t)):] == t}[op]
	case "in":
		return member(v[0], v[1])
	case "+", "-", "*", "/", "%", "max", "min":
		return arithmetic(op, v)
	}
	if len(v) == 3 {
		return relation(op, v[0], v[1]) && relation(op, v[1], v[2])
	}
	return relation(op, v[0], v[1])
}

// source is what a loop goes through: a scalar in the file is nothing.
func (o oracle) source(x any) any {
	switch x.(type) {
	case map[string]any, []any:
		return o.eval(x)
	}
	return nil
}

func (o oracle) loop(op string, over any, body any) any {
	list, isList := over.([]any)
	if !isList {
		searches := op == "all" || op == "none" || op == "some"
		if over != nil && !(searches && !holds(over)) {
			panic(halt{})
		}
	}
	results := []any{}
	count := 0
	for _, e := range list {
		inner := oracle{o.flag, o.key, e, nil}
		if op == "filter" || op == "none" || op == "some" {
			inner.outside = append([]any{o.data}, o.outside...)
		}
		x := inner.eval(body)
		if holds(x) {
			count++
		}
		switch {
		case op == "map":
			results = append(results, x)
		case op == "filter" && holds(x):
			results = append(results, e)
		case op == "all" && !holds(x):
			return false
		case op == "none" && holds(x):
			return false
		case op == "some" && holds(x):
			return true
		}
	}
	if op == "map" || op == "filter" {
		return results
	}
	return op == "none" || op == "all" && len(list) > 0
}

func (o oracle) reduce(over, body, sofar any) any {
	list, isList := over.([]any)
	kind := fmt.Sprintf("%T", sofar)
	if !isList && over != nil || kind != "bool" && kind != "float64" && kind != "string" {
		panic(halt{})
	}
	if over == nil {
		return 0.0
	}
	for _, e := range list {
		if e == nil {
			continue
		}
		x := oracle{o.flag, o.key, map[string]any{"current": e, "accumulator": sofar}, nil}.eval(body)
		switch kind {
		case "bool":
			sofar = holds(x)
		case "float64":
			sofar = calculate(x)
		case "string":
			sofar = spell(x)
		}
	}
	return sofar
}

func (o oracle) variable(args []any) any {
	name, _ := o.eval(args[0]).(string)
	found := walk(o.data, name)
	for _, d := range o.outside {
		if found == nil && name != "" {
			found = walk(d, name)
		}
	}
	if found == nil && len(args) == 2 {
		return o.eval(args[1])
	}
	return found
}

func walk(x any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		switch c := x.(type) {
		case map[string]any:
			if part != "" {
				x = c[part]
			}
		case []any:
			if i, err := strconv.Atoi(part); err == nil && i < len(c) {
				x = c[i]
			} else if part != "" {
				return nil
			}
		default:
			if part != "" {
				return nil
			}
		}
	}
	return x
}

func (o oracle) absent(names []any) []any {
	absent := []any{}
	for _, n := range names {
		if walk(o.data, n.(string)) == nil {
			absent = append(absent, n)
		}
	}
	return absent
}

// split goes through the shares from the end, with the hash of the whole text.
func (o oracle) split(v []any) any {
	text, given := v[0].(string)
	if _, isShare := v[0].([]any); !isShare {
		if !given && v[0] != nil {
			return nil
		}
		v = v[1:]
	}
	if !given {
		if text = o.flag + o.key; o.key == "" {
			return nil
		}
	}
	var total float64
	weights := make([]float64, len(v))
	for i, s := range v {
		share, _ := s.([]any)
		if len(share) == 0 {
			return nil
		}
		weights[i] = 1
		if len(share) > 1 && share[1] != nil {
			w, isNumber := share[1].(float64)
			if !isNumber || w != math.Floor(w) || w >= 1<<31 || w < -1<<63 {
				return nil
			}
			weights[i] = math.Max(w, 0)
		}
		switch share[0].(type) {
		case []any, map[string]any:
			return nil
		}
		total += weights[i]
	}
	if total == 0 || total >= 1<<31 {
		return nil
	}
	point := float64(uint64(murmur3([]byte(text))) * uint64(total) / (1 << 32))
	for i := len(v) - 1; ; i-- {
		if total -= weights[i]; point >= total {
			return v[i].([]any)[0]
		}
	}
}

// murmur3 is MurmurHash3 x86 32 with seed 0, block by block.
func murmur3(b []byte) uint32 {
	h, size := uint32(0), uint32(len(b))
	k := func(block uint32) uint32 { return bits.RotateLeft32(block*0xcc9e2d51, 15) * 0x1b873593 }
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h^k(binary.LittleEndian.Uint32(b)), 13)*5 + 0xe6546b64
	}
	h ^= k(binary.LittleEndian.Uint32(append(append([]byte{}, b...), 0, 0, 0, 0))) ^ size
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

var semver = regexp.MustCompile(`^[vV]?(0|[1-9]\d*)(?:\.(0|[1-9]\d*)(?:\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?)?)?$`)

func versions(a, op, b any) any {
	v, w := semver.FindStringSubmatch(fmt.Sprint(a)), semver.FindStringSubmatch(fmt.Sprint(b))
	if v == nil || w == nil {
		return nil
	}
	order, equal := 0, 0
	for i := 1; i <= 3 && order == 0; i++ {
		x, _ := strconv.Atoi("0" + v[i])
		y, _ := strconv.Atoi("0" + w[i])
		if order = x - y; order == 0 {
			equal++
		}
	}
	if order == 0 && v[4] != w[4] { // the prereleases of the test are ordered as texts
		order = strings.Compare(v[4]+"~", w[4]+"~")
	}
	switch op {
	case "^":
		return equal >= 1
	case "~":
		return equal >= 2
	case "=":
		return order == 0
	case "!=":
		return order != 0
	}
	return map[any]bool{"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[op]
}
