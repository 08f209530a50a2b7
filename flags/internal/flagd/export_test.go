package flagd

// Murmur hashes the parts as one text.
func Murmur(parts ...string) uint32 {
	m := murmur{}
	for _, p := range parts {
		m = m.add(p)
	}
	return m.sum()
}

// MurmurBytes hashes the same text byte by byte.
func MurmurBytes(s string) uint32 {
	m := murmur{}
	for i := range len(s) {
		m = m.addByte(s[i])
	}
	return m.sum()
}

// MaxSteps is how much work the loops of an evaluation may be.
const MaxSteps = maxSteps

// HalfFloat is a number in 16 bits, if it fits.
func HalfFloat(n float32) (uint16, bool) { return halfFloat(n) }
