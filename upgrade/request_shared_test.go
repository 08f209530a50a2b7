//go:build linux

package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// stranger is the uid of a user that owns no file of the service.
const stranger = 65534

// needRoot skips a test in which files belong to different users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may give files to others")
	}
}

// inSharedDir puts the pid file of the service into a directory where every user may write.
func inSharedDir(t *testing.T) func(*plan.Settings) {
	return func(s *plan.Settings) {
		dir := filepath.Join(filepath.Dir(s.PIDFile), "tmp")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|os.ModeSticky)); err != nil {
			t.Fatal(err)
		}
		s.PIDFile = filepath.Join(dir, "pid")
	}
}

// An outcome that another user has planted is accepted neither by Request nor by the service, and it delays no upgrade. The
// planted outcome pretends that the upgrade was committed, later than everything that really happens.
func TestPlantedOutcomeFoolsNobody(t *testing.T) {
	needRoot(t)
	for kind, plant := range map[string]func(path string) error{
		"file": func(path string) error {
			b, err := json.Marshal(upgrade.Outcome{Kind: "upgrade", Begun: sys.Uptime() + time.Hour, Committed: true, Generation: 7})
			return errors.Join(err, os.WriteFile(path, b, 0o666), os.Chown(path, stranger, stranger))
		},
		"FIFO": func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"link": func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, inSharedDir(t))
			for _, bad := range []plan.Misbehaviour{plan.CheckFails, ""} {
				_ = os.Remove(lastFile(r)) // the file is perhaps missing
				if err := plant(lastFile(r)); err != nil {
					t.Fatal(err)
				}
				r.Change(func(s *plan.Settings) { s.Bad = bad })
				if q := request(t, r); bad != "" {
					failed(t, q)
				} else {
					q.mustBeCommitted(t, 2)
				}
			}
		})
	}
}

// If another user has planted a pid file, Request sends no signal.
func TestPlantedPIDFileSignalsNobody(t *testing.T) {
	needRoot(t)
	t.Parallel()
	r := testclient.Start(t, nil)
	planted := filepath.Join(r.Dir, "planted")
	if err := errors.Join(os.WriteFile(planted, []byte(strconv.Itoa(r.MainPID())), 0o666), os.Chown(planted, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	_, err := upgrade.Request(t.Context(), planted)
	if err == nil || !strings.Contains(err.Error(), planted+": belongs to uid 65534, and pid "+strconv.Itoa(r.MainPID())+", which it names, to uid 0") {
		t.Errorf("%v", err)
	}
	settle(t, r)
	if s := r.Status(); s.Generation != 1 || s.Candidate != nil || s.Last != nil {
		t.Errorf("the service got a signal: %+v", s)
	}
}

// A pid file may be a symbolic link, as in /run. The outcome is then beside the file to which the link leads.
func TestRequestByALinkedPIDFile(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	link := filepath.Join(t.TempDir(), "svc.pid")
	if err := os.Symlink(r.Set.PIDFile, link); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := upgrade.Request(ctx, link)
	requested{out, err}.mustBeCommitted(t, 2)
}

// If a file in the place of the outcome cannot be replaced, Request returns an error with its name as soon as another process
// serves.
func TestUnreadableOutcomeIsNamed(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	if err := os.MkdirAll(filepath.Join(lastFile(r), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	q := request(t, r)
	if q.err == nil || errors.Is(q.err, context.DeadlineExceeded) || !strings.Contains(q.err.Error(), "serves now, and the outcome cannot be read: "+lastFile(r)) {
		t.Errorf("%+v, %v", q.Outcome, q.err)
	}
	r.WaitServing(2, 0)
}
