package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// create makes what is missing of the flag file and the session directory. The flag file of an upgrade is left as it is,
// even if it is not there: somebody is about to replace it, and the values of the old process are better than defaults.
//
// A disk that is full or read-only is no reason not to serve: the session store and the flags say what they lack.
func (c config) create(first bool) error {
	if err := os.MkdirAll(c.sessions, 0o700); err != nil {
		if err = fmt.Errorf("-sessions: %w", err); first && isMistake(err) {
			return err
		}
		slog.Error("serving without", "err", err)
	}
	if !first {
		return nil
	}
	created, err := createFile(c.flags, defaultFlags)
	if err != nil {
		if err = fmt.Errorf("-flags: %w", err); isMistake(err) {
			return err
		}
		slog.Error("serving without", "err", err)
	}
	if created {
		slog.Info("created a flag file with defaults", "path", absolute(c.flags))
	}
	return nil
}

// isMistake reports whether a path cannot be meant. The first process refuses such a path, since somebody has just given it.
func isMistake(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// keepWriting writes a file, and if it cannot, tries again every second until it can or ctx ends.
func keepWriting(ctx context.Context, path, content string) error {
	err := writeFile(path, content)
	if err != nil {
		go func() { // ends with ctx, or when the file is written
			t := time.NewTicker(time.Second)
			defer t.Stop()
			for again := err; again != nil; again = writeFile(path, content) {
				select {
				case <-t.C:
				case <-ctx.Done():
					return
				}
			}
			slog.Info("written again", "path", path)
		}()
	}
	return err
}

// createFile creates a file with all of its content at once, and leaves one alone that exists.
func createFile(path, content string) (created bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	temp, err := writeTemp(path, content)
	if err != nil {
		return false, err
	}
	defer os.Remove(temp)
	switch err := os.Link(temp, path); { // unlike a rename it replaces nothing
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// writeFile replaces a file at once: nobody reads half of it.
func writeFile(path, content string) error {
	temp, err := writeTemp(path, content)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}

// writeTemp writes a file beside path and returns its name.
func writeTemp(path, content string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(f, content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// absolute is path from everywhere, for people who are in another directory.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
