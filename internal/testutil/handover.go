package testutil

import (
	"encoding"
	"testing"
)

// HandOver passes the state of the value from to the value to, as upgrade's Keep does between two processes.
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
