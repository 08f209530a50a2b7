//go:build !linux

package pidfile

import "os"

// directory is an open directory: files are made and renamed there, whatever becomes of the path.
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

// create makes a new file for writing, and fails if the name is taken, by a link too.
func (d *directory) create(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// rename gives a file another name, and replaces a file or link of the name. The target of the link stays.
func (d *directory) rename(from, to string) error { return d.root.Rename(from, to) }

// remove removes a name, but not a directory.
func (d *directory) remove(name string) {
	if e, err := d.look(name); err == nil && !e.directory {
		_ = d.root.Remove(name)
	}
}

// look returns the entry of a name, without following a link.
func (d *directory) look(name string) (entry, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return entry{}, err
	}
	return entry{regular: info.Mode().IsRegular(), directory: info.IsDir(), uid: owner(info)}, nil
}

// list opens the directory for its names.
func (d *directory) list() (*os.File, error) { return d.root.Open(".") }

// allocate takes room on the disk for the beginning of a file.
func allocate(f *os.File, size int) error { return fill(f, size) }
