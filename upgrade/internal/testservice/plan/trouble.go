package plan

// Callback is a function of the program that the library calls.
type Callback string

// The callbacks.
const (
	InMarshal   Callback = "MarshalBinary"
	InUnmarshal Callback = "UnmarshalBinary"
	InCheck     Callback = "Check"
	InVerify    Callback = "Verify"
	InSmoke     Callback = "Smoke"
	InBake      Callback = "Bake"
	InSubscribe Callback = "Subscribe"
	InSplit     Callback = "Split"
	InAcquire   Callback = "Acquire"
	InRelease   Callback = "Release"
	InServe     Callback = "serve"
)

// Trouble is a callback that never returns, or panics, in one generation. The zero value is none.
type Trouble struct {
	In     Callback
	First  bool // in the first generation; otherwise in those that were upgraded to
	Times  int  // the call that is in trouble: 1 is the first one
	Panics bool // when the file "go" is there; otherwise it blocks
}

// SaysTrouble is the line in the output when a callback has got into trouble.
func SaysTrouble(in Callback) string { return "trouble in " + string(in) }
