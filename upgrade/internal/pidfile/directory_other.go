//go:build !linux

package pidfile

import "os"

// directory is an open directory. Files are made and renamed in this directory, even if its path leads to another directory
// later.
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

// create makes a new file for writing. It fails if the name exists, also if it is a symbolic link.
func (d *directory) create(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// rename gives a file another name, and replaces a file or a symbolic link that has this name. The target of the link stays as
// it is.
func (d *directory) rename(from, to string) error { return d.root.Rename(from, to) }

// remove removes a name, but not a directory.
func (d *directory) remove(name string) {
	if e, err := d.look(name); err == nil && !e.directory {
		_ = d.root.Remove(name)
	}
}

// look describes the file with a name, and does not follow a symbolic link.
func (d *directory) look(name string) (entry, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return entry{}, err
	}
	return entry{regular: info.Mode().IsRegular(), directory: info.IsDir(), uid: owner(info)}, nil
}

// list opens the directory for reading its names.
func (d *directory) list() (*os.File, error) { return d.root.Open(".") }

// allocate reserves size bytes on the disk for the beginning of a file.
func allocate(f *os.File, size int) error { return fill(f, size) }
