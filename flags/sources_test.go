package flags_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
	state "github.com/midair-go/midair/internal/kept"
)

// text is a flag of a file whose value for everybody is a text, and the name of the variant as well.
func text(key, value string) string { return plain(key, fmt.Sprintf("%q", value)) }

// plain is a flag of a file whose value for everybody is given in JSON.
func plain(key, value string) string {
	return fmt.Sprintf(`%q: {"state": "ENABLED", "variants": {"v": %s}, "defaultVariant": "v"}`, key, value)
}

// faulty is a flag of a file that no semantics takes.
func faulty(key string) string { return fmt.Sprintf("%q: 3", key) }

// set is a file with flags.
func set(flags ...string) string { return `{"flags": {` + strings.Join(flags, ", ") + `}}` }

// A tree is Flags with the files base, over1 and over2.
type tree struct {
	*flags.Flags
	t                  *testing.T
	base, over1, over2 string
	opts               flags.Options
}

func plant(t *testing.T, opts flags.Options, base, over1, over2 string) *tree {
	dir := t.TempDir()
	tr := &tree{t: t, base: filepath.Join(dir, "base.json"), over1: filepath.Join(dir, "over1.json"), over2: filepath.Join(dir, "over2.json")}
	for path, content := range map[string]string{tr.base: base, tr.over1: over1, tr.over2: over2} {
		if content != "" {
			write(t, path, content)
		}
	}
	opts.Overlays = []string{tr.over1, tr.over2}
	tr.opts, tr.Flags = opts, open(t, tr.base, opts)
	return tr
}

// look writes contents and looks at the files. An empty path is skipped.
func (tr *tree) look(path, content string) {
	tr.t.Helper()
	if content == "" {
		check(tr.t, os.Remove(path))
	} else {
		replace(tr.t, path, content)
	}
	tr.Check()
}

// must compares the values of flags, by name and by handle, each as "key=value".
func must(t *testing.T, f *flags.Flags, want ...string) {
	t.Helper()
	for _, pair := range want {
		key, value, _ := strings.Cut(pair, "=")
		mustBe(t, key, f.String(context.Background(), key, "default"), value)
		mustBe(t, key+" by handle", f.StringFlag(key, "default").Get(context.Background()), value)
	}
}

// warned returns the warnings of Status as lines.
func warned(f *flags.Flags) string {
	var all []string
	for _, w := range f.Status().Warnings {
		all = append(all, w.String())
	}
	return strings.Join(all, "\n")
}

// A flag of a stronger source outranks the same flag of a weaker source, and a flag that a stronger source gives up comes back from
// the weaker one.
func TestSourcesHaveAnOrder(t *testing.T) {
	defaults := set(text("a", "defaults"), text("b", "defaults"), text("c", "defaults"), text("d", "defaults"))
	tr := plant(t, flags.Options{Defaults: []byte(defaults)},
		set(text("b", "base"), text("c", "base"), text("d", "base")), set(text("c", "1"), text("d", "1")), set(text("d", "2")))
	must(t, tr.Flags, "a=defaults", "b=base", "c=1", "d=2", "e=default")
	tr.look(tr.over2, set())
	must(t, tr.Flags, "a=defaults", "b=base", "c=1", "d=1")
	tr.look(tr.over1, set(text("a", "1")))
	must(t, tr.Flags, "a=1", "b=base", "c=base", "d=base")
	tr.look(tr.base, set())
	must(t, tr.Flags, "a=1", "b=defaults", "c=defaults", "d=defaults")
	mustBe(t, "the state", tr.Status().State, "ready")
	mustBe(t, "the number of flags", tr.Status().Flags, 4)
}

// A file that is broken or missing keeps its own last good values; all other files go on changing.
func TestABrokenFileHurtsOnlyItself(t *testing.T) {
	for what, content := range map[string]string{"broken": "{", "missing": "", "of another kind": "[]"} {
		t.Run(what, func(t *testing.T) {
			tr := plant(t, flags.Options{}, set(text("a", "base")), set(text("b", "1"), text("c", "1")), set(text("c", "2")))
			tr.look(tr.over1, content)
			must(t, tr.Flags, "a=base", "b=1", "c=2")
			tr.look(tr.base, set(text("a", "new"), text("b", "new")))
			tr.look(tr.over2, set(text("d", "new")))
			must(t, tr.Flags, "a=new", "b=1", "c=1", "d=new")
			s := tr.Status()
			mustHold(t, s.State, "stale: ")
			mustHold(t, s.Error, tr.over1)
			check(t, tr.Ready(context.Background()))
			if err := tr.Reload(); err == nil || !strings.Contains(err.Error(), tr.over1) {
				t.Errorf("Reload = %v", err)
			}
			tr.look(tr.over1, set())
			must(t, tr.Flags, "a=new", "b=new", "c=default", "d=new")
			mustBe(t, "the state", tr.Status().State, "ready")
			check(t, tr.Reload())
		})
	}
}

