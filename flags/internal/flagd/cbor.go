package flagd

import (
	"maps"
	"math"
	"slices"
)

// The key of a fractional of version 3 is hashed in the deterministic encoding of CBOR (RFC 8949, section 4.2.1): each
// number, length and text in its shortest form, and the fields of objects ordered by their encoded names.

// Major types of CBOR, in the upper three bits of the first byte.
const (
	cborUnsigned = 0 << 5
	cborNegative = 1 << 5
	cborString   = 3 << 5
	cborArray    = 4 << 5
	cborMap      = 5 << 5
	cborSimple   = 7 << 5
)

// maxCBOR is how deep objects and lists may be inside one another.
const maxCBOR = 100

// cborHead continues the hash with a major type and its number, which is a value or a length.
func cborHead(m murmur, major byte, n uint64) murmur {
	switch {
	case n < 24:
		return m.addByte(major | byte(n))
	case n <= math.MaxUint8:
		return m.addByte(major|24).addNumber(n, 1)
	case n <= math.MaxUint16:
		return m.addByte(major|25).addNumber(n, 2)
	case n <= math.MaxUint32:
		return m.addByte(major|26).addNumber(n, 4)
	}
	return m.addByte(major|27).addNumber(n, 8)
}

func cborText(m murmur, s string) murmur {
	return cborHead(m, cborString, uint64(len(s))).add(s)
}

// cborValue continues the hash with a value; false for a value that is too deep.
func cborValue(m murmur, v value, depth int) (murmur, bool) {
	switch v.kind {
	case Null:
		return m.addByte(cborSimple | 22), true
	case Boolean:
		return m.addByte(cborSimple | 20 + byte(v.num)), true
	case Number:
		return cborNumber(m, v.num), true
	case Text:
		return cborText(m, v.text()), true
	}
	if depth > maxCBOR || v.kind == failed {
		return m, false
	}
	if v.kind == List {
		m, ok := cborHead(m, cborArray, uint64(v.len())), true
		for i := range v.len() {
			if m, ok = cborValue(m, v.element(i), depth+1); !ok {
				return m, false
			}
		}
		return m, true
	}
	return cborObject(m, v, depth)
}

// cborObject orders the fields: an encoded name begins with its length, so the shorter name is first.
func cborObject(m murmur, v value, depth int) (murmur, bool) {
	fields, _ := v.ref.(map[string]any)
	byLength := map[int][]string{}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		byLength[len(name)] = append(byLength[len(name)], name)
	}
	m, ok := cborHead(m, cborMap, uint64(len(fields))), true
	for _, length := range slices.Sorted(maps.Keys(byLength)) {
		for _, name := range byLength[length] {
			if m, ok = cborValue(cborText(m, name), valueOf(fields[name]), depth+1); !ok {
				return m, false
			}
		}
	}
	return m, true
}

// cborNumber takes whole numbers of 64 bits as integers, and all others in the shortest float without a loss.
func cborNumber(m murmur, n float64) murmur {
	switch {
	case n == math.Trunc(n) && n >= 0 && n < 1<<64:
		return cborHead(m, cborUnsigned, uint64(n))
	case n == math.Trunc(n) && n < 0 && n >= -1<<63:
		return cborHead(m, cborNegative, uint64(-(int64(n) + 1)))
	}
	single := float32(n)
	if float64(single) != n {
		return m.addByte(cborSimple|27).addNumber(math.Float64bits(n), 8)
	}
	if half, ok := halfFloat(single); ok {
		return m.addByte(cborSimple|25).addNumber(uint64(half), 2)
	}
	return m.addByte(cborSimple|26).addNumber(uint64(math.Float32bits(single)), 4)
}

// halfFloat is the number in 16 bits (IEEE 754 binary16); false if there is a loss.
func halfFloat(n float32) (uint16, bool) {
	bits := math.Float32bits(n)
	sign, exponent, fraction := uint16(bits>>16)&0x8000, int(bits>>23&0xff)-127, bits&0x7fffff
	switch {
	case exponent == 128 && fraction == 0: // an infinity
		return sign | 0x7c00, true
	case exponent >= -14 && exponent <= 15 && fraction&0x1fff == 0:
		return sign | uint16(exponent+15)<<10 | uint16(fraction>>13), true
	case exponent >= -24 && exponent < -14: // a subnormal number: a multiple of 2^-24
		whole, shift := fraction|0x800000, -exponent-1
		if whole&(1<<shift-1) == 0 {
			return sign | uint16(whole>>shift), true
		}
	}
	return 0, false
}
