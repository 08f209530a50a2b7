package flagd_test

import (
	"fmt"
	"testing"
)

// ordered are versions in the order of their precedence, as https://semver.org has it and beyond.
var ordered = []string{
	"0", "0.0.1", "0.1", "1.0.0-0", "1.0.0-2", "1.0.0-11", "1.0.0--", "1.0.0-0a", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
	"1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0-rc.1.0", "1", "1.0.1", "1.2", "1.10.0", "2.0.0", "10",
	"99999999999999999999999999.0.0", "100000000000000000000000000.0.0",
}

// The relations agree with the order, for each pair.
func TestVersionsHaveTheirOrder(t *testing.T) {
	for i, v := range ordered {
		for j, w := range ordered {
			for relation, want := range map[string]bool{"=": i == j, "!=": i != j, "<": i < j, "<=": i <= j, ">": i > j, ">=": i >= j} {
				if got := compareVersions(t, v, relation, w); got != fmt.Sprint(want) {
					t.Errorf("%s %s %s is %s", v, relation, w, got)
				}
			}
		}
	}
}

// compareVersions is the result of sem_ver with two literals, and with a version of the caller's.
func compareVersions(t *testing.T, v, relation, w string) string {
	t.Helper()
	literal := result(t, fmt.Sprintf(`{"sem_ver":[%q,%q,%q]}`, v, relation, w), env("", nil))
	computed := result(t, fmt.Sprintf(`{"sem_ver":[{"var":"v"},%q,{"var":"w"}]}`, relation), env("", attrs{"v": v, "w": w}))
	spread := result(t, `{"sem_ver":{"var":"l"}}`, env("", attrs{"l": []string{v, relation, w}}))
	if literal != computed || literal != spread {
		t.Errorf("%s %s %s is %s, %s computed, %s as a list", v, relation, w, literal, computed, spread)
	}
	return literal
}

// The same major, and the same major and minor number, count alone.
func TestVersionRanges(t *testing.T) {
	for _, c := range []struct {
		v, w         string
		caret, tilde bool
	}{
		{"1.9.0", "1.2.0", true, false}, {"1.2.9", "1.2.0", true, true}, {"1.2.0", "1.2.9", true, true}, {"2.0.0", "1.9.9", false, false},
		{"1.0.0-rc.1", "1", true, true}, {"0.2.0", "0.1.0", true, false}, {"v1", "V1.0.0+x", true, true}, {"10.1", "1.1", false, false},
	} {
		mustBe(t, c.v+" ^ "+c.w, compareVersions(t, c.v, "^", c.w), fmt.Sprint(c.caret))
		mustBe(t, c.v+" ~ "+c.w, compareVersions(t, c.v, "~", c.w), fmt.Sprint(c.tilde))
	}
}

// What is no version gives null, on either side and for each relation, and so does what is no relation.
func TestWhatIsNoVersion(t *testing.T) {
	for _, v := range []string{
		"", "v", "vv1", "Vv1", "vV1", "1.", ".1", "1..2", "1.2.", "1.2.3.", "1.2.3.4", "01", "1.02", "1.2.03", "-1", "+1", " 1", "1 ", "1.x", "a",
		"1-alpha", "1.2-alpha", "1+b", "1.2+b", "1.2.3-", "1.2.3+", "1.2.3-a..b", "1.2.3-01", "1.2.3-a.01", "1.2.3-ä", "1.2.3+a_b", "1.2.3+a..b", "1.2.3-a+", "1e+06",
	} {
		mustBe(t, v, compareVersions(t, v, "!=", "1.0.0"), "none")
		mustBe(t, "1.0.0 and "+v, compareVersions(t, "1.0.0", "!=", v), "none")
	}
	for _, v := range []string{"1.2.3-0", "1.2.3--", "1.2.3-0a.00a", "1.2.3+001", "1.2.3-a+b.-", "v1.2.3+a-b"} {
		mustBe(t, v, compareVersions(t, v, "!=", "0"), "true")
	}
	for _, r := range []string{"", "==", "=>", "^^", "in"} {
		mustBe(t, "relation "+r, compareVersions(t, "1.0.0", r, "1.0.0"), "none")
	}
	for _, v := range []any{nil, true, -1, 1e6, 1e21, attrs{}, []any{"1.0.0"}} {
		mustBe(t, fmt.Sprint(v), result(t, `{"sem_ver":[{"var":"v"},"!=","0"]}`, env("", attrs{"v": v})), "none")
	}
}
