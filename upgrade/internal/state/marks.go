package state

import (
	"hash/maphash"
	"slices"

	"github.com/midair-go/midair/internal/guard"
)

// Counter is a Value that counts its changes. If the count is the same as before an earlier call of MarshalBinary, the value has
// the same bytes as then.
type Counter interface{ Changes() uint64 }

// Marks tell which values have changed since a snapshot. The keys are the names of the values.
type Marks map[string]*mark

// mark is what is known of the bytes of a value.
type mark struct {
	changes uint64 // the result of Changes before the call of MarshalBinary; 0 if the value is no Counter
	size    int
	hash    uint64
}

// seed makes the hashes of this process unpredictable: no client can choose data so that a changed value has an old hash.
var seed = maphash.MakeSeed()

// marshal returns the bytes of a value, and their mark. The argument sent is the mark of the bytes that the receiver has, or nil. If
// the value has not changed since, the result is sent, and data is nil.
func marshal(v Value, sent *mark) (data []byte, m *mark, err error) {
	m = new(mark)
	err = guard.Call(func() (err error) {
		counter, counts := v.(Counter)
		if counts {
			// Changes is called before MarshalBinary: a change between the two calls is then sent twice. In the other order it
			// would perhaps never be sent.
			m.changes = counter.Changes()
		}
		if counts && sent != nil && m.changes == sent.changes {
			m = sent
			return nil
		}
		data, err = v.MarshalBinary()
		return err
	})
	if err != nil || m == sent {
		return nil, m, err
	}
	m.size, m.hash = len(data), hashOf(data)
	if sent != nil && m.size == sent.size && m.hash == sent.hash {
		return nil, sent, nil
	}
	return data, m, nil
}

// hashOf returns a hash of data that is valid in this process only.
func hashOf(data []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for part := range slices.Chunk(data, partSize) {
		h.Write(part)
	}
	return h.Sum64()
}
