package flags

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/killswitch"
)

// format is the layout of the state: when the content of the file of Open was read, its path, the content, and a baggage. A process
// without such a content has none, and an old build has no baggage and ignores it.
var format = kept.Format{Name: "flags", Magic: "midair-flags\x00", Version: 1}

// lastGood is the last good content of a file.
type lastGood struct {
	Loaded  time.Time `json:"loaded"`
	From    string    `json:"from"`
	Content []byte    `json:"content"`
}

// A baggage is what a process hands on besides the content of the file of Open. Members of a later build are ignored.
type baggage struct {
	// Overlays are the contents of the other files, by path.
	Overlays map[string]lastGood `json:"overlays,omitempty"`
	// Earlier are the definitions of the flags that are served although their present definition is refused.
	Earlier map[string][]byte `json:"earlier,omitempty"`
	// Overrides is the state of the overrides.
	Overrides []byte `json:"overrides,omitempty"`
	// Static are the values of a provider that are the same for everybody.
	Static map[string]any `json:"static,omitempty"`
}

// keep returns the state.
func (s *store) keep() []byte {
	s.check(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	first := lastGood{Loaded: time.Unix(0, 0)}
	bag := baggage{Earlier: s.earlier(), Overlays: map[string]lastGood{}}
	if !s.overrides.Unused() {
		bag.Overrides = s.overrides.Encode()
	}
	for _, src := range s.sources.list {
		good := lastGood{src.loaded, src.from, src.content}
		switch {
		case src.file == nil || src.doc == nil:
		case src == s.sources.opened:
			first = good
		default:
			bag.Overlays[src.path] = good
		}
	}
	if s.provider != nil {
		bag.Static = s.provider.Kept()
	}
	data, err := json.Marshal(bag)
	if err != nil { // a value of a provider that JSON does not know
		s.log.Warn("flags: the values of the provider are not kept", "err", err)
		bag.Static = nil
		data, _ = json.Marshal(bag)
	}
	b := kept.Append32(kept.AppendTime(format.Begin(), first.Loaded), first.From)
	b = kept.Append32(b, first.Content)
	if string(data) != "{}" {
		b = kept.Append32(b, data)
	}
	return format.Seal(b)
}

// earlier returns the definitions of the flags that are refused as they are in the files.
func (s *store) earlier() map[string][]byte {
	all := map[string][]byte{}
	if now := s.now.Load(); now != nil {
		for key := range now.stale {
			if e := now.base[key]; e != nil && e.flag != nil {
				all[key] = e.flag.Definition()
			}
		}
	}
	return all
}

// compile is the inverse of earlier. What this build cannot compile is left out.
func compile(definitions map[string][]byte, opts flagd.Options) map[string]*flagd.Flag {
	all := map[string]*flagd.Flag{}
	for key, definition := range definitions {
		if doc, err := flagd.Parse(definition, opts); err == nil && doc.Flags[key] != nil {
			all[key] = doc.Flags[key]
		}
	}
	return all
}

// decodeState is the inverse of keep.
func decodeState(data []byte) (first lastGood, bag baggage, err error) {
	r := format.Open(data)
	first = lastGood{r.Time(), string(r.Bytes32()), bytes.Clone(r.Bytes32())}
	if r.Left() > 0 && r.Err() == nil {
		if err := json.Unmarshal(r.Bytes32(), &bag); err != nil && r.Err() == nil {
			return first, bag, r.Damaged(err)
		}
	}
	return first, bag, r.Err()
}

// restore takes over the state of another generation.
func (s *store) restore(data []byte) error {
	first, bag, err := decodeState(data)
	if err != nil && !errors.Is(err, kept.ErrLater) {
		return err
	}
	s.check(false)
	var overrides error
	if err == nil { // the overrides first: they hold whatever becomes of the contents
		overrides = s.mergeOverrides(bag.Overrides)
		err = s.inherit(first, bag)
	}
	if err != nil && s.ready() {
		s.log.Warn("flags: not taken from the other generation", "name", s.opts.Name, "reason", err)
		err = nil
	}
	return errors.Join(overrides, err)
}

// inherit serves what the other generation has, if that is better than what is here.
func (s *store) inherit(first lastGood, bag baggage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	earlier := compile(bag.Earlier, s.sources.parsing)
	s.vars.heirs = map[string]*flagd.Flag{}
	if s.provider != nil {
		s.provider.Keep(bag.Static)
	}
	var failed error
	heir := s.sources.heir(first.From)
	for _, src := range s.sources.list {
		good, ok := bag.Overlays[src.path]
		if !ok && src == heir {
			good, ok = first, true
		}
		other := map[string]*flagd.Flag(nil)
		if ok && src.file != nil {
			other = src.another(good.Content, s.sources.parsing)
			failed = errors.Join(failed, s.adopt(src, good))
		}
		src.inherit(earlier)
		src.inherit(other)
		maps.Copy(s.vars.heirs, other)
	}
	maps.Copy(s.vars.heirs, earlier)
	s.publish()
	s.tell()
	return failed
}

// adopt serves the content that another generation has read, if the file is broken and nothing later was read here.
func (s *store) adopt(src *source, good lastGood) error {
	if len(good.Content) == 0 || src.err == nil || src.doc != nil && !good.Loaded.After(src.loaded) {
		return nil
	}
	broken := src.err
	taken, bad := src.take(good.Content, s.sources.parsing)
	src.err = broken
	if bad != nil {
		return fmt.Errorf("flags: the content that another generation read from %s: %w", good.From, bad)
	}
	if taken {
		src.from, src.loaded, src.kept = good.From, good.Loaded, true
		s.sources.loads++
	}
	return nil
}

func (s *store) mergeOverrides(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	return s.overrides.Merge(data)
}

// killswitchData reports whether data is a state of overrides.
func killswitchData(data []byte) bool { return killswitch.IsEntries(data) }