// Values of a stronger file are not known while it was never good: then there are no values at all, because the weaker ones could be
// wrong. With Defaults there are values.
func TestAFileThatWasNeverGood(t *testing.T) {
	tr := plant(t, flags.Options{}, set(text("a", "base")), "", set(text("b", "2")))
	must(t, tr.Flags, "a=default")
	err := tr.Ready(context.Background())
	if err == nil {
		t.Fatal("it is ready")
	}
	mustHold(t, err.Error(), tr.over1, "create it")
	mustHold(t, tr.Status().State, "not ready: ", tr.over1)
	write(t, tr.over1, set(text("a", "1")))
	check(t, tr.Ready(context.Background()))
	must(t, tr.Flags, "a=1", "b=2")

	tr = plant(t, flags.Options{Defaults: []byte(set(text("d", "defaults")))}, set(text("a", "base")), "", "{")
	must(t, tr.Flags, "a=base", "d=defaults")
	check(t, tr.Ready(context.Background()))
	mustHold(t, tr.Status().State, "stale: ")
}

// A flag that cannot be used falls to its own last good definition, and without one to a weaker source.
func TestAFaultyFlagFallsToItsOwnLastGoodOne(t *testing.T) {
	tr := plant(t, flags.Options{}, set(text("a", "base"), text("b", "base")), set(text("a", "1")), set())
	tr.look(tr.over1, set(faulty("a"), faulty("b"), text("c", "1")))
	must(t, tr.Flags, "a=1", "b=base", "c=1")
	mustHold(t, tr.Status().State, "stale: flag a: ")
	mustHold(t, warned(tr.Flags), tr.over1, "flag a: refused", "its last good definition is served", "flag b: refused")
	tr.look(tr.base, set(text("a", "new"), text("b", "new")))
	must(t, tr.Flags, "a=1", "b=new", "c=1")
	tr.look(tr.over1, set(faulty("b"))) // a is gone: the weaker one counts
	must(t, tr.Flags, "a=new", "b=new", "c=default")
	tr.look(tr.over1, set(faulty("a"), faulty("b"))) // a was given up, so there is no last good one
	must(t, tr.Flags, "a=new", "b=new")
	tr.look(tr.base, set(text("a", "new"), faulty("b")))
	must(t, tr.Flags, "a=new", "b=new")
	tr.look(tr.over1, set(text("b", "1")))
	must(t, tr.Flags, "a=new", "b=1")
	mustHold(t, tr.Status().State, "stale: flag b")
	tr.look(tr.base, set())
	must(t, tr.Flags, "a=default", "b=1")
	mustBe(t, "the state", tr.Status().State, "ready")
	mustBe(t, "the warnings", warned(tr.Flags), "")
}

// A flag that was never good and is in no other source gives the caller's default, with the reason.
func TestAFlagThatWasNeverGoodTellsWhy(t *testing.T) {
	tr := plant(t, flags.Options{}, set(text("a", "base")), set(faulty("x")), set())
	must(t, tr.Flags, "a=base", "x=default")
	d := tr.StringFlag("x", "default").Details(context.Background())
	mustHold(t, d.ResolutionError.Error(), "PARSE_ERROR", tr.over1, "flag x")
}

// Defaults are a part of the program: what is wrong with them is an error of Open.
func TestDefaultsMustBeGood(t *testing.T) {
	for content, part := range map[string]string{"{": "Options.Defaults", set(faulty("a")): "flag a", "": "Options.Defaults"} {
		_, err := flags.Open("x", flags.Options{Defaults: []byte(content)})
		if err == nil {
			t.Fatalf("%q is taken", content)
		}
		mustHold(t, err.Error(), "flags: Options.Defaults", part)
	}
}

// The version changes with the content of any file, and comes back with it.
func TestTheVersionIsThatOfAllFiles(t *testing.T) {
	tr := plant(t, flags.Options{}, set(text("a", "base")), set(), set())
	first := tr.Status().Version
	seen := map[string]bool{first: true}
	for _, path := range []string{tr.base, tr.over1, tr.over2} {
		tr.look(path, set(text("b", path)))
		if v := tr.Status().Version; seen[v] || len(v) != 12 {
			t.Errorf("the version is %q after a change of %s", v, path)
		} else {
			seen[v] = true
		}
	}
	tr.look(tr.base, set(text("a", "base")))
	tr.look(tr.over1, set())
	tr.look(tr.over2, set())
	mustBe(t, "the version", tr.Status().Version, first)
}

// next opens the files as a new process does, with the state of the old one.
func (tr *tree) next(opts flags.Options) *flags.Flags {
	tr.t.Helper()
	data, err := tr.MarshalBinary()
	check(tr.t, err)
	opts.Overlays = tr.opts.Overlays
	f := open(tr.t, tr.base, opts)
	check(tr.t, f.UnmarshalBinary(data))
	return f
}

