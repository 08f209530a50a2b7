package hosted

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// What another build has added to the values of another process, and what is damaged, is left out.
func TestStrangeKeptValuesAreLeftOut(t *testing.T) {
	for _, text := range []string{
		`{"f": 1}`, `{"f": {"bool": "maybe"}}`, `{"f": {"int": "1.5", "float": "x", "object": "{", "later": "x"}}`, `{"f": {"bool": true}}`,
		`{"f": null}`,
	} {
		var all map[string]any
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatal(err)
		}
		m := memory{}
		m.set(all)
		if got := m.all(true); len(got) != 0 {
			t.Errorf("%s gives %v", text, got)
		}
	}
}

// filled is the size that the memory should have, counted again.
func filled(m *memory) (size, flags int) {
	for s, v := range m.values {
		size += v.size
		if s.kind != everybody {
			flags++
		}
	}
	return size, flags
}

// Whatever is noted, the counts of a memory are right, its limits hold, and what changed last is what it has, or it has nothing.
func TestCountsOfAMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	kinds := []reflect.Kind{reflect.String, reflect.Int64, everybody}
	m, last := &memory{}, map[slot]string{}
	for range 20_000 {
		s := slot{strconv.Itoa(r.IntN(1500)), kinds[r.IntN(3)]}
		static := r.IntN(4) > 0
		value := strings.Repeat("x", r.IntN(2000))
		m.note(s, value, static)
		if last[s] = value; !static {
			delete(last, s)
		}
		if got := m.get(s); got != nil && got != last[s] {
			t.Fatalf("%v has an old value", s)
		}
	}
	size, flags := filled(m)
	if size != m.size || flags != m.flags || size > maxMemory || flags > maxRemembered {
		t.Errorf("%d bytes and %d flags, counted as %d and %d", size, flags, m.size, m.flags)
	}
	if len(m.values) < 500 {
		t.Errorf("the memory has only %d values", len(m.values))
	}
	for s, v := range m.values {
		if v.value != last[s] {
			t.Errorf("%v has an old value", s)
		}
	}
}

// Values of another process give way to own values, and are passed on only while that is wanted.
func TestOwnValuesComeFirst(t *testing.T) {
	other := &memory{}
	other.note(slot{"a", reflect.String}, "other", true)
	other.note(slot{"b", reflect.String}, "other", true)
	m := &memory{}
	m.note(slot{"a", reflect.String}, "own", true)
	m.set(other.all(true))
	if a, b := m.get(slot{"a", reflect.String}), m.get(slot{"b", reflect.String}); a != "own" || b != "other" {
		t.Errorf("the values are %v and %v", a, b)
	}
	if with, without := len(m.all(true)), len(m.all(false)); with != 2 || without != 1 {
		t.Errorf("%d values with those of the other process, %d without", with, without)
	}
	m.note(slot{"b", reflect.String}, "other", true) // asked for here, and still the same
	if got := len(m.all(false)); got != 2 {
		t.Errorf("%d values are passed on", got)
	}
}
