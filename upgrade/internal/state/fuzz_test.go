//go:build unix

package state

import (
	"crypto/sha256"
	"testing"
)

// A file of any content is read or refused, with a right or a wrong checksum.
func FuzzState(f *testing.F) {
	f.Add(stateBytes(f))
	f.Add(format.Begin())
	f.Add(appendEntry(begin(1), "", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		for _, whole := range [][]byte{b, append(b[:len(b):len(b)], sum[:]...)} {
			values, err := decode(whole)
			if err != nil && values != nil {
				t.Fatal("an error and values")
			}
		}
	})
}
