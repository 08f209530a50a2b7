package canary

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
)

// asked calls the functions of the options. A panic of a function costs neither the request nor the process.
type asked struct {
	opts         *Options
	weightPanics atomic.Uint64
	keyPanics    atomic.Uint64
	samePanics   atomic.Uint64
}

// weight returns the result of Options.Weight, and false if the function has panicked.
func (a *asked) weight() (weight float64, ok bool) {
	defer a.caught("Weight", &a.weightPanics)
	return a.opts.Weight(), true
}

// key returns the result of Options.Key, and false if the function has panicked.
func (a *asked) key(r *http.Request) (key string, ok bool) {
	defer a.caught("Key", &a.keyPanics)
	return a.opts.Key(r), true
}

// sameForAll returns the result of Options.SameForAll, or false if the function has panicked.
func (a *asked) sameForAll(r *http.Request) bool {
	defer a.caught("SameForAll", &a.samePanics)
	return a.opts.SameForAll(r)
}

// caught is deferred, and ends a panic of a function of the options. The first panic of each function is logged.
func (a *asked) caught(name string, panics *atomic.Uint64) {
	p := recover()
	if p == nil {
		return
	}
	if panics.Add(1) == 1 {
		a.opts.Logger.Error("canary: Options."+name+" has panicked; later panics are counted only",
			slog.String("name", a.opts.Name), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}
}
