package follow

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"time"
)

// stat returns the information of the file if the file may be read.
func (f *File) stat() (os.FileInfo, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return nil, unreadable(f.Path, err)
	}
	return info, f.refuse(info)
}

// refuse returns an error if a file is not a regular file, or is too large.
func (f *File) refuse(info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return &Error{Path: f.Path, Reason: "it is not a regular file", Err: fs.ErrInvalid}
	}
	if most := f.max(); info.Size() > most {
		return &Error{Path: f.Path, Reason: fmt.Sprintf("it has %d bytes, more than %d", info.Size(), most)}
	}
	return nil
}

func (f *File) max() int64 { return cmp.Or(f.MaxSize, defaultMax) }

// read reads the file, which stat has not refused. The content is nil, unless it is wanted.
func (f *File) read(wanted bool) ([]byte, sight, error) {
	file, err := os.OpenFile(f.Path, os.O_RDONLY|openFlag, 0)
	if err != nil {
		return nil, sight{}, unreadable(f.Path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, sight{}, unreadable(f.Path, err)
	}
	if err := f.refuse(info); err != nil {
		return nil, sight{}, err
	}
	return f.readFrom(file, info, wanted)
}

// readFrom reads an open file. info is its information from before.
func (f *File) readFrom(file *os.File, info os.FileInfo, wanted bool) ([]byte, sight, error) {
	began := time.Now()
	var hash maphash.Hash
	hash.SetSeed(seed)
	var content bytes.Buffer
	to := io.Writer(&hash)
	if wanted {
		content.Grow(int(info.Size()))
		to = io.MultiWriter(&hash, &content)
	}
	n, err := io.Copy(to, io.LimitReader(file, f.max()+1))
	if err != nil {
		return nil, sight{}, unreadable(f.Path, err)
	}
	after, err := file.Stat()
	if err != nil {
		return nil, sight{}, unreadable(f.Path, err)
	}
	if !sameStamp(info, after) || n != info.Size() {
		return nil, sight{}, beingWritten(f.Path)
	}
	seen := sight{info: after, sum: hash.Sum64()}
	seen.follows(&f.last, began)
	return content.Bytes(), seen, nil
}
