// Package pidfile keeps the pid of the main generation in a file, and a text beside it: how the last upgrade ended. Both are
// replaced whole, so that a reader never sees half of them.
//
// The directory may be one where other users may write, as /tmp with its sticky bit. A file is written under a new name
// that cannot be guessed, and renamed in the directory, which was held open meanwhile. So nothing is written through a
// planted link. In a directory with the sticky bit, a pid file of another user stays in its place: Publish says so.
package pidfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/midair-go/midair/internal/sys"
)

// File keeps the pid of the main generation. The file is staged beside its place first, so that a read-only directory is
// found out before the commit and not after the commit. All methods may be called from any goroutine.
type File struct {
	path string // empty: there is none

	mu      sync.Mutex
	dir     *directory // where staged and outcome are; nil while there is neither
	staged  staged     // the pid file to be
	outcome staged     // the text beside it to be
}

// staged is a file beside the pid file, made by the process, and not in its place yet. Without a name there is none.
type staged struct {
	name string
	uid  int      // of the process when it made the file
	file *os.File // nil if everything is written
}

// entry is a file, a directory or another thing that has a name in a directory.
type entry struct {
	regular, directory bool
	uid                int // of the owner, or noUID
}

// noUID stands for a uid that is not known. Where processes have no uids, Geteuid returns the same.
const noUID = -1

// New returns the file at path. With an empty path there is no file, and every method does nothing.
func New(path string) *File { return &File{path: path} }

// Stage writes the pid of this process to a file beside the pid file, which Publish renames. Stage may be called again:
// rights and directories may have changed since the first time. Stage also removes the staged files of a killed process
// that the pid file still names.
func (p *File) Stage() error {
	if p.path == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.rest()
	if err := p.stage(); err != nil {
		return fmt.Errorf("pid file %s: %w", p.path, err)
	}
	return nil
}

func (p *File) stage() error {
	if err := p.hold(); err != nil {
		return err
	}
	if e, err := p.dir.look(p.base()); err == nil && e.directory {
		return errors.New("is a directory")
	}
	if p.staged.name != "" && p.canPublish() {
		return nil
	}
	if last, err := read(p.path); err == nil && hasEnded(last.PID) {
		p.sweep(last.PID)
	}
	p.drop(&p.staged)
	if err := p.create(&p.staged); err != nil {
		return err
	}
	return p.write(&p.staged, []byte(strconv.Itoa(os.Getpid())+"\n"))
}

// canPublish reports whether the staged file is still there and may be renamed. The process may have another uid than before.
func (p *File) canPublish() bool {
	_, err := p.dir.look(p.staged.name)
	return err == nil && p.staged.uid == os.Geteuid() && sys.MayWrite(filepath.Dir(p.path))
}

// Publish puts the staged file in its place.
func (p *File) Publish() error {
	if p.path == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.rest()
	if err := p.publish(); err != nil {
		return fmt.Errorf("pid file %s: %w", p.path, err)
	}
	return nil
}

// publish renames the staged file, which takes neither room nor a descriptor, or else a new file.
func (p *File) publish() error {
	if p.hold() == nil && p.staged.name != "" && p.place(&p.staged, p.base()) == nil {
		return nil
	}
	if err := p.stage(); err != nil {
		return err
	}
	return p.place(&p.staged, p.base())
}

// Discard removes the files that a process, the calling process or a dead candidate, has staged and not published. Files of
// another uid than the caller's stay: any user may have made them.
func (p *File) Discard(pid int) {
	if p.path == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.rest()
	if pid == os.Getpid() {
		p.dropAll()
	}
	if p.hold() == nil {
		p.sweep(pid)
	}
}

// Owned reports whether the file names this process. The process may have written the file as root.
func (p *File) Owned() bool {
	b, info, err := readFile(p.path, pidLimit)
	if err != nil || owner(info) != 0 && owner(info) != os.Geteuid() {
		return false
	}
	return strings.TrimSpace(string(b)) == strconv.Itoa(os.Getpid())
}

