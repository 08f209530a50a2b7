package session

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/follow"
	"github.com/midair-go/midair/internal/logqueue"
)

const (
	// keyLook is the time between two looks at the file.
	keyLook = time.Second
	// keyFileSize is the most that the file may have, in bytes.
	keyFileSize = 64 << 10
)

// A keyFile is the file that a ring follows. The lock of the ring guards it.
type keyFile struct {
	file   follow.File
	looked time.Time
	good   bool // a content was taken
	drops  []func(key) bool
	err    error // what is wrong with the file now
	said   string
	logger *slog.Logger
}

// Follow takes the secrets from a file, and follows the changes of the file until the process ends. Each line is a secret, exactly
// as written: 32 to 1024 letters, digits and signs of ASCII, without spaces. The command `openssl rand -base64 48` makes a good
// secret. The first line shall seal. Empty lines, and lines that begin with "#", are comments. The last line ends with a newline
// too, so that a file without its end is refused. Rename a complete file into the place of the old file.
//
// To rotate, put a new secret in front, and leave the other secrets. The new key opens as soon as a request has read the file,
// and seals a minute later (see [KeyRing]). A process that starts goes by the time of the file: later than a minute after the
// change the first line seals, and earlier the last line seals until the minute is over. A time in the future counts as now. Remove
// an old line when the cookies of its key have expired.
//
// A secret that has leaked is dropped at once by a line with the word "drop", a space, and the secret, or the id that Status
// returns. Leave the line in the file until all processes have read the file, and until no older process runs.
//
// Requests look at the file, at most once a second; no goroutine is started. Keep the file on a local disk, because a file system
// that does not answer makes requests wait. If the file is missing or has an error, the last good keys stay in use. Then
// [Manager.Ready] returns an error with the path and the line, and [slog.Default] gets one log line.
//
// Follow returns the error of the first look, and follows the file all the same. If there is no key at all, a random key is used
// until the file is good. Call Follow once, before the ring is used.
func (k *KeyRing) Follow(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file != nil {
		return fmt.Errorf("session: the keys follow %s already", k.file.file.Path)
	}
	k.init()
	k.told = true
	k.file = &keyFile{file: follow.File{Path: abs, MaxSize: keyFileSize}, logger: logqueue.Wrap(slog.Default())}
	k.tend()
	return k.file.err
}

// look reads the file if a look is due and the content has changed.
func (f *keyFile) look(k *KeyRing, now time.Time) {
	if !f.looked.IsZero() && now.Sub(f.looked) < keyLook {
		return
	}
	first := f.looked.IsZero()
	f.looked = now
	content, fresh, err := f.file.Look(false)
	switch {
	case errors.Is(err, follow.ErrWriting) && f.good:
		return // most probably the next look finds the file at rest
	case err != nil:
		f.complain(fmt.Errorf("session: %w", err))
		return
	case !fresh:
		return
	}
	keys, drops, err := parseKeys(content)
	if err != nil {
		f.complain(fmt.Errorf("session: %s: %w", f.file.Path, err))
		return
	}
	came := now
	if first {
		came = f.written(now)
	}
	f.drops = drops
	f.take(k, keys, came)
}

// complain keeps an error, and logs it unless the last look had the same error.
func (f *keyFile) complain(err error) {
	f.err = err
	if text := err.Error(); text != f.said {
		f.said = text
		f.logger.LogAttrs(context.Background(), slog.LevelError, "session: the keys in the file are not used", slog.Any("err", err))
	}
}

// take configures the keys of a good file. New keys came at the given time.
func (f *keyFile) take(k *KeyRing, keys []key, came time.Time) {
	if k.keyset.Empty() || k.standIn { // nothing tells which line is new: by the rule not the last one
		k.keyset.Configure(keys[len(keys)-1:], time.Time{})
	}
	k.configure(keys, came)
	f.drop(k) // last: there is a key at each moment
	f.good, f.err, f.said, k.standIn = true, nil, "", false
	f.logger.LogAttrs(context.Background(), slog.LevelInfo, "session: keys read", slog.String("path", f.file.Path),
		slog.Int("keys", len(keys)), slog.String("first", keys[0].name()))
}

// drop removes the keys dropped in the file, from whatever source the keys came.
func (f *keyFile) drop(k *KeyRing) {
	for _, match := range f.drops {
		k.keyset.Drop(match)
	}
}

// written returns the modification time of the file, and not later than now.
func (f *keyFile) written(now time.Time) time.Time {
	info, err := os.Stat(f.file.Path)
	if err != nil {
		return now
	}
	return now.Add(-max(0, now.Sub(info.ModTime())))
}

// parseKeys reads the content of a file: the keys, and which keys are to be dropped.
func parseKeys(content []byte) (keys []key, drops []func(key) bool, err error) {
	if len(content) > 0 && !bytes.HasSuffix(content, []byte("\n")) {
		return nil, nil, errors.New("the last line does not end with a newline: the file may not be complete")
	}
	places := map[string]int{}
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if what, ok := strings.CutPrefix(line, "drop "); ok {
			drop, err := parseDrop(strings.TrimSpace(what))
			if err != nil {
				return nil, nil, fmt.Errorf("line %d: drop: %w", n, err)
			}
			drops = append(drops, drop)
			continue
		}
		one, err := parseKey(line)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", n, err)
		}
		if before := places[line]; before > 0 {
			return nil, nil, fmt.Errorf("line %d: the secret of line %d again", n, before)
		}
		places[line] = n
		keys = append(keys, one)
	}
	return keys, drops, checkKeys(keys, drops, places)
}

// checkKeys checks the lines as a whole.
func checkKeys(keys []key, drops []func(key) bool, places map[string]int) error {
	if len(keys) == 0 {
		return errors.New("there is no secret in it")
	}
	if len(keys) > maxKeys {
		return fmt.Errorf("%d secrets, more than %d", len(keys), maxKeys)
	}
	for _, one := range keys {
		for _, drop := range drops {
			if drop(one) {
				return fmt.Errorf("line %d: this secret is dropped in another line", places[one.secret])
			}
		}
	}
	return nil
}

func parseKey(line string) (key, error) {
	for _, c := range []byte(line) {
		if c <= ' ' || c > '~' {
			return key{}, errors.New("a secret has only letters, digits and signs of ASCII, and no spaces")
		}
	}
	return newKey([]byte(line))
}

// parseDrop returns a function to find the key with an id or a secret.
func parseDrop(what string) (func(key) bool, error) {
	if id, err := hex.DecodeString(what); err == nil && len(id) == len(key{}.id) {
		return func(k key) bool { return k.id == [4]byte(id) }, nil
	}
	one, err := parseKey(what)
	if err != nil {
		return nil, err
	}
	return func(k key) bool { return k.secret == one.secret }, nil
}
