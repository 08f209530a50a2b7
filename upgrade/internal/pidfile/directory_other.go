//go:build !linux

package pidfile

import "os"

// directory is an open directory. Files are made and renamed in this directory, even if another directory is later put at its
// path.
type directory struct{ root *os.Root }

func openDirectory(path string) (*directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &directory{root}, nil
}

func (d *directory) close() { d.root.Close() }

// isAt reports whether path leads to this directory.
func (d *directory) isAt(path string) bool {
	here, err := d.root.Stat(".")
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(here, there)
}

// create makes a new file for writing. It fails if there is a file or a symbolic link with this name.
func (d *directory) create(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// rename renames a file. If the new name belongs to another file or to a symbolic link, rename replaces this file or link. It
// does not change the target of the link.
func (d *directory) rename(from, to string) error { return d.root.Rename(from, to) }

// remove removes the file or the symbolic link with this name. It does not remove a directory.
func (d *directory) remove(name string) {
	if e, err := d.look(name); err == nil && !e.directory {
		_ = d.root.Remove(name)
	}
}

// look describes the file with this name. It describes a symbolic link and not the target of the link.
func (d *directory) look(name string) (entry, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return entry{}, err
	}
	return entry{regular: info.Mode().IsRegular(), directory: info.IsDir(), uid: owner(info)}, nil
}

// list opens the directory for reading the names in the directory.
func (d *directory) list() (*os.File, error) { return d.root.Open(".") }

// allocate reserves room on the disk for the first size bytes of a file.
func allocate(f *os.File, size int) error { return fill(f, size) }