// Remove removes the pid file and the text beside it if the file names this process, and all staged files of the process. The
// error is that the pid file stays: the process may have written it as another user.
func (p *File) Remove() error {
	p.Discard(os.Getpid())
	if p.path == "" || !p.Owned() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.rest()
	err := p.hold()
	if err == nil {
		p.dir.remove(p.base())
		p.dir.remove(p.base() + lastSuffix)
		if p.Owned() {
			err = fmt.Errorf("it stays: uid %d may not remove it", os.Geteuid())
		}
	}
	if err != nil {
		return fmt.Errorf("pid file %s: %w", p.path, err)
	}
	return nil
}

func (p *File) base() string { return filepath.Base(p.path) }

// hold opens the directory of the pid file, unless the same directory is open. Files staged in another
// directory are removed.
func (p *File) hold() error {
	path := filepath.Dir(p.path)
	if p.dir != nil && p.dir.isAt(path) {
		return nil
	}
	p.dropAll()
	p.rest()
	dir, err := openDirectory(path)
	p.dir = dir
	return err
}

// rest closes the directory when nothing is staged: an open directory cannot be unmounted.
func (p *File) rest() {
	if p.dir != nil && p.staged.name == "" && p.outcome.name == "" {
		p.dir.close()
		p.dir = nil
	}
}

// create makes a file in the held directory under a new name.
func (p *File) create(s *staged) error {
	name := p.stagedBy(os.Getpid()) + "." + rand.Text()[:randomLen]
	f, err := p.dir.create(name)
	if err == nil {
		*s = staged{name: name, uid: os.Geteuid(), file: f}
	}
	return err
}

// write gives a staged file its whole content, or removes the file.
func (p *File) write(s *staged, content []byte) error {
	_, err := s.file.WriteAt(content, 0)
	if err == nil {
		err = s.file.Truncate(int64(len(content)))
	}
	if closeErr := s.file.Close(); err == nil {
		err = closeErr
	}
	s.file = nil
	if err != nil {
		p.drop(s)
	}
	return err
}

// place puts a staged file where the file belongs, or removes it.
func (p *File) place(s *staged, name string) error {
	err := p.dir.rename(s.name, name)
	if err == nil {
		*s = staged{}
		return nil
	}
	p.drop(s)
	if e, lookErr := p.dir.look(name); lookErr == nil && errors.Is(err, fs.ErrPermission) && e.uid != os.Geteuid() {
		err = fmt.Errorf("%w: it belongs to uid %d and this process to uid %d: remove it", err, e.uid, os.Geteuid())
	}
	return err
}

// drop removes a staged file.
func (p *File) drop(s *staged) {
	if s.file != nil {
		s.file.Close()
	}
	if s.name != "" {
		p.dir.remove(s.name)
	}
	*s = staged{}
}

func (p *File) dropAll() {
	p.drop(&p.staged)
	p.drop(&p.outcome)
}

// stagedBy is how the names begin under which a process stages files.
func (p *File) stagedBy(pid int) string { return "." + p.base() + "." + strconv.Itoa(pid) }

// sweep removes the files that a process has staged. A directory that may not be listed keeps them.
func (p *File) sweep(pid int) {
	list, err := p.dir.list()
	if err != nil {
		return
	}
	defer list.Close()
	for err == nil {
		var names []string
		names, err = list.Readdirnames(1024) // others may have filled the directory
		for _, name := range names {
			if p.isStaged(name, pid) {
				p.removeOwn(name)
			}
		}
	}
}

func (p *File) removeOwn(name string) {
	if e, err := p.dir.look(name); err == nil && e.regular && e.uid == os.Geteuid() {
		p.dir.remove(name)
	}
}

// isStaged reports whether a process stages files under a name. Old builds had two names, without a random part.
func (p *File) isStaged(name string, pid int) bool {
	rest, ok := strings.CutPrefix(name, p.stagedBy(pid))
	if !ok || rest == "" || rest == lastSuffix {
		return ok
	}
	random, ok := strings.CutPrefix(rest, ".")
	return ok && len(random) == randomLen && strings.Trim(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

const (
	// lastSuffix is what the file of WriteLast has after the name of the pid file.
	lastSuffix = ".last"
	// randomLen is the length of the random part of a name: 65 bits.
	randomLen = 13
)
