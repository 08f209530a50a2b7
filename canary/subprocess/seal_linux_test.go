package subprocess_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

func init() {
	programs["image"] = func() {
		serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			f, err := os.Open("/proc/self/exe")
			if err != nil {
				return
			}
			defer f.Close()
			sum := sha256.New()
			_, _ = io.Copy(sum, f)
			_, _ = w.Write(sum.Sum(nil))
			target, _ := os.Readlink("/proc/self/exe")
			_, _ = io.WriteString(w, target)
		}))
	}
}

// copyOfTests copies the program of the tests, and returns the path and the checksum.
func copyOfTests(t testing.TB) (path string, sum []byte) {
	t.Helper()
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	all := sha256.Sum256(b)
	return writeFile(t, "copy", string(b), 0o700), all[:]
}

// sealed skips a test on a system that does not execute files in memory.
func sealed(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, subprocess.ErrNoSealedCopy) {
		t.Skip("NOT RUN: ", err)
	}
}

// With a Checksum, the file that was checked is what runs, also if the path has another file when the process starts.
func TestCheckedProgramIsWhatRuns(t *testing.T) {
	path, sum := copyOfTests(t)
	o := subprocess.Options{Checksum: sum, Cmd: command(path, "image")}
	o.SetSealed(func() { // between the check and the start
		if err := os.Rename(writeFile(t, "other", "#!/bin/sh\nexit 3\n", 0o700), path); err != nil {
			t.Error(err)
		}
	})
	h, err := subprocess.Start(t.Context(), own(t, &o))
	sealed(t, err)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if got := w.Body.String(); !strings.HasPrefix(got, string(sum)) || !strings.Contains(got[len(sum):], "memfd:copy") {
		t.Errorf("%q runs, want %x", got, sum)
	}
	if err := h.Replace(t.Context()); err == nil || !strings.Contains(err.Error(), "is a script") {
		t.Errorf("Replace with another file: %v", err)
	}
	h.Close()
}

// A program with another checksum does not run, and leaves nothing open.
func TestProgramWithAnotherChecksumDoesNotRun(t *testing.T) {
	path, sum := copyOfTests(t)
	other := sha256.Sum256([]byte("other"))
	before := len(testutil.OpenFDs())
	for _, row := range []struct {
		name string
		o    subprocess.Options
		want string
		is   error
	}{
		{"other", subprocess.Options{Checksum: other[:], Cmd: command(path, "serve")}, path, subprocess.ErrChecksum},
		{"short", subprocess.Options{Checksum: sum[:31], Cmd: command(path)}, "Checksum has 31 bytes: give the SHA-256", nil},
		{"empty", subprocess.Options{Checksum: []byte{}, Cmd: command(path)}, "Checksum is empty", nil},
		{"script", subprocess.Options{Checksum: sum, Cmd: command(writeFile(t, "script", "#!/bin/sh\n", 0o700))}, "is a script, which cannot run", nil},
		{"empty file", subprocess.Options{Checksum: sum, Cmd: command(writeFile(t, "empty", "", 0o700))}, "empty: it is no program", nil},
		{"missing", subprocess.Options{Checksum: sum, Cmd: command("/no/such/program")}, "/no/such/program: no such file", nil},
		{"directory", subprocess.Options{Checksum: sum, Cmd: command("/etc")}, "/etc", nil},
		{"good, but no Dir", subprocess.Options{Checksum: sum, Cmd: command(path), Dir: "/no/such/dir"}, "/no/such/dir", nil},
		{"good, but Stdin", subprocess.Options{Checksum: sum, Cmd: func() *exec.Cmd { return &exec.Cmd{Path: path, Stdin: os.Stdin} }}, "leave them nil", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			h, err := subprocess.Start(t.Context(), own(t, &row.o))
			sealed(t, err)
			if err == nil {
				h.Close()
				t.Fatal("it was started")
			}
			if !strings.Contains(err.Error(), row.want) || row.is != nil && !errors.Is(err, row.is) {
				t.Errorf("%v, want %s", err, row.want)
			}
		})
	}
	if now := testutil.OpenFDs(); len(now) != before {
		t.Errorf("%d descriptors are open, before %d: %q", len(now), before, now)
	}
}

// Where files in memory are not executed, and where /proc is not mounted, Start has a name for the reason.
func TestSealedCopyThatCannotRunIsAnError(t *testing.T) {
	const script = `mount -t proc proc /proc && sysctl -q -w vm.memfd_noexec=2 && exec "$@"`
	for _, row := range []struct{ name, script, want string }{
		{"memfd_noexec", script, subprocess.ErrNoSealedCopy.Error()},
		{"no proc", `umount -l /proc && exec "$@"`, "is /proc mounted?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path, _ := copyOfTests(t)
			dir := filepath.Join(shortDir(t), "s")
			cmd := exec.Command("unshare", "-p", "-m", "-f", "--propagation", "private", "sh", "-c", row.script, "sh", path, "sealedhost", dir, path)
			out, err := cmd.CombinedOutput()
			if !strings.Contains(string(out), "sealedhost:") {
				t.Skipf("NOT RUN: it needs the rights to make a namespace: %v: %s", err, out)
			}
			if !strings.Contains(string(out), row.want) {
				t.Errorf("%s", out)
			}
		})
	}
}

func init() {
	programs["sealedhost"] = func() { // arguments: Dir, and a program; the answer is how Start ends
		b, _ := os.ReadFile(os.Args[3])
		sum := sha256.Sum256(b)
		h, err := subprocess.Start(background, subprocess.Options{Dir: os.Args[2], Checksum: sum[:], Cmd: command(os.Args[3], "serve"), Logger: new(logbook).logger()})
		if err == nil {
			h.Close()
		}
		_, _ = io.WriteString(os.Stdout, "sealedhost: ")
		if err != nil {
			_, _ = io.WriteString(os.Stdout, err.Error())
		}
	}
}
