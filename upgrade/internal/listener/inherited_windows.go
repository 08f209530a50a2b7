package listener

func inheritedFDs() map[uint64][]int { return nil }

func coverFDs(uint64, []int) {}
