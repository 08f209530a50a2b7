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

// createFiles creates the flag file and the directory of the sessions if they are missing. A process that is an upgrade creates
// no flag file: an operator is about to replace the missing file, and the values of the old process are better than defaults.
//
// A disk that is full or read-only is no reason not to serve: the session store and the flags report the fault.
func createFiles(flagFile, sessions string, first bool) error {
	if err := os.MkdirAll(sessions, 0o700); err != nil {
		if err = fmt.Errorf("-sessions: %w", err); first && isMistake(err) {
			return err
		}
		slog.Error("serving without", "err", err)
	}
	if !first {
		return nil
	}
	created, err := createFile(flagFile, defaultFlags)
	if err != nil {
		if err = fmt.Errorf("-flags: %w", err); isMistake(err) {
			return err
		}
		slog.Error("serving without", "err", err)
	}
	if created {
		slog.Info("created a flag file with defaults", "path", absolute(flagFile))
	}
	return nil
}

// isMistake reports whether a path cannot be meant. The first process refuses such a path: the operator has just typed the path.
func isMistake(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// keepWriting writes a file. After an error, keepWriting tries again every second, until the file is written or ctx ends.
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

// createFile creates a file with all content at once, and leaves an existing file alone.
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

// writeFile replaces a file at once: a reader gets the old content or the new content, and no mixture.
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

// absolute returns path as an absolute path, for people in another directory.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
