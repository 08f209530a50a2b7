package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// lostSite is a site with a visitor whose session has k = v.
func lostSite(t *testing.T, dir string) (*site, *visitor) {
	t.Helper()
	s := newSite(session.Dir(dir), session.Options{})
	v := newVisitor(t, s)
	v.get("/put?k=k&v=v")
	return s, v
}

// A visitor whose store is not there gets an error, keeps the cookie, and has the session when the store is there again.
func TestAMissingStoreLosesNoSession(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sessions")
	s, v := lostSite(t, dir)
	cookie := v.value()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/get?k=k", "/put?k=k&v=w", "/count", "/delete?k=k"} {
		v.wantStatus(path, http.StatusInternalServerError)
	}
	newVisitor(t, s).wantStatus("/count", http.StatusInternalServerError)
	v.want("/plain", "plain")
	if err := s.sm.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "bring it back") {
		t.Errorf("Ready returns %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || v.value() != cookie {
		t.Errorf("another store was made (%v), or another cookie", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	v.want("/get?k=k", "v true")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	v.want("/get?k=k", " false")
	v.get("/put?k=k&v=new")
	v.want("/get?k=k", "new true")
}

// On a disk that takes nothing more, sessions are read, a change that needs room is an error, and nothing is lost.
func TestADiskThatTakesNothingLosesNoSession(t *testing.T) {
	for name, c := range map[string]struct{ cause, repair func(dir string) error }{
		"full": {
			func(dir string) error {
				for i := 0; ; i++ {
					err := os.WriteFile(filepath.Join(dir, fmt.Sprint("filler", i)), make([]byte, 4096), 0o600)
					if errors.Is(err, syscall.ENOSPC) {
						return nil
					}
					if err != nil {
						return err
					}
				}
			},
			func(dir string) error {
				fillers, err := filepath.Glob(filepath.Join(dir, "filler*"))
				for _, f := range fillers {
					err = errors.Join(err, os.Remove(f))
				}
				return err
			},
		},
		"read-only": {
			func(dir string) error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") },
			func(dir string) error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT, "") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := syscall.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
				t.Skip("NOT RUN: no tmpfs can be mounted, which needs root: ", err)
			}
			t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
			s, v := lostSite(t, dir)
			cookie := v.value()
			if err := c.cause(dir); err != nil {
				t.Fatal(err)
			}
			v.want("/get?k=k", "v true")
			v.wantStatus("/put?k=k&v="+strings.Repeat("w", 5000), http.StatusInternalServerError)
			newVisitor(t, s).wantStatus("/count", http.StatusInternalServerError)
			v.want("/get?k=k", "v true")
			if v.value() != cookie {
				t.Error("the visitor has another cookie")
			}
			if name == "full" {
				v.get("/put?k=k&v=x") // in place
				v.want("/get?k=k", "x true")
			}
			if err := c.repair(dir); err != nil {
				t.Fatal(err)
			}
			v.get("/put?k=k&v=w")
			v.want("/get?k=k", "w true")
		})
	}
}

// A process that has only read sessions does not take a store whose directory is removed for an empty one.
func TestADirectoryThatWasOnlyReadIsMissed(t *testing.T) {
	dir := t.TempDir() + "/s"
	ctx := context.Background()
	if _, err := session.Dir(dir).Create(ctx, "a", []byte("x"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	d := session.Dir(dir) // another process
	if _, err := d.Load(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := d.Load(ctx, "a")
	if err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load = %v", err)
	}
	if _, err = d.Create(ctx, "b", []byte("x"), time.Now().Add(time.Hour)); err == nil {
		t.Error("Create has made another store")
	}
}

// A process that starts while the disk is read-only opens the cookies of visitors.
func TestTheSecretIsReadFromAReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skip(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	d := session.Dir(dir + "/s")
	if _, err := d.Secret(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context(), "a", []byte("x"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	d = session.Dir(dir + "/s")
	if _, err := d.Load(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := d.Secret(t.Context()); err != nil {
		t.Errorf("a process that starts on a read-only disk opens no cookie: %v", err)
	}
}
