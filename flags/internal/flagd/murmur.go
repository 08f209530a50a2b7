package flagd

import "math/bits"

// murmur is MurmurHash3 (x86, 32 bit, seed 0) of a text whose beginning is known before: the flag's key, hashed once,
// is continued with the key of each evaluation.
type murmur struct {
	hash uint32 // after all whole blocks
	tail uint32 // the bytes after the blocks, little endian
	size int    // of everything
}

// add continues the hash.
func (m murmur) add(s string) murmur {
	part := m.size % 4
	m.size += len(s)
	if part != 0 {
		n := min(4-part, len(s))
		for i := range n {
			m.tail |= uint32(s[i]) << (8 * (part + i))
		}
		if part+n < 4 {
			return m
		}
		m.hash, m.tail, s = mix(m.hash, m.tail), 0, s[n:]
	}
	for ; len(s) >= 4; s = s[4:] {
		m.hash = mix(m.hash, uint32(s[0])|uint32(s[1])<<8|uint32(s[2])<<16|uint32(s[3])<<24)
	}
	for i := range len(s) {
		m.tail |= uint32(s[i]) << (8 * i)
	}
	return m
}

// addByte continues the hash with a byte.
func (m murmur) addByte(b byte) murmur {
	m.tail |= uint32(b) << (8 * (m.size % 4))
	if m.size++; m.size%4 == 0 {
		m.hash, m.tail = mix(m.hash, m.tail), 0
	}
	return m
}

// addNumber continues the hash with the last bytes of a number, the highest first.
func (m murmur) addNumber(n uint64, bytes int) murmur {
	for i := bytes - 1; i >= 0; i-- {
		m = m.addByte(byte(n >> (8 * i)))
	}
	return m
}

// sum is the hash of everything added.
func (m murmur) sum() uint32 {
	h := m.hash ^ scramble(m.tail) ^ uint32(m.size)
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

func mix(h, block uint32) uint32 {
	return bits.RotateLeft32(h^scramble(block), 13)*5 + 0xe6546b64
}

func scramble(k uint32) uint32 {
	return bits.RotateLeft32(k*0xcc9e2d51, 15) * 0x1b873593
}
