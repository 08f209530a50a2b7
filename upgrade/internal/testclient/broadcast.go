//go:build linux

package testclient

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Order gives a process the order to broadcast, and does not wait.
func (r *Service) Order(pid int, order plan.Say) {
	r.t.Helper()
	path := plan.SayFile(r.Dir, pid)
	b, err := json.Marshal(order)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err = errors.Join(err, os.Rename(path+".new", path)); err != nil {
		r.t.Fatal(err)
	}
}

// Say makes a process broadcast, and returns the errors of Broadcast, a line each.
func (r *Service) Say(pid int, name string, data ...string) string {
	r.t.Helper()
	r.Order(pid, plan.Say{Name: name, Data: data})
	testutil.Until(r.t, Patience, "the order to broadcast is carried out", func() bool {
		_, err := os.Lstat(plan.SayFile(r.Dir, pid))
		return errors.Is(err, fs.ErrNotExist)
	})
	b, err := os.ReadFile(plan.SaidFile(r.Dir, pid))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// Heard returns the broadcasts of a name that a process has got.
func (r *Service) Heard(pid int, name string) (data []string) {
	r.t.Helper()
	b, err := os.ReadFile(plan.HeardFile(r.Dir, pid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if got, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && got == name {
			data = append(data, text)
		}
	}
	return data
}

// MustHear ends the test unless the last broadcasts of the name News that a process has got are these, soon.
func (r *Service) MustHear(pid int, want ...string) {
	r.t.Helper()
	last := func() []string {
		all := r.Heard(pid, plan.News)
		return all[max(0, len(all)-len(want)):]
	}
	if !testutil.Within(Patience, func() bool { return slices.Equal(last(), want) }) {
		r.t.Fatalf("process %d has got %.300q, want %.300q", pid, r.Heard(pid, plan.News), want)
	}
}
