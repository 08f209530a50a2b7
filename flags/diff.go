package flags

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/open-feature/go-sdk/openfeature"
)

// lintKeys is the number of keys with which Lint compares two files.
const lintKeys = 10_000

// A Change is what an edit of a flag file does to the users of a flag.
type Change struct {
	// Key is that of the flag.
	Key string `json:"key"`
	// Users is the number of targeting keys that were compared, and Moved of how many of them the variant changes.
	Users int `json:"users"`
	Moved int `json:"moved"`
	// Moves counts the users by the variant before and after. The default of the caller has the name "".
	Moves map[[2]string]int `json:"-"`
	// Monotone reports whether no variant both loses users to other variants and gets users from other variants. The growth of
	// the share of one variant should be monotone: a user who has seen the new version then does not lose it.
	Monotone bool `json:"monotone"`
}

// String describes the change in one line.
func (c Change) String() string {
	text := fmt.Sprintf("%s: %d of %d users get another variant", c.Key, c.Moved, c.Users)
	for _, move := range slices.SortedFunc(maps.Keys(c.Moves), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		text += fmt.Sprintf(", %d from %q to %q", c.Moves[move], move[0], move[1])
	}
	return text
}

// Diff compares two contents of a flag file. It evaluates each flag for each targeting key, without other attributes, and returns
// the flags for which the variant of a key differs, in order. The keys should be those of real users. The error is about a content
// that cannot be read. Flags that are refused have no variant, like flags that are missing.
//
// Diff does not know Options.Bucketing: a content whose metadata does not name "midair.bucketing" goes by the default,
// flagd/fractional-v2. A program with another Options.Bucketing should name it in the file.
func Diff(before, after []byte, keys []string) ([]Change, error) {
	a, err := flagd.Parse(before, flagd.Options{})
	if err != nil {
		return nil, fmt.Errorf("flags: Diff: the content before: %w", err)
	}
	b, err := flagd.Parse(after, flagd.Options{})
	if err != nil {
		return nil, fmt.Errorf("flags: Diff: the content after: %w", err)
	}
	return diff(a, b, keys), nil
}

func diff(before, after *flagd.Document, keys []string) (all []Change) {
	names := maps.Clone(before.Flags)
	maps.Copy(names, after.Flags)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, b := before.Flags[name], after.Flags[name]
		if a != nil && b != nil && a.Same(b) {
			continue
		}
		c := Change{Key: name, Users: len(keys), Moves: map[[2]string]int{}}
		for _, key := range keys {
			if from, to := variantFor(a, key), variantFor(b, key); from != to {
				c.Moved++
				c.Moves[[2]string{from, to}]++
			}
		}
		if c.Moved > 0 {
			c.Monotone = monotone(c.Moves)
			all = append(all, c)
		}
	}
	return all
}

// variantFor returns the name of the variant for a targeting key, or "" if the answer is the caller's default.
func variantFor(fl *flagd.Flag, key string) string {
	if fl == nil || fl.Disabled {
		return ""
	}
	variant := fl.Default
	if fl.Targeted() {
		chosen, err := fl.Target(flagd.Env{Flat: openfeature.FlattenedContext{openfeature.TargetingKey: key}})
		switch {
		case err != nil:
			return ""
		case chosen != nil:
			variant = chosen
		}
	}
	if variant == nil {
		return ""
	}
	return variant.Name
}

func monotone(moves map[[2]string]int) bool {
	loses, gets := map[string]bool{}, map[string]bool{}
	for move := range moves {
		loses[move[0]], gets[move[1]] = true, true
	}
	for name := range loses {
		if gets[name] {
			return false
		}
	}
	return true
}

// Lint returns remarks about a content of a flag file for its author: flags that would be refused, what flagd or this package would
// understand in another way than it is written, and edits of percentages which are not monotone, see [Change]. These are found by
// a comparison with the content before for 10,000 made-up users; before may be nil. Like Diff, Lint does
// not know Options.Bucketing. The error is about a content that cannot be read.
func Lint(before, after []byte) ([]Warning, error) {
	b, err := flagd.Parse(after, flagd.Options{})
	if err != nil {
		return nil, fmt.Errorf("flags: Lint: the content after: %w", err)
	}
	var all []Warning
	for _, n := range b.Faults {
		all = append(all, Warning{Key: n.Key, Line: n.Line, Text: "refused: " + n.Text})
	}
	for _, n := range b.Warnings {
		all = append(all, Warning{Key: n.Key, Line: n.Line, Text: n.Text})
	}
	if before == nil {
		return all, nil
	}
	a, err := flagd.Parse(before, flagd.Options{})
	if err != nil {
		return nil, fmt.Errorf("flags: Lint: the content before: %w", err)
	}
	keys := make([]string, lintKeys)
	for i := range keys {
		keys[i] = "user-" + strconv.Itoa(i)
	}
	for _, c := range diff(a, b, keys) {
		if !c.Monotone && a.Flags[c.Key] != nil && b.Flags[c.Key] != nil {
			all = append(all, Warning{Key: c.Key, Line: b.Flags[c.Key].Line, Text: "the edit is not monotone: " + c.String() +
				"; list the variant that grows first in fractional"})
		}
	}
	return all, nil
}
