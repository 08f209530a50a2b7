package pidfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Service is the process that a pid file names. ReadLast and Works compare uid with the owners of files.
type Service struct {
	PID  int
	uid  int    // the uid of the process, or the owner of the pid file if the process has ended or its uid is not known
	file string // the path of the pid file, after following symbolic links
}

// The largest sizes of files that are read, in bytes. Pid files and outcomes are much smaller.
const (
	pidLimit  = 4 << 10
	lastLimit = 1 << 20
)

// Read returns the process that a pid file names. Readers send signals to this process, and another user could write the pid of
// any process into a file. So the owner of the file must be root, the uid of the reader, or the uid of the named process. If
// the named process has ended, any owner is accepted. Any owner is also accepted if the uid of the named process is not known
// and not every user may write to the directory.
//
// path may be a symbolic link in a directory where not every user may write. The owner of the link must meet the same
// conditions as the owner of the file. So /run/x.pid may be a link, and a link in /tmp is refused.
func Read(path string) (Service, error) {
	s, err := read(path)
	if err != nil {
		return Service{}, fmt.Errorf("pid file %s: %w", path, err)
	}
	return s, nil
}

func read(path string) (Service, error) {
	file, owners, err := follow(path)
	if err != nil {
		return Service{}, err
	}
	b, info, err := readFile(file, pidLimit)
	if err != nil {
		return Service{}, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return Service{}, fmt.Errorf("%.40q is no pid of a service: is the file its Options.PIDFile?", b)
	}
	s := Service{PID: pid, uid: owner(info), file: file}
	uid, ended := uidOf(pid)
	// If the process has ended, a signal harms no process. If the uid of the process is not known, the file is trusted in a
	// directory where not every user may write.
	if ended || uid == noUID && !othersMayWrite(file) {
		return s, nil
	}
	for _, o := range append(owners, owner(info)) {
		if o != 0 && o != os.Geteuid() && o != uid {
			return Service{}, fmt.Errorf("belongs to uid %d, and pid %d, which it names, to %s: another user may have put it there: "+
				"remove it and start the service again, with a pid file where only the service may write", o, pid, uidText(uid))
		}
	}
	if uid != noUID {
		s.uid = uid
	}
	return s, nil
}

func uidText(uid int) string {
	if uid == noUID {
		return "a uid that is not known"
	}
	return "uid " + strconv.Itoa(uid)
}

// ReadLast returns the text that the service has written beside the pid file by WriteLast. The owner of the file must be root,
// or the uid that the service had when Read was called. In a directory where not every user may write, the owner may also be
// the uid of the process that the pid file names now. This process may have another uid, because a service may give up
// privileges between two generations.
func (s Service) ReadLast() ([]byte, error) {
	path := s.file + lastSuffix
	b, info, err := readFile(path, lastLimit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	uid := owner(info)
	if uid == 0 || uid == s.uid {
		return b, nil
	}
	if !othersMayWrite(path) {
		if now, err := read(s.file); err == nil && now.uid == uid {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%s: belongs to uid %d, and the service to uid %d: another user may have put it there: remove it", path, uid, s.uid)
}

// Ask shows the service that this process waits for an upgrade: it locks the pid file, and the service finds the lock by
// calling Asked. The function release removes the lock. If the file cannot be locked, the service does not learn that this
// process waits.
func (s Service) Ask() (release func()) {
	f, err := os.OpenFile(s.file, os.O_RDONLY|openSafely, 0)
	if err != nil {
		return func() {}
	}
	_ = lock(f, true)
	return func() { f.Close() }
}

// Asked reports whether another process waits for an upgrade. Such a process has locked this pid file by Ask.
func (p *File) Asked() bool {
	path, _, err := follow(p.path)
	if err != nil {
		return false
	}
	f, err := os.OpenFile(path, os.O_RDONLY|openSafely, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return lock(f, false)
}

// Works reports whether the process with this pid is trying an upgrade. Such a process has a staged file beside the pid file. A
// file counts only if its owner is root or the uid of the service.
func (s Service) Works(pid int) bool {
	dir, err := os.Open(filepath.Dir(s.file))
	if err != nil {
		return false
	}
	defer dir.Close()
	p := &File{path: s.file}
	for err == nil {
		var names []string
		names, err = dir.Readdirnames(1024) // in parts: other users may have made very many files
		for _, name := range names {
			if !p.isStaged(name, pid) {
				continue
			}
			info, err := os.Lstat(filepath.Join(filepath.Dir(s.file), name))
			if err == nil && info.Mode().IsRegular() && (owner(info) == 0 || owner(info) == s.uid) {
				return true
			}
		}
	}
	return false
}

// ReadLast returns the text that this generation or another one has written beside the pid file by WriteLast.
func (p *File) ReadLast() ([]byte, error) {
	return Service{uid: os.Geteuid(), file: p.path}.ReadLast()
}

// follow returns the path to which a symbolic link leads, and the owners of the links on the way. If path is no symbolic link,
// follow returns path itself and no owners.
func follow(path string) (string, []int, error) {
	var owners []int
	for range 8 {
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Type() != fs.ModeSymlink {
			return path, owners, err
		}
		if othersMayWrite(path) {
			return "", nil, fmt.Errorf("%s is a symbolic link of uid %d in a directory where other users may write: remove it, or give the path that it leads to",
				path, owner(info))
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", nil, err
		}
		if !filepath.IsAbs(target) { // filepath.Join would remove "x/.." from the path, but x may be a symbolic link
			dir, _ := filepath.Split(path)
			target = dir + target
		}
		path, owners = target, append(owners, owner(info))
	}
	return "", nil, fmt.Errorf("%s: too many symbolic links", path)
}

// readFile returns the content of a regular file. It fails if the file has more bytes than limit. It does not follow a symbolic
// link, and does not wait for the writer of a FIFO. In a directory where every user may write, readFile refuses a file with two
// names, because any user could make a hard link there to a file of another user.
func readFile(path string, limit int64) ([]byte, os.FileInfo, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("is not a regular file: %v, of uid %d: remove it", info.Mode(), owner(info))
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|openSafely, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err = f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("is not a regular file: %v", info.Mode())
	case names(info) > 1 && othersMayWrite(path):
		return nil, nil, fmt.Errorf("has %d names in a directory where other users may write: one of them may have linked a file of uid %d there: remove it",
			names(info), owner(info))
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("is larger than %d bytes", limit)
	}
	return b, info, err
}
