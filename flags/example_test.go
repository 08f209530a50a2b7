package flags_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

// A service asks for a flag for each request; who it is for stands in the context.
func Example() {
	dir, err := os.MkdirTemp("", "flags")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "flags.json")
	const content = `{"flags": {"new-cart": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
		"targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on", {"fractional": [["on", 10], ["off", 90]]}]}}}}`
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		log.Fatal(err)
	}

	ff, err := flags.Open(path, flags.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer ff.Close()

	cart := ff.BoolFlag("new-cart", false)
	for _, user := range []struct{ id, plan string }{{"user-1", "pro"}, {"user-2", "free"}, {"user-9", "free"}} {
		ctx := ff.With(context.Background(), user.id, map[string]any{"plan": user.plan})
		fmt.Println(user.id, user.plan, cart.Get(ctx))
	}
	// Output:
	// user-1 pro true
	// user-2 free false
	// user-9 free true
}

// A file that is missing is a state: the program's defaults are served, and Ready says what to do.
func ExampleFlags_Ready() {
	ff, err := flags.Open("/nowhere/flags.json", flags.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer ff.Close()
	fmt.Println(ff.String(context.Background(), "color", "red"))
	err = ff.Ready(context.Background())
	var bad *flags.Error
	fmt.Println(errors.As(err, &bad), errors.Is(err, os.ErrNotExist))
	fmt.Println(bad.Reason)
	// Output:
	// red
	// true true
	// there is no such file: create it, {"flags": {}} is enough
}

// The side that a request is on comes into the rules from whoever decided it, here from a value in the context.
func ExampleOptions_attributes() {
	type side struct{}
	ff, err := flags.Open("flags.json", flags.Options{
		Logger: slog.New(slog.DiscardHandler),
		Attributes: map[string]func(context.Context) string{
			"canary.side": func(ctx context.Context) string { s, _ := ctx.Value(side{}).(string); return s },
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer ff.Close()
}

// A number flag moves the traffic: the function is what canary.Options.Weight wants.
func ExampleFlags_Weight() {
	ff, err := flags.Open("/nowhere/flags.json", flags.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer ff.Close()
	weight := ff.Weight("cart-v2", 0)
	fmt.Println(weight())
	// Output: 0
}

// Code that knows OpenFeature gets a client with its hooks and events.
func ExampleFlags_Client() {
	ff, err := flags.Open("/nowhere/flags.json", flags.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer ff.Close()
	value, err := ff.Client().StringValue(context.Background(), "color", "red", openfeature.NewEvaluationContext("user-1", nil))
	fmt.Println(value, err != nil)
	// Output: red true
}