// A new process serves what the old one served, whatever files and flags are broken; and good files come first.
func TestSourcesSurviveAnUpgrade(t *testing.T) {
	tr := plant(t, flags.Options{}, set(text("a", "base"), text("b", "base")), set(text("b", "1"), text("c", "1")), set(text("d", "2")))
	tr.look(tr.over1, "{")
	tr.look(tr.over2, set(faulty("d"), faulty("e"), text("g", "2")))
	tr.look(tr.base, set(faulty("a"), text("b", "new")))
	want := []string{"a=base", "b=1", "c=1", "d=2", "e=default", "g=2"}
	must(t, tr.Flags, want...)
	f := tr.next(flags.Options{})
	check(t, f.Ready(context.Background()))
	must(t, f, want...)
	mustBe(t, "the version", f.Status().Version, tr.Status().Version)
	mustHold(t, f.Status().Error, tr.over1)

	second := &tree{Flags: f, t: t, base: tr.base, over1: tr.over1, over2: tr.over2, opts: tr.opts}
	must(t, second.next(flags.Options{}), want...) // once more: what was kept is handed on

	replace(t, tr.over1, set(text("c", "new")))
	f.Check()
	must(t, f, "a=base", "b=new", "c=new", "d=2")
	replace(t, tr.over2, set(text("d", "new")))
	replace(t, tr.base, set())
	f.Check()
	must(t, f, "a=default", "b=default", "c=new", "d=new")
	mustBe(t, "the state", f.Status().State, "ready")
}

// While everything is refused, the flag that is refused and mended, and refused again, is that of the last good content.
func TestEarlierDefinitionsAreTheLastOnes(t *testing.T) {
	tr := plant(t, flags.Options{}, set(text("a", "1")), set(), set())
	tr.look(tr.base, set(faulty("a")))
	tr.look(tr.base, set(text("a", "2")))
	tr.look(tr.base, set(faulty("a")))
	tr.look(tr.base, set(faulty("a"), text("b", "1")))
	must(t, tr.next(flags.Options{}), "a=2", "b=1")
	tr.look(tr.base, set(text("a", "2"), text("b", "1")))
	data, err := tr.MarshalBinary()
	check(t, err)
	if strings.Contains(string(data), "earlier") {
		t.Error("a flag that is mended is handed on as refused")
	}
}

// An overlay is found again by its path; an overlay that the old process did not have is broken for itself.
func TestOverlaysAreHandedOnByPath(t *testing.T) {
	tr := plant(t, flags.Options{}, set(text("a", "base")), set(text("b", "1")), set(text("c", "2")))
	data, err := tr.MarshalBinary()
	check(t, err)
	check(t, os.Remove(tr.over1))
	check(t, os.Remove(tr.over2))
	f := open(t, tr.base, flags.Options{Overlays: []string{tr.over2, tr.over1}})
	check(t, f.UnmarshalBinary(data))
	must(t, f, "a=base", "b=1", "c=2")
	other := filepath.Join(t.TempDir(), "other.json")
	f = open(t, tr.base, flags.Options{Overlays: []string{tr.over2, other}, Defaults: []byte(set())})
	check(t, f.UnmarshalBinary(data))
	must(t, f, "a=base", "b=default", "c=2")
	f = open(t, tr.base, flags.Options{Overlays: []string{other}})
	check(t, f.UnmarshalBinary(data))
	if err := f.Ready(context.Background()); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("Ready = %v", err)
	}
}

// The state that a build without overlays has written is read, and a build without overlays reads the beginning of ours.
func TestTheStateOfOldBuildsIsRead(t *testing.T) {
	format := state.Format{Name: "flags", Magic: "midair-flags\x00", Version: 1}
	tr := plant(t, flags.Options{}, set(text("a", "base"), text("b", "base")), set(text("c", "1")), set())
	data, err := tr.MarshalBinary()
	check(t, err)
	r := format.Open(data)
	loaded, from, content := r.Time(), string(r.Bytes32()), r.Bytes32()
	if check(t, r.Err()); from != tr.base || string(content) != set(text("a", "base"), text("b", "base")) || r.Left() == 0 {
		t.Fatalf("from %s, content %s, %d bytes more", from, content, r.Left())
	}
	var bag map[string]json.RawMessage
	check(t, json.Unmarshal(r.Bytes32(), &bag))
	old := format.Seal(state.Append32(state.Append32(state.AppendTime(format.Begin(), loaded), from), content))

	check(t, os.Remove(tr.base))
	f := open(t, tr.base, flags.Options{Overlays: tr.opts.Overlays})
	check(t, f.UnmarshalBinary(old))
	must(t, f, "a=base", "b=base", "c=1")
	mustBe(t, "kept", f.Status().Kept, true)

	write(t, tr.base, set(faulty("a"), text("b", "new")))
	f = open(t, tr.base, flags.Options{Overlays: tr.opts.Overlays})
	must(t, f, "a=default", "b=new")
	check(t, f.UnmarshalBinary(old)) // the old build knows nothing of refused flags: its content is used for each flag
	must(t, f, "a=base", "b=new", "c=1")
	mustBe(t, "kept", f.Status().Kept, false)

	unknown := append(state.Append32(state.AppendTime(format.Begin(), loaded), from), 0)
	if err := f.UnmarshalBinary(format.Seal(unknown)); err == nil {
		t.Error("a damaged state is taken")
	}
	must(t, f, "a=base", "b=new", "c=1")
}
