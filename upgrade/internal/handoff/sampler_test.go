package handoff

import (
	"math"
	"testing"
)

// Each connection is chosen with its probability, whatever the probabilities of the connections before it are. At every moment
// the number of chosen connections is exact to less than one connection.
func TestEachConnectionIsChosenWithItsProbability(t *testing.T) {
	probabilities := []float64{0.3, 0.3, 0.3, 0.3, 0.9, 0.05, 1, 0.7, 0.999, 0.25, 1. / 3, 0.5, 0.8, 0.01, 0.6, 1, 0.4}
	const rounds = 40_000
	chosen := make([]int, len(probabilities))
	for range rounds {
		s, sum, number := newSampler(), 0., 0
		for i, p := range probabilities {
			if sum += p; s.draw(p) {
				chosen[i]++
				number++
			}
			if math.Abs(sum-float64(number)) > 1+1e-9 {
				t.Fatalf("%d are chosen of the first %d, want %v", number, i+1, sum)
			}
		}
	}
	for i, p := range probabilities {
		mustBeShare(t, chosen[i], rounds, p)
	}
}

// mustBeShare fails the test if chance does not explain that n of all is not the share p.
func mustBeShare(t *testing.T, n, all int, p float64) {
	t.Helper()
	got, sigma := float64(n)/float64(all), math.Sqrt(p*(1-p)/float64(all))
	if math.Abs(got-p) > 5*sigma+1e-9 {
		t.Errorf("%d of %d are %.4f, want %.4f to within %.4f", n, all, got, p, 5*sigma)
	}
}

// A client that connects in a rhythm is not always the one that is chosen, nor never.
func TestRhythmDoesNotDecideWhoIsChosen(t *testing.T) {
	const clients, rounds = 20, 20_000
	s := newSampler()
	var chosen [clients]int
	for range rounds {
		for c := range clients {
			if s.draw(0.05) {
				chosen[c]++
			}
		}
	}
	for _, n := range chosen {
		mustBeShare(t, n, rounds, 0.05)
	}
}

// A chosen connection that is not passed is replaced by the next one, which chance has not chosen.
func TestReplacementIsNotChosenByChance(t *testing.T) {
	s := newSampler()
	s.place = 0.6
	for i, want := range []struct{ goes, random bool }{
		{false, true}, {true, true}, {true, false}, {true, false}, {true, true}, {false, true},
	} {
		if i == 2 { // in the block that has begun
			s.place = 0.3
		}
		goes, random := s.next(0.5)
		if goes != want.goes || random != want.random {
			t.Errorf("connection %d: goes %v, random %v, want %+v", i, goes, random, want)
		}
		if i == 3 || i == 4 { // the connections before could not be passed
			s.passed()
		}
		if i == 3 {
			s.passed()
			s.place = 0.1
		}
	}
}
