package subprocess_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/canary/subprocess"
)

func init() {
	programs["connect"] = func() { // as another user
		for _, path := range os.Args[2:] {
			c, err := net.Dial("unix", path)
			if err != nil {
				fmt.Println("no connection:", err)
				continue
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
			b := make([]byte, 100)
			n, err := c.Read(b)
			fmt.Printf("read %d bytes: %v\n", n, err)
			c.Close()
		}
	}
	programs["impostor"] = func() { // serves as another user than the host
		dir := os.Getenv("MIDAIR_SUBPROCESS_DIR")
		for _, path := range []string{filepath.Dir(filepath.Dir(dir)), filepath.Dir(dir), dir, os.Getenv("PLUGIN_UNIX_SOCKET_DIR")} {
			_ = os.Chmod(path, 0o777)
		}
		if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
			os.Exit(9)
		}
		serve(http.HandlerFunc(handle))
	}
}

const nobody = 65534

// modeDir makes a directory with a mode.
func modeDir(t testing.TB, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(shortDir(t), "s")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A directory that is not private, or not fit, is an error that says what to do.
func TestDirThatIsNotPrivateIsRefused(t *testing.T) {
	link := filepath.Join(shortDir(t), "s")
	if err := os.Symlink(shortDir(t), link); err != nil {
		t.Fatal(err)
	}
	foreign := modeDir(t, 0o700)
	if err := os.Chown(foreign, nobody, nobody); err != nil {
		t.Log("not root: the directory of another user is left out")
		foreign = link
	}
	for _, row := range []struct{ dir, want string }{
		{modeDir(t, 0o777|os.ModeSticky), "has the mode 0777: remove the rights of others (chmod 700), or choose another Dir"},
		{modeDir(t, 0o750), "has the mode 0750"},
		{link, "is no directory: choose another Dir"},
		{foreign, "choose another Dir"},
		{writeFile(t, "file", "", 0o600), "is no directory"},
		{"relative/path", `Dir is "relative/path": choose an absolute path`},
		{shortDir(t) + "/" + strings.Repeat("x", 60), "choose a shorter Dir"},
		{"/no/such/parent", "/no/such/parent: no such file or directory"},
		{"/proc/self/x", "/proc/self/x"},
		{shortDir(t) + "/s\x00", "invalid argument"},
	} {
		h, err := subprocess.Start(t.Context(), subprocess.Options{Dir: row.dir, Cmd: program("serve")})
		if err == nil {
			h.Close()
			t.Errorf("%s was taken", row.dir)
		} else if !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", row.dir, err, row.want)
		}
	}
}

// Directories and files that others have left in Dir, with the name of the handler and without, harm no start. Those that a host
// has left are removed.
func TestStaleDirectoriesAreRemoved(t *testing.T) {
	dir := modeDir(t, 0o700)
	for i := range times(1000) {
		place := filepath.Join(dir, fmt.Sprint("canary~", i))
		if err := os.MkdirAll(filepath.Join(place, "plugin-dir"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(place, "process"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := shortDir(t)
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "canary~file"), nil, 0o600), os.Symlink(target, filepath.Join(dir, "canary~link")),
		os.WriteFile(filepath.Join(dir, "other"), nil, 0o600), os.Mkdir(filepath.Join(dir, "other~1"), 0o700),
		os.Mkdir(filepath.Join(dir, "canary~odd"), 0o700), os.Mkdir(filepath.Join(dir, "canary~odd", "process"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h, err := subprocess.Start(t.Context(), subprocess.Options{Dir: dir, Cmd: program("serve"), Logger: new(logbook).logger()})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "canary~file canary~link other other~1" {
		t.Errorf("left is %s", got)
	}
	if !exists(target) {
		t.Error("the target of a symbolic link was removed")
	}
}

// A full file system is an error of Start.
func TestFullDirIsAnError(t *testing.T) {
	dir := shortDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k,nr_inodes=3,mode=700"); err != nil {
		t.Skip("NOT RUN: it needs the right to mount: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	h, err := subprocess.Start(t.Context(), subprocess.Options{Dir: dir, Cmd: program("serve")})
	if err == nil {
		h.Close()
		t.Fatal("Start has returned no error")
	}
	if !strings.Contains(err.Error(), "no space left on device") && !strings.Contains(err.Error(), "has ended before it served") {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 1 {
		t.Errorf("left is %v", entries)
	}
}

// Who removes old files takes a lock before, and finds each directory that is in use locked.
func TestDirectoryInUseIsLocked(t *testing.T) {
	dir := filepath.Join(shortDir(t), "s")
	started(t, subprocess.Options{Dir: dir, Cmd: program("serve")})
	places, _ := filepath.Glob(dir + "/canary~*")
	f, err := os.Open(places[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("the lock of %s: %v", places[0], err)
	}
}

// A process of another user is refused by both sockets of the process, even if the directory lets it in, and a process that has become
// another user is refused by the host.
func TestOtherUsersAreRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: it needs root, to become another user")
	}
	base := shortDir(t)
	dir := filepath.Join(base, "s")
	started(t, subprocess.Options{Dir: dir, Cmd: program("serve")})
	var sockets []string
	_ = filepath.WalkDir(base, func(path string, d os.DirEntry, _ error) error {
		_ = os.Chmod(path, 0o777)
		if d.Type() == os.ModeSocket {
			sockets = append(sockets, path)
		}
		return nil
	})
	if len(sockets) != 2 {
		t.Fatalf("the sockets are %q", sockets)
	}
	exe, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(base, "exe")
	if err := os.WriteFile(copied, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, append([]string{"connect"}, sockets...)...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "read 0 bytes") != 2 {
		t.Errorf("%v: %s", err, out)
	}

	_ = os.Chmod(dir, 0o700)
	o := subprocess.Options{Cmd: program("impostor"), StartTimeout: 5 * time.Second}
	h, err := subprocess.Start(t.Context(), own(t, &o))
	if err == nil {
		h.Close()
		t.Fatal("a process of another user was taken")
	}
	if want := fmt.Sprintf("belongs to user %d, and this process to user 0", nobody); !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
}

// The default directory is there only while a process is. Hosts that come and go meanwhile find each other's directory, or make it.
func TestDefaultDirectoryComesAndGoes(t *testing.T) {
	tmp := shortDir(t)
	t.Setenv("TMPDIR", tmp)
	t.Setenv("RUNTIME_DIRECTORY", "")
	var hosts sync.WaitGroup
	for host := range 4 {
		hosts.Go(func() { // ends after its starts
			for range 5 {
				h, err := subprocess.Start(t.Context(), subprocess.Options{Name: fmt.Sprint("host", host), Cmd: program("serve"), Logger: quiet})
				if err != nil {
					t.Error(err)
					return
				}
				if err := h.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	hosts.Wait()
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
