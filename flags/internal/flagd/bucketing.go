package flagd

import (
	"fmt"
	"math"
)

// maxWeight is the largest sum of the weights of a fractional.
const maxWeight = math.MaxInt32

// A bucketing is a version of what fractional does. None ever changes: the versions keep people where they are
// across processes, hosts and releases of the library.
type bucketing uint8

// The versions. The names of the flags are flagd's.
const (
	V2 bucketing = iota // of flagd's core 0.15 and later
	V1                  // of flagd's core before 0.15
	V3                  // decided by flagd, but not released
)

// Names of the versions, for Options and for the metadata of a file.
const (
	FractionalV1 = "flagd/fractional-v1"
	FractionalV2 = "flagd/fractional-v2"
	FractionalV3 = "flagd/fractional-v3"
)

func (b bucketing) String() string {
	return map[bucketing]string{V1: FractionalV1, V2: FractionalV2, V3: FractionalV3}[b]
}

func bucketingNamed(name string) (bucketing, error) {
	for _, b := range []bucketing{V1, V2, V3} {
		if b.String() == name {
			return b, nil
		}
	}
	return 0, fmt.Errorf("the bucketing %q is not known; there are %s, %s and %s", name, FractionalV1, FractionalV2, FractionalV3)
}

// prefix is the hash of what stands before the targeting key.
func (b bucketing) prefix(flagKey string) murmur {
	if b == V3 {
		return cborText(cborHead(murmur{}, cborArray, 2), flagKey)
	}
	return murmur{}.add(flagKey)
}

func (b bucketing) text(m murmur, s string) murmur {
	if b == V3 {
		return cborText(m, s)
	}
	return m.add(s)
}

// hash is the hash of a key named by the rule. Versions 1 and 2 take texts alone, version 3 all but null and lists.
func (b bucketing) hash(v value) (uint32, bool) {
	switch {
	case v.kind == Text:
		return b.text(murmur{}, v.text()).sum(), true
	case b != V3 || v.kind == Null || v.kind == List:
		return 0, false
	}
	m, ok := cborValue(murmur{}, v, 0)
	return m.sum(), ok
}

// weight is a weight as it is evaluated; false if the fractional has no result then. Null is 1, like an absent weight. A
// negative weight is 0: a computed ramp is negative before its beginning.
func (b bucketing) weight(v value) (int64, bool) {
	switch {
	case b == V1 && (v.kind != Number || math.IsNaN(v.num)):
		return 1, true
	case b == V1:
		return int64(math.Trunc(max(-maxWeight, min(v.num, maxWeight)))), true
	case v.kind == Null:
		return 1, true
	case v.kind != Number || !isWhole(v.num) || v.num > maxWeight || v.num < math.MinInt64:
		return 0, false
	}
	return int64(max(v.num, 0)), true
}

// total is the sum of the weights; false if there are no shares then. A weight of -1 leaves no shares, except in version 1.
func (b bucketing) total(weights []int64) (sum int64, ok bool) {
	for _, w := range weights {
		if w < 0 && b != V1 {
			return 0, false
		}
		sum += w
	}
	return sum, b == V1 || sum > 0 && sum <= maxWeight
}

// share is the number of the share for a hash; -1 if there is none.
func (b bucketing) share(hash uint32, weights []int64, total int64) int {
	if b == V1 {
		return sharePercent(hash, weights, total)
	}
	bucket, end := int64(uint64(hash)*uint64(total)>>32), int64(0)
	for i, w := range weights {
		if end += w; bucket < end {
			return i
		}
	}
	return -1
}

// sharePercent is version 1: the absolute value of the signed hash as a percentage, with the roundings of float64.
func sharePercent(hash uint32, weights []int64, total int64) int {
	percent := math.Abs(float64(int32(hash))) / math.MaxInt32 * 100
	end := float64(0)
	for i, w := range weights {
		if total != 0 {
			end += 100 * float64(w) / float64(total)
		}
		if percent < end {
			return i
		}
	}
	return -1
}

// nobody is the result for a key in no share. In version 1 the result is the empty text, for three of 2^32 hashes.
func (b bucketing) nobody() value {
	if b == V1 {
		return textual("")
	}
	return value{}
}

// gives reports whether a share can give a value: a text in version 1, and everything but lists and objects in the
// later ones.
func (b bucketing) gives(v value) bool {
	return v.kind == Text || b != V1 && v.kind != List && v.kind != Object && v.kind != failed
}
