package testutil_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// word is a value that hands over a word, unless the word is one of two that it refuses.
type word string

func (w *word) MarshalBinary() ([]byte, error) {
	if *w == "unspeakable" {
		return nil, errors.New("no words")
	}
	return []byte(*w), nil
}

func (w *word) UnmarshalBinary(data []byte) error {
	if string(data) == "unheard" {
		return errors.New("no ear")
	}
	*w = word(data)
	return nil
}

// The state of one value arrives at the other, and a refusal on either side fails the test.
func TestHandOverFailsWhereEitherSideRefuses(t *testing.T) {
	from, to := word("hello"), word("")
	if testutil.HandOver(t, &from, &to); to != "hello" {
		t.Errorf("%q arrived", to)
	}
	for refused, want := range map[word]string{"unspeakable": "no words", "unheard": "no ear"} {
		if got := failure(t, func(t testing.TB) { testutil.HandOver(t, &refused, &to) }); !strings.Contains(got, want) {
			t.Errorf("%s: failure %q", refused, got)
		}
	}
}
