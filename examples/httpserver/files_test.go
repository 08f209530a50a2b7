package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// The address file is replaced in one step and can be read by everybody.
func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addr")
	for _, content := range []string{"first", "second"} {
		if err := writeFile(path, content); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != content {
			t.Errorf("%q, %v, want %q", b, err, content)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.FileMode(0o644) {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := writeFile(filepath.Join(path, "below"), ""); err == nil {
		t.Error("a file below a file was written")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// A file is created once, whole, by one of those who try at the same time. What is there already stays as it is.
func TestCreateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "flags")
	var creators atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			created, err := createFile(path, defaultFlags)
			if err != nil {
				t.Error(err)
			}
			if created {
				creators.Add(1)
			}
		})
	}
	all.Wait()
	if b, err := os.ReadFile(path); err != nil || string(b) != defaultFlags || creators.Load() != 1 {
		t.Errorf("%d have created it: %q, %v", creators.Load(), b, err)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Skip(err)
	}
	if created, err := createFile(dangling, ""); created || err != nil {
		t.Errorf("a link that leads nowhere was replaced: %v, %v", created, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
}
