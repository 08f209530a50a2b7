package testutil

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// programs holds the paths that Program and Python have found, by name.
var programs = struct {
	sync.Mutex
	paths map[string]string
}{paths: map[string]string{}}

// Program returns the path of a program of a Debian package. If the package is missing, Program installs it, provided that
// this user may install packages. If there is no program, Program ends the test as Missing does.
func Program(t testing.TB, name, pkg string) string {
	t.Helper()
	return obtain(t, name, pkg, func() (string, error) { return findProgram(name) })
}

// Python returns the path of Debian's Python with a module of a Debian package. If the module is missing, Python does the
// same as Program.
func Python(t testing.TB, module, pkg string) string {
	t.Helper()
	return obtain(t, "the Python module "+module, pkg, func() (string, error) { return findModule(module) })
}

func obtain(t testing.TB, name, pkg string, find func() (string, error)) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if path := programs.paths[name]; path != "" {
		return path
	}
	path, err := find()
	if err != nil {
		if err = installPackages(pkg); err == nil {
			path, err = find()
		}
	}
	if err != nil {
		Missing(t, name, pkg, err)
	}
	programs.paths[name] = path
	return path
}

// Missing ends a test that needs a program, or a module, that is missing. Missing skips the test, and writes the reason to
// standard error; if CI is set in the environment, the test fails.
func Missing(t testing.TB, name, pkg string, err error) {
	t.Helper()
	text := fmt.Sprintf("NOT RUN: it needs %s (apt-get install %s): %v", name, pkg, err)
	if os.Getenv("CI") != "" {
		t.Fatal(text)
	}
	fmt.Fprintln(os.Stderr, t.Name(), text)
	t.Skip(text)
}

// findProgram searches PATH, and the directory of servers, which is not in the PATH of every user.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/usr/bin/"} {
		if err != nil {
			path, err = exec.LookPath(dir + name)
		}
	}
	return path, err
}

// findModule uses the Python of Debian, to which the packages belong, even if PATH has another Python.
func findModule(module string) (string, error) {
	const python = "/usr/bin/python3"
	if out, err := exec.Command(python, "-c", "import "+module).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, tail(string(out), 1))
	}
	return python, nil
}

// installPackages installs Debian packages, and does not start their services. If two processes install at the same time, one
// waits for the other.
func installPackages(pkgs string) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("only root may install it")
	}
	install := append([]string{"-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends"}, strings.Fields(pkgs)...)
	run := func(args ...string) error {
		cmd := exec.Command(apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1") // in runlevel 1 no service is started
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, tail(string(out), 10))
		}
		return nil
	}
	if run(install...) == nil {
		return nil
	}
	return errors.Join(run("update"), run(install...))
}
