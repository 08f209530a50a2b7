// Package pidfile keeps the pid of the main generation in a file. A second file beside the pid file has the outcome of the last
// upgrade. Each file is replaced as a whole, so that a reader never sees a part of a new content.
//
// Other users may have the right to write to the directory, for example to /tmp with its sticky bit. Such a user could put a
// symbolic link there, and nothing must be written through this link. So a file is written under a new name that cannot be
// guessed, and is renamed afterwards. The directory stays open from the writing to the renaming, so that both happen in the
// same directory. In a directory with the sticky bit, the pid file of another user cannot be replaced. In this case Publish
// returns an error.
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

// File keeps the pid of the main generation. The pid is first written to a staged file in the same directory, so that a
// read-only directory is noticed before the commit. All methods may be called from any goroutine.
type File struct {
	path string // empty: there is no pid file, and every method does nothing

	mu      sync.Mutex
	dir     *directory // the directory of the staged files; nil if no file is staged
	staged  staged     // the next pid file
	outcome staged     // the next content of the file beside the pid file
}

// staged is a file that this process has made in the directory of the pid file, and has not yet renamed to its final name. If
// name is empty, there is no such file.
type staged struct {
	name string
	uid  int      // the uid of the process when it made the file
	file *os.File // nil if the content was written already
}

// entry describes a file, a directory or another object in a directory.
type entry struct {
	regular, directory bool
	uid                int // the uid of the owner, or noUID
}

// noUID means that a uid is not known. On platforms without uids, os.Geteuid returns the same number.
const noUID = -1

// New returns the pid file at path. If path is empty, there is no pid file, and every method does nothing.
func New(path string) *File { return &File{path: path} }

// Stage writes the pid of this process to a staged file, which Publish renames. If the staged file of an earlier call can still
// be published, Stage does nothing. There are four reasons why a staged file cannot be published any more: it is gone, the uid
// of this process has changed, this process may not write to the directory now, or the path leads to another directory now.
// Then Stage stages a new file. If the pid file names a process that has ended, Stage also removes the staged files of that
// process.
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

// canPublish reports whether the staged file still exists and this process may rename the file. For example, the uid of the
// process may have changed since Stage.
func (p *File) canPublish() bool {
	_, err := p.dir.look(p.staged.name)
	return err == nil && p.staged.uid == os.Geteuid() && sys.MayWrite(filepath.Dir(p.path))
}

// Publish makes the staged file the pid file.
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

// publish renames the staged file. The renaming needs neither disk space nor a descriptor. If the renaming fails, publish
// stages a new file and renames the new file.
func (p *File) publish() error {
	if p.hold() == nil && p.staged.name != "" && p.place(&p.staged, p.base()) == nil {
		return nil
	}
	if err := p.stage(); err != nil {
		return err
	}
	return p.place(&p.staged, p.base())
}

// Discard removes the files that the process with this pid has staged and not published. The pid is the pid of the calling
// process, or of a dead candidate or a dead old process. Discard searches the directory for such files. Since any user can make
// a file with such a name, it removes only files that belong to the uid of the caller.
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

// Owned reports whether the pid file names this process. The owner of the file must be the uid of this process or root, because
// the process may have written the file as root before it changed its uid.
func (p *File) Owned() bool {
	b, info, err := readFile(p.path, pidLimit)
	if err != nil || owner(info) != 0 && owner(info) != os.Geteuid() {
		return false
	}
	return strings.TrimSpace(string(b)) == strconv.Itoa(os.Getpid())
}

// Remove removes all staged files of this process. If the pid file names this process, Remove also removes the pid file and the
// text beside it. It returns an error if the pid file cannot be removed, for example because the process has written it under
// another uid.
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

// hold opens the directory of the pid file, unless this directory is open already. If another directory is open, hold first
// removes the staged files in the other directory, and closes that directory.
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

// rest closes the directory if no file is staged, because a file system with an open directory cannot be unmounted.
func (p *File) rest() {
	if p.dir != nil && p.staged.name == "" && p.outcome.name == "" {
		p.dir.close()
		p.dir = nil
	}
}

// create makes a staged file with a new name in the open directory.
func (p *File) create(s *staged) error {
	name := p.stagedBy(os.Getpid()) + "." + rand.Text()[:randomLen]
	f, err := p.dir.create(name)
	if err == nil {
		*s = staged{name: name, uid: os.Geteuid(), file: f}
	}
	return err
}

// write writes the content of a staged file, and closes the file. After an error it removes the file.
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

// place renames a staged file to its final name. After an error it removes the staged file.
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

// drop removes a staged file, if there is one.
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

// stagedBy returns the common beginning of the names of the files that the process with this pid stages.
func (p *File) stagedBy(pid int) string { return "." + p.base() + "." + strconv.Itoa(pid) }

// sweep removes the files that the process with this pid has staged, if they belong to the uid of the calling process. It does
// nothing if the calling process may not list the directory.
func (p *File) sweep(pid int) {
	list, err := p.dir.list()
	if err != nil {
		return
	}
	defer list.Close()
	for err == nil {
		var names []string
		names, err = list.Readdirnames(1024) // in parts: other users may have made very many files
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

// isStaged reports whether name can be the name of a file that the process with this pid has staged. Such a name ends with a
// random part. isStaged also accepts the two names without a random part that older builds used.
func (p *File) isStaged(name string, pid int) bool {
	rest, ok := strings.CutPrefix(name, p.stagedBy(pid))
	if !ok || rest == "" || rest == lastSuffix {
		return ok
	}
	random, ok := strings.CutPrefix(rest, ".")
	return ok && len(random) == randomLen && strings.Trim(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

const (
	// lastSuffix is the end of the name of the file that WriteLast writes. The beginning is the name of the pid file.
	lastSuffix = ".last"
	// randomLen is the length of the random part of a name: 13 characters have 65 bits.
	randomLen = 13
)
