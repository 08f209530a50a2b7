package testutil

import (
	"encoding"
	"testing"
)

// HandOver gives the state of a value in one process to the value in another process, as upgrade's Keep does.
func HandOver(t testing.TB, from encoding.BinaryMarshaler, to encoding.BinaryUnmarshaler) {
	t.Helper()
	data, err := from.MarshalBinary()
	if err != nil {
		t.Fatalf("hand over: %v", err)
	}
	if err := to.UnmarshalBinary(data); err != nil {
		t.Fatalf("hand over: %v", err)
	}
}
