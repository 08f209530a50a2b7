package flagd

import (
	"strconv"
	"strings"
)

// A version is a semantic version (https://semver.org), of which minor and patch may be missing. Build metadata is
// checked and left out. The numbers are texts, with any number of digits.
type version struct {
	major, minor, patch string
	prerelease          string // without the hyphen
}

// parseVersion reads a version with or without a leading v. No allocation.
func parseVersion(s string) (version, bool) {
	if s != "" && (s[0] == 'v' || s[0] == 'V') {
		s = s[1:]
	}
	v := version{minor: "0", patch: "0"}
	var ok bool
	if v.major, s, ok = cutNumber(s); !ok || s == "" {
		return v, ok
	}
	if v.minor, s, ok = cutPart(s); !ok || s == "" {
		return v, ok
	}
	if v.patch, s, ok = cutPart(s); !ok {
		return v, false
	}
	if strings.HasPrefix(s, "-") {
		v.prerelease = s[1:]
		if i := strings.IndexByte(s, '+'); i >= 0 {
			v.prerelease = s[1:i]
		}
		s = s[1+len(v.prerelease):]
		if !identifiers(v.prerelease, true) {
			return v, false
		}
	}
	return v, s == "" || s[0] == '+' && identifiers(s[1:], false)
}

// cutNumber takes digits without a leading zero off the beginning.
func cutNumber(s string) (number, rest string, ok bool) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:], i > 0 && (i == 1 || s[0] != '0')
}

func cutPart(s string) (number, rest string, ok bool) {
	if s[0] != '.' {
		return "", s, false
	}
	return cutNumber(s[1:])
}

// identifiers reports whether s is a list of identifiers with dots between. Numbers in a prerelease have
// no leading zero.
func identifiers(s string, prerelease bool) bool {
	for more := true; more; {
		var id string
		id, s, more = strings.Cut(s, ".")
		if id == "" || prerelease && len(id) > 1 && id[0] == '0' && isNumber(id) {
			return false
		}
		for i := range len(id) {
			if c := id[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-') {
				return false
			}
		}
	}
	return true
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// compareNumbers orders numbers without leading zeros.
func compareNumbers(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// compare orders two versions by precedence.
func (v version) compare(w version) int {
	if c := compareNumbers(v.major, w.major); c != 0 {
		return c
	}
	if c := compareNumbers(v.minor, w.minor); c != 0 {
		return c
	}
	if c := compareNumbers(v.patch, w.patch); c != 0 {
		return c
	}
	switch {
	case v.prerelease == w.prerelease:
		return 0
	case v.prerelease == "":
		return 1
	case w.prerelease == "":
		return -1
	}
	return comparePrereleases(v.prerelease, w.prerelease)
}

// comparePrereleases goes through the identifiers: numbers by value, before all else, which goes by its bytes.
func comparePrereleases(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if x == y {
			continue
		}
		switch left, right := isNumber(x), isNumber(y); {
		case left && right:
			return compareNumbers(x, y)
		case left:
			return -1
		case right:
			return 1
		}
		return strings.Compare(x, y)
	}
	return len(a) - len(b) // more identifiers are later
}

// relations are the operators between versions. ^ and ~ ask for the same major, or major and minor, number alone.
var relations = map[string]func(v, w version) bool{
	"=":  func(v, w version) bool { return v.compare(w) == 0 },
	"!=": func(v, w version) bool { return v.compare(w) != 0 },
	"<":  func(v, w version) bool { return v.compare(w) < 0 },
	"<=": func(v, w version) bool { return v.compare(w) <= 0 },
	">":  func(v, w version) bool { return v.compare(w) > 0 },
	">=": func(v, w version) bool { return v.compare(w) >= 0 },
	"^":  func(v, w version) bool { return v.major == w.major },
	"~":  func(v, w version) bool { return v.major == w.major && v.minor == w.minor },
}

// versionOf is the version that a value spells. A number is a version as well: 1.2 is 1.2.0.
func versionOf(v value) (version, bool) {
	switch v.kind {
	case Text:
		return parseVersion(v.text())
	case Number:
		return parseVersion(strconv.FormatFloat(v.num, 'g', -1, 64))
	}
	return version{}, false
}

// semVer compiles sem_ver: a version, a relation and another version. Everything else gives null, as in flagd.
// Literals are parsed once.
func semVer(c *call) node {
	if c.bare {
		return eager(c, compareVersions)
	}
	if len(c.args) != 3 {
		c.warn("%q takes 3 arguments, not %d: it is always null", c.op, len(c.args))
		return fixed(value{})
	}
	relation, target := c.args[1].lit, c.args[2].lit
	if relation == nil || target == nil {
		return semVerComputed(c)
	}
	holds := relations[relation.text()]
	w, ok := versionOf(*target)
	switch {
	case holds == nil || relation.kind != Text:
		c.warn("%q is always null: %#v is none of = != < <= > >= ^ ~", c.op, *relation)
		return fixed(value{})
	case !ok:
		c.warn("%q is always null: %#v is no version", c.op, *target)
		return fixed(value{})
	}
	x := c.args[0].eval
	return node{eval: func(e Env) value {
		a := x(e)
		if a.kind == failed {
			return a
		}
		v, ok := versionOf(a)
		if !ok {
			return value{}
		}
		return truth(holds(v, w))
	}}
}

func semVerComputed(c *call) node {
	x, y, z := c.args[0].eval, c.args[1].eval, c.args[2].eval
	return node{eval: func(e Env) value {
		a, b, c := x(e), y(e), z(e)
		if a.kind == failed || b.kind == failed || c.kind == failed {
			return first(first(a, b), c)
		}
		return compareThree(a, b, c)
	}}
}

func compareVersions(args []value) value {
	if len(args) != 3 {
		return value{}
	}
	return compareThree(args[0], args[1], args[2])
}

func compareThree(a, relation, b value) value {
	v, isVersion := versionOf(a)
	w, ok := versionOf(b)
	if holds := relations[relation.text()]; isVersion && ok && holds != nil && relation.kind == Text {
		return truth(holds(v, w))
	}
	return value{}
}
