package upgrade

// atStep is called at every step of the control protocol, with the name of the step. Tests replace it, to kill, suspend or
// delay the process at a step.
var atStep = func(string) {}
