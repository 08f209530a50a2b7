package flags

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/internal/follow"
)

// Sources are the files of a store and Options.Defaults. They belong to the goroutine that holds the lock of the store.
type sources struct {
	list     []*source // from the weakest to the strongest
	opened   *source   // the file of Open; nil if there is none
	parsing  flagd.Options
	log      *slog.Logger
	optional bool // there are values also without the content of every file
	provider bool // a provider stands in place of the first file
	loads    uint64
	refusals uint64
}

// newSources returns the sources: the files from the weakest to the strongest.
func newSources(opts Options, paths []string) (sources, error) {
	s := sources{parsing: opts.parsing(), log: opts.Logger, optional: opts.Defaults != nil}
	if opts.Defaults != nil {
		defaults := &source{path: "Options.Defaults", from: "Options.Defaults", loaded: time.Now(), weak: true}
		if _, err := defaults.take(opts.Defaults, s.parsing); err != nil {
			return s, err
		}
		if fault := defaults.fault(); fault != nil {
			return s, fault
		}
		s.list = append(s.list, defaults)
	}
	for _, path := range paths {
		s.list = append(s.list, &source{path: path, file: &follow.File{Path: path, MaxSize: maxSize}})
	}
	if files := len(paths); files > len(opts.Overlays) {
		s.opened = s.list[len(s.list)-files]
	}
	return s, nil
}

// look looks at the files. It reports whether a file has a new content.
func (s *sources) look(always bool) (fresh bool) {
	for _, src := range s.list {
		content, read, err := src.look(always)
		taken := false
		if read {
			taken, err = s.offer(src, content)
		}
		s.note(src, err, read && !taken)
		fresh = fresh || taken
	}
	return fresh
}

// offer takes the content of a file if it can be read. It reports whether that is a new content.
func (s *sources) offer(src *source, content []byte) (taken bool, err *Error) {
	if taken, err = src.take(content, s.parsing); err != nil {
		return false, err
	}
	if taken {
		s.loads++
		src.loaded = time.Now()
		if len(src.faults) > 0 {
			s.refusals++
		}
	}
	src.from, src.kept = src.path, false
	return taken, nil
}

// note remembers what is wrong with a file, and logs it once.
func (s *sources) note(src *source, err *Error, again bool) {
	before := src.err
	src.err = err
	switch {
	case err == nil && before != nil && again:
		s.log.Info("flags: the file is good again, nothing changed", "path", src.path, "version", s.version())
	case err != nil && (before == nil || before.Error() != err.Error()):
		s.refusals++
		message := "flags: no values yet, callers get their defaults"
		if src.doc != nil {
			message = "flags: file refused, the last good values stay"
		}
		s.log.Warn(message, "path", err.Path, "reason", err.Reason)
	}
}

// servable reports whether there are values: of a provider, of Options.Defaults, or of every file.
func (s *sources) servable() bool {
	if s.provider || s.optional {
		return true
	}
	for _, src := range s.list {
		if src.doc == nil {
			return false
		}
	}
	return true
}

// version is the beginning of the SHA-256 sum of the content, or of the sums of several contents.
func (s *sources) version() string {
	var all []byte
	for _, src := range s.list {
		if src.doc != nil {
			all = append(all, src.sum[:]...)
		}
	}
	switch len(all) {
	case 0:
		return ""
	case sha256.Size:
		return hex.EncodeToString(all[:6])
	}
	sum := sha256.Sum256(all)
	return hex.EncodeToString(sum[:6])
}

// heir returns the source that goes on with the file of Open of another generation: the same path, or else the file of Open, whose
// path may be another one in a new release. It may be nil.
func (s *sources) heir(path string) *source {
	for _, src := range s.list {
		if src.file != nil && src.path == path {
			return src
		}
	}
	return s.opened
}

// main returns the source that Status shows: the file of Open, or else the weakest overlay. A provider has no such source.
func (s *sources) main() *source {
	for _, src := range s.list {
		if src.file != nil && !s.provider {
			return src
		}
	}
	return nil
}

// from is where the contents of the files were read.
func (s *sources) from() string {
	var all []string
	for _, src := range s.list {
		if src.doc != nil && src.file != nil {
			all = append(all, src.from)
		}
	}
	return strings.Join(all, " ")
}

// problem returns why a file or a flag is not served, or nil.
func (s *sources) problem() *Error {
	for _, src := range s.list {
		if src.err != nil {
			return src.err
		}
	}
	for _, src := range s.list {
		if fault := src.fault(); fault != nil {
			return fault
		}
	}
	return nil
}

// faults returns the flags that are refused.
func (s *sources) faults() (all []Warning) {
	for _, src := range s.list {
		all = append(all, src.faultList()...)
	}
	return all
}

// remarks returns what the contents of the files have for their authors.
func (s *sources) remarks() (all []Warning) {
	for _, src := range s.list {
		if src.doc == nil {
			continue
		}
		for _, n := range src.doc.Warnings {
			all = append(all, Warning{Path: src.path, Key: n.Key, Line: n.Line, Text: n.Text})
		}
	}
	return all
}
