package house_test

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// byWall are the files that use times since 1970, or times of files, and why no other clock will do. Everything else goes by
// time.Time values of its own process, which have the monotonic clock in them, or by sys.Uptime.
var byWall = map[string]string{
	"internal/kept/kept.go":                "what AppendTime carries is said by its callers",
	"internal/killswitch/killswitch.go":    "when an operator has acted is for people; of several kills it decides which is shown; an override ends on every host at the same time",
	"internal/killswitch/status.go":        "the same",
	"session/cookie.go":                    "tokens are issued by one host and expire on another",
	"session/visit.go":                     "the same",
	"session/session.go":                   "the same",
	"session/manager.go":                   "the same; when a session began is what a router compares with the begin of a rollout",
	"session/move.go":                      "when a user has logged in is for people; a pause that a process has slept through counts, so entries of a list are checked again",
	"session/registry.go":                  "see move.go",
	"session/sqlstore/table.go":            "records in the store expire; the time between two removals may be any",
	"session/roll.go":                      "lists of sessions are written by one host and read by another; see move.go",
	"session/users.go":                     "when a user has logged in is for people",
	"session/attempt.go":                   "see move.go",
	"session/redisstore/record.go":         "records in the store expire",
	"session/sqlstore/store.go":            "records in the store expire",
	"session/envelope.go":                  "the end of a session is stored, and other hosts read it",
	"session/dirrecord.go":                 "records in the store expire",
	"session/keyfile.go":                   "a process that starts learns from the time of the file alone how long others have had the keys; one in the future counts as now",
	"session/dirsweep.go":                  "the time of the last sweep, by any process, is that of a file; one in the future counts as none",
	"flags/internal/flagd/variable.go":     "$flagd.timestamp is seconds since 1970",
	"flags/keep.go":                        "which content was read later in another process; matters only while the file is broken",
	"internal/follow/stamp.go":             "times of a file are compared with earlier times of the same file only",
	"upgrade/certs/keep.go":                "keys of tickets end in all processes at the same time",
	"upgrade/certs/tickets.go":             "the same; when the next look is due goes by the monotonic clock",
	"drain/deadline.go":                    "a deadline that is over",
	"upgrade/internal/listener/gate.go":    "a deadline that is over",
	"upgrade/internal/handoff/flow.go":     "a deadline that is over",
	"upgrade/internal/wire/socket_unix.go": "a deadline that is over",
}

var wall = regexp.MustCompile(`\.Unix(Nano|Milli|Micro)?\(\)|time\.Unix(Milli|Micro)?\(|\.Round\(0\)|\.ModTime\(\)|kept\.AppendTime\(|\br\.Time\(\)`)

// No decision depends on the clock that is set by people and by NTP, but for those that have to.
func TestWallClockDecidesOnlyWhereItMust(t *testing.T) {
	used := map[string]bool{}
	root := filepath.Join("..", "..")
	for _, dir := range []string{"canary", "drain", "flags", "internal", "session", "upgrade"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			name, _ := filepath.Rel(root, path)
			name = filepath.ToSlash(name)
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.Contains(name, "test") {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			for lines, n := bufio.NewScanner(f), 1; lines.Scan(); n++ {
				if !wall.MatchString(lines.Text()) || strings.HasPrefix(strings.TrimSpace(lines.Text()), "//") {
					continue
				}
				if used[name] = true; byWall[name] == "" {
					t.Errorf("%s:%d goes by the wall clock: %s", name, n, strings.TrimSpace(lines.Text()))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range byWall {
		if !used[name] {
			t.Errorf("%s does not use the wall clock any more", name)
		}
	}
}
