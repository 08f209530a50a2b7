package cohort_test

import (
	"encoding/binary"
	"math/bits"
)

const (
	prime1 uint64 = 0x9E3779B185EBCA87
	prime2 uint64 = 0xC2B2AE3D27D4EB4F
	prime3 uint64 = 0x165667B19E3779F9
	prime4 uint64 = 0x85EBCA77C2B2AE63
	prime5 uint64 = 0x27D4EB2F165667C5
)

// xxh64 is XXH64 with seed 0, written from the specification, and independent of the package that cohort uses.
func xxh64(text string) uint64 {
	p := []byte(text)
	h := prime5
	if len(p) >= 32 {
		h, p = stripes(p)
	}
	return avalanche(tail(h+uint64(len(text)), p))
}

func stripes(p []byte) (uint64, []byte) {
	var start uint64 // a variable, because its value wraps around, which a constant must not do
	lanes := [4]uint64{start + prime1, prime2, 0, start - prime1}
	lanes[0] += prime2
	for ; len(p) >= 32; p = p[32:] {
		for i := range lanes {
			lanes[i] = mix(lanes[i], binary.LittleEndian.Uint64(p[8*i:]))
		}
	}
	h := bits.RotateLeft64(lanes[0], 1) + bits.RotateLeft64(lanes[1], 7) +
		bits.RotateLeft64(lanes[2], 12) + bits.RotateLeft64(lanes[3], 18)
	for _, l := range lanes {
		h = (h^mix(0, l))*prime1 + prime4
	}
	return h, p
}

func tail(h uint64, p []byte) uint64 {
	for ; len(p) >= 8; p = p[8:] {
		h = bits.RotateLeft64(h^mix(0, binary.LittleEndian.Uint64(p)), 27)*prime1 + prime4
	}
	if len(p) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(p))*prime1, 23)*prime2 + prime3
		p = p[4:]
	}
	for _, c := range p {
		h = bits.RotateLeft64(h^uint64(c)*prime5, 11) * prime1
	}
	return h
}

func mix(lane, input uint64) uint64 {
	return bits.RotateLeft64(lane+input*prime2, 31) * prime1
}

func avalanche(h uint64) uint64 {
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}
