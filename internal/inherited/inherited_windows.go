package inherited

func isChannel(int) bool { return false }
