//go:build unix

package pidfile

import (
	"os"
	"path/filepath"
	"testing"
)

// A service sees that somebody asks, while it waits, and no more when the pid file is another one.
func TestWhoAsksIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	p := New(path)
	if p.Asked() || New("").Asked() {
		t.Error("asked without a file")
	}
	if err := p.Stage(); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(); err != nil {
		t.Fatal(err)
	}
	s, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.Asked() {
		t.Error("asked by nobody")
	}
	first, second := s.Ask(), s.Ask()
	if !p.Asked() {
		t.Error("it is not seen")
	}
	first()
	if !p.Asked() {
		t.Error("the second one is not seen")
	}
	second()
	if p.Asked() {
		t.Error("it is seen after the end")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.Ask()()
}
