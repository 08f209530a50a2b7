package flags

import (
	"errors"
	"reflect"

	"github.com/open-feature/go-sdk/openfeature"
)

// FromProvider returns Flags whose flags come from an OpenFeature provider, such as that of a vendor. They have the same methods
// as the Flags of a file. In place of the file of Open stands the provider: flags in Options.Overlays, guards and overrides outrank
// it, and it outranks Options.Defaults, which are served when the provider has no such flag or fails. A guard needs
// the variants of its flag, so the flag has to be in Options.Defaults or in an overlay. A provider belongs to one Flags at a time.
//
// FromProvider does not wait for the provider; Ready does, and returns early if the provider is FATAL. As with the SDK, a provider
// that says ERROR or STALE is asked all the same. An evaluation takes as long as the SDK and the provider take, and calls the hooks
// of the provider. A provider that panics has the error of a provider that fails. An object is what the provider returns: do not
// change it.
//
// Weights and Vars are read with an empty context, or with the targeting key "midair" alone if the provider evaluates nothing without
// a targeting key: when they are made, which takes up to 1 second, every Options.Poll, and at once when the provider says that its
// configuration has changed. These readings call the hooks too. If a reading fails, the last value stays, and the log says so. A
// flag that is not there, is disabled or has another type gives the default.
//
// Flags are a value for Keep here too. Until the provider of the new process is ready for the first time, flags that were static
// for the old process (reason STATIC: the same for everybody) have the value that they had there, with the reason CACHED, and so
// have weights and Vars. The provider is not asked for them. All other flags are the defaults of the callers, and count as errors
// in Status. At most 1,000 flags are kept, of 1 MB in all; an object is kept if it consists of what encoding/json makes, and int64.
// A flag that nobody asks for within 10 minutes of READY is not kept further.
//
// Close shuts the provider down, and waits for at most 5 seconds. After this time it returns an error, and leaves the goroutine of
// the method of the provider that has not returned: Init, Shutdown or an evaluation. After Close static flags keep their values,
// with the reason CACHED, and all others are the defaults of the callers.
func FromProvider(p openfeature.FeatureProvider, opts Options) (*Flags, error) {
	if v := reflect.ValueOf(p); p == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, errors.New("flags: FromProvider needs a provider")
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := newStore(opts, opts.Overlays...)
	if err != nil {
		return nil, err
	}
	if err = s.host(p); err != nil {
		return nil, err
	}
	return start(s), nil
}
