package upgrade

// atStep is called at every step of the protocol; tests kill, stop or hold a process there.
var atStep = func(string) {}
