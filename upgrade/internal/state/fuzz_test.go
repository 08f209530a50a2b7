//go:build unix

package state

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"testing"
)

// A file of any content is read or refused, with a right or a wrong checksum.
func FuzzState(f *testing.F) {
	f.Add(stateBytes(f))
	f.Add(format.Begin())
	f.Add(stateWith(1, entry{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		for _, whole := range [][]byte{b, append(b[:len(b):len(b)], sum[:]...)} {
			values, err := decode(bytes.NewReader(whole), int64(len(whole)))
			if err != nil && values != nil {
				t.Fatal("an error and values")
			}
			before, errBefore := decodeBefore(whole)
			if (err == nil) != (errBefore == nil) || !maps.EqualFunc(values, before, bytes.Equal) {
				t.Fatalf("%v, a build from before says %v", err, errBefore)
			}
		}
	})
}
