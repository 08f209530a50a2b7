package flags

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/internal/logqueue"
)

// Options of Open and FromProvider. The zero value works.
type Options struct {
	// Poll is the time between two looks at the files, or between two readings of the weights and values of a provider.
	// Default: 1 s.
	Poll time.Duration
	// Defaults is the content of a flag file that is a part of the program, for example by go:embed. A flag of any other source
	// outranks the same flag in Defaults. With Defaults, flags are ready also while a file is missing or broken. Default: none.
	Defaults []byte
	// Overlays are the paths of more flag files. A flag of a file outranks the same flag in the file of Open, in the provider,
	// and in the overlays before. Each file has to exist. Default: none.
	Overlays []string
	// Guards are rollouts that move the share of a flag, see Guarded. At most 32. Default: none.
	Guards []Guard
	// Attributes are what the program itself knows about a request, by the name that rules use: "canary.side", for example. A
	// function is called when a rule asks for its name, or for each evaluation by a provider, with the context of the
	// evaluation, from any goroutine. An empty answer means that there is no such attribute. Any other answer outranks the
	// attribute of the caller with that name. Default: none.
	Attributes map[string]func(context.Context) string
	// Bucketing is the algorithm of fractional, see the package text. Default: the one that a file names, or else
	// "flagd/fractional-v2".
	Bucketing string
	// Name distinguishes several Flags in a program: in broadcasts, log lines and metrics. Default: "flags".
	Name string
	// OverrideFile is the path of the file in which overrides outlive a crash, a kill -9 and a restart, see Flags.Override.
	// Several processes may share the file: each reads the file at its start, and hears of later overrides by Broadcast. The
	// directory has to exist. Default: none, overrides are in memory only.
	OverrideFile string
	// Broadcast sends data to all other living processes of the service, which pass the data to UnmarshalBinary of the Flags with
	// the same Name. The method Broadcast of an Upgrader fits. It is called for each override and for each end of an override
	// that is made in this process. Default: none.
	Broadcast func(name string, data []byte) error
	// Observe is called for each evaluation by a method of Flags, a handle or a client, in the goroutine that evaluates, before the
	// value is returned. Package otelflags has one for OpenTelemetry. Default: none.
	Observe func(context.Context, Evaluation)
	// Logger gets a line for each change of the values and one for each refusal of a file. Its handler is called in another
	// goroutine: nothing waits for a log. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with their defaults, or an error that names the invalid field.
func (o Options) withDefaults() (Options, error) {
	if o.Poll < 0 {
		return o, errors.New("flags: Options.Poll is negative: use 0 for the default")
	}
	for name, fn := range o.Attributes {
		if name == "" || fn == nil {
			return o, fmt.Errorf("flags: Options.Attributes[%q] needs a name and a function", name)
		}
		if flagd.Reserved(name) {
			return o, fmt.Errorf("flags: Options.Attributes[%q]: the name is reserved", name)
		}
	}
	if err := o.checkGuards(); err != nil {
		return o, err
	}
	o.Attributes, o.Guards, o.Overlays = maps.Clone(o.Attributes), slices.Clone(o.Guards), slices.Clone(o.Overlays)
	for i, path := range o.Overlays {
		if path == "" {
			return o, fmt.Errorf("flags: Options.Overlays[%d] is empty: it must be the path of a file", i)
		}
		o.Overlays[i] = absolute(path)
	}
	o.Poll, o.Name = cmp.Or(o.Poll, time.Second), cmp.Or(o.Name, "flags")
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	return o, nil
}

func (o Options) checkGuards() error {
	if len(o.Guards) > maxGuards {
		return fmt.Errorf("flags: Options.Guards has %d guards: at most %d are possible", len(o.Guards), maxGuards)
	}
	seen := map[string]bool{}
	for i, g := range o.Guards {
		switch {
		case g.Key == "" || g.Weight == nil:
			return fmt.Errorf("flags: Options.Guards[%d] needs the key of a flag and a function for the weight", i)
		case seen[g.Key]:
			return fmt.Errorf("flags: Options.Guards has two guards for the flag %q: one rollout moves a flag", g.Key)
		}
		seen[g.Key] = true
	}
	return nil
}

// absolute returns the absolute path, because the program may change its directory later.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (o Options) parsing() flagd.Options {
	return flagd.Options{Attributes: o.Attributes, Bucketing: o.Bucketing}
}
