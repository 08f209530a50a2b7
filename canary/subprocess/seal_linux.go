package subprocess

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
)

// seal copies a program into memory, and compares the checksum of the copy, which nobody can change then. The program itself
// could be changed between a check and its start.
func seal(path string, checksum []byte) (*os.File, error) {
	program, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("subprocess: %w", err)
	}
	defer program.Close()
	image, err := executable(filepath.Base(path))
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) {
		return nil, fmt.Errorf("%w: %v", ErrNoSealedCopy, err)
	}
	if err != nil {
		return nil, fmt.Errorf("subprocess: %w", err)
	}
	if err := fill(image, program, path, checksum); err != nil {
		image.Close()
		return nil, err
	}
	return image, nil
}

func fill(image, program *os.File, path string, checksum []byte) error {
	sum := sha256.New()
	head := new(bytes.Buffer)
	_, err := io.CopyN(io.MultiWriter(image, sum, head), program, 2)
	if err == io.EOF {
		return fmt.Errorf("subprocess: %s is empty: it is no program", path)
	}
	if err != nil {
		return fmt.Errorf("subprocess: %s: %w", path, err)
	}
	if head.String() == "#!" {
		return fmt.Errorf("subprocess: %s is a script, which cannot run from a sealed copy: leave Checksum empty, or start a program", path)
	}
	if _, err := io.Copy(io.MultiWriter(image, sum), program); err != nil {
		return fmt.Errorf("subprocess: %s: %w", path, err)
	}
	if got := sum.Sum(nil); !bytes.Equal(got, checksum) {
		return fmt.Errorf("%w: %s has %x, and Options.Checksum is %x", ErrChecksum, path, got, checksum)
	}
	if err := sys.Seal(image); err != nil {
		return fmt.Errorf("subprocess: %w", err)
	}
	return nil
}
