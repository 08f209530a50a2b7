package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// goalGrowth is how many bytes package flags should add to a program that uses the OpenFeature SDK, and is missed. maxGrowth is how
// many package flags may add: more would mean that a large package of the standard library came in again.
const (
	goalGrowth = 600_000
	maxGrowth  = 1_500_000
)

// The two programs evaluate one flag through a client of the SDK, the second from a file of package flags.
const (
	sdkProgram = `package main

import (
	"context"
	"fmt"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
	"github.com/open-feature/go-sdk/openfeature/memprovider"
)

func main() {
	ctx := context.Background()
	api := isolated.NewAPI()
	if err := api.SetProviderAndWait(ctx, memprovider.NewInMemoryProvider(nil)); err != nil {
		fmt.Println(err)
	}
	fmt.Println(api.NewClient().Boolean(ctx, "new-checkout", false, openfeature.NewEvaluationContext("user", nil)))
	_ = api.Shutdown(ctx)
}
`
	flagsProgram = `package main

import (
	"context"
	"fmt"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

func main() {
	ctx := context.Background()
	f, err := flags.Open("flags.json", flags.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	fmt.Println(f.Client().Boolean(ctx, "new-checkout", false, openfeature.NewEvaluationContext("user", nil)))
	checkout, weight := f.BoolFlag("new-checkout", false), f.Weight("checkout-weight", 0)
	fmt.Println(checkout.Get(f.With(ctx, "user", map[string]any{"plan": "pro"})), weight(), f.Ready(ctx), f.Status())
}
`
)

// TestFlagsAddLittleToTheBinary builds both programs, stripped.
func TestFlagsAddLittleToTheBinary(t *testing.T) {
	sdk, with := builtSize(t, sdkProgram), builtSize(t, flagsProgram)
	t.Logf("the SDK alone %d bytes, with package flags %d: %.2f MB more, the goal is %.1f", sdk, with, float64(with-sdk)/1e6, goalGrowth/1e6)
	if with-sdk > maxGrowth {
		t.Errorf("package flags adds %d bytes to a program, and may add %d", with-sdk, maxGrowth)
	}
}

// builtSize builds a program of one file, which may import what this module requires, and returns the size in bytes.
func builtSize(t *testing.T, program string) int64 {
	t.Helper()
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "main")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, source).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
