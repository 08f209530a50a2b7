package upgrade

// SetStepHook calls fn at every named step of the protocol, in the processes of the tests.
func SetStepHook(fn func(string)) { atStep = fn }
