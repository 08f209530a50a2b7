package handoff

import "math/rand/v2"

// sampler chooses connections at random, so that the number of chosen connections is exact. Each connection is chosen with its
// probability. At every moment the number of chosen connections differs by less than 1 from the sum of the probabilities.
//
// The sampler adds up the probabilities of the connections. Each time that the sum grows by 1, a block ends and the next block
// begins. The sampler draws a place in each block, and chooses the connection whose interval of the sum has the place. If it
// chose the connection at a fixed place of each block, clients that connect in a rhythm could be chosen always or never.
type sampler struct {
	sum   float64 // how much of the present block is over, from 0 to 1
	place float64 // the place in the present block; the connection at the place was chosen if place is less than sum
	lacks int     // how many connections were chosen, and are still to be passed
}

func newSampler() sampler { return sampler{place: rand.Float64()} }

// next decides about the next connection. goes is true if the connection is to be passed; the caller calls passed afterwards.
// random is false if the connection takes the place of another one, which was chosen and could not be passed: chance has not
// decided then. p is the probability of the connection.
func (s *sampler) next(p float64) (goes, random bool) {
	random = s.lacks == 0
	if s.draw(p) {
		s.lacks++
	}
	return s.lacks > 0, random
}

// passed notes that a connection was passed.
func (s *sampler) passed() { s.lacks-- }

// draw reports whether the next connection is chosen. p is its probability.
func (s *sampler) draw(p float64) bool {
	if p >= 1 {
		return true
	}
	from := s.sum
	s.sum += p
	chosen := from <= s.place && s.place < s.sum
	if s.sum < 1 {
		return chosen
	}
	// The interval of the connection begins in the present block and may end in the next one. Both blocks must not choose the
	// connection, so the place in the next block depends on the present block. Without regard to the present block, each place
	// in the next block is still equally probable: the place is in the interval with the probability
	// (1 - (1-from)) * (s.sum / from) = s.sum.
	s.sum--
	if !chosen && rand.Float64() < s.sum/from {
		s.place = s.sum * rand.Float64()
		return true
	}
	s.place = s.sum + (1-s.sum)*rand.Float64()
	return chosen
}
