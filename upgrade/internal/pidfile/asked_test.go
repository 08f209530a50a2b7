//go:build unix

package pidfile

import (
	"os"
	"path/filepath"
	"testing"
)

// Asked is true while another process has called Ask and not release. It is false when the pid file was replaced.
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
