//go:build linux

package testservice

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

var verifications = map[plan.Verification]func(dir, path string) error{
	plan.VerifyPasses: func(string, string) error { return nil },
	plan.VerifyFails:  func(string, string) error { return errors.New("the signature is wrong") },
	plan.VerifyPanics: func(string, string) error { panic("no key") },
	plan.VerifyExits:  func(string, string) error { runtime.Goexit(); return nil },
	plan.VerifyHangs:  func(string, string) error { select {} },
	plan.VerifySwaps:  swap,
}

// swap lets another process read the file, writes down the checksum of the output, and replaces the file by a bad file.
func swap(dir, path string) error {
	out, err := exec.Command("cat", path).Output()
	sum := fmt.Sprintf("%x", sha256.Sum256(out))
	bad, link := filepath.Join(dir, "bad"), filepath.Join(dir, "exe")
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "sum"), []byte(sum), 0o600),
		os.WriteFile(bad, []byte("#!/bin/sh\nexit 9\n"), 0o755),
		os.Symlink(bad, link+".bad"), os.Rename(link+".bad", link))
}
