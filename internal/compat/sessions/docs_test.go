// Package sessions_test checks package session together with other modules: see its subdirectories.
package sessions_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The code on the page about sessions that needs other modules compiles.
func TestCodeOfThePageCompiles(t *testing.T) {
	page, err := os.ReadFile("../../../docs/sessions.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)<!-- go: in internal/compat/sessions -->\n```go\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	args := []string{"vet"}
	dir := t.TempDir()
	for i, b := range blocks {
		name := filepath.Join(dir, fmt.Sprintf("block%d.go", i))
		if err := os.WriteFile(name, []byte("package sessions\n\n"+string(b[1])), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}
