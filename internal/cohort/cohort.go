// Package cohort decides which visitors or client addresses belong to the canary, if the canary gets only a share of them. No
// other package decides this, so the decision about a key is the same in every process and on every host.
//
// A key and a salt give a [Point] in [0, 1), and a key is in the cohort of a weight if its point is below the weight. So the
// cohort of a weight is a subset of the cohort of every greater weight. A rollback followed by a new ramp with the same salt
// selects the same keys. The cohorts of different salts are independent of each other.
//
// # Goroutines
//
// All functions may be called from any number of goroutines. The package has no state.
package cohort

import (
	"crypto/rand"

	"github.com/cespare/xxhash/v2"
)

// scale turns a whole number of at most 53 bits into a number in [0, 1). A float64 holds such a whole number exactly.
const scale = 1.0 / (1 << 53)

// Point is the place of key in [0, 1) under salt. It is computed from the 64 bit xxHash of three parts: the salt, a zero byte
// and the key. The upper 53 bits of the hash give the place. This definition never changes: other processes and other versions
// have to compute the same point. A salt should not contain a zero byte: the bytes after it would have the same effect as bytes
// at the beginning of the key. Point does not allocate.
//
// The hash has to mix well: with FNV-1a the cohort of weight 5 % can contain 29 % of sequential keys.
func Point(salt, key string) float64 {
	var buf [96]byte
	if len(salt)+1+len(key) > len(buf) {
		return long(salt, key)
	}
	n := copy(buf[:], salt) + 1
	n += copy(buf[n:], key)
	return float64(xxhash.Sum64(buf[:n])>>11) * scale
}

// long is Point for a salt and a key that do not fit into the buffer of Point. long takes a third longer than Point.
func long(salt, key string) float64 {
	var d xxhash.Digest
	d.Reset()
	d.WriteString(salt)
	d.WriteString("\x00")
	d.WriteString(key)
	return float64(d.Sum64()>>11) * scale
}

// In reports whether key is in the cohort of weight. The cohort of a weight of 0 or less is empty, and so is the cohort of a
// weight that is not a number. The cohort of a weight of 1 or more has every key.
func In(salt, key string, weight float64) bool {
	return Point(salt, key) < weight
}

// NewSalt returns a random salt of at least 128 bits as printable text. The caller has to keep the salt: another salt selects
// other keys.
func NewSalt() string { return rand.Text() }
