package vendors

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The code on the page about vendors compiles, with the adapters that these tests use.
func TestCodeOfThePageCompiles(t *testing.T) {
	page, err := os.ReadFile("../../../docs/flag-vendors.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var files []string
	write := func(name, text string) {
		files = append(files, filepath.Join(dir, name))
		if err := os.WriteFile(files[len(files)-1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, adapter := range []string{"vendor_split_adapter_test.go", "vendor_unleash_adapter_test.go"} {
		text, err := os.ReadFile(adapter)
		if err != nil {
			t.Fatal(err)
		}
		write(strings.TrimSuffix(adapter, "_test.go")+".go", string(text))
	}
	blocks := regexp.MustCompile("(?s)<!-- go: in internal/compat/vendors -->\n```go\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 7 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for i, b := range blocks {
		write(fmt.Sprintf("block%d.go", i), "package vendors\n\n"+string(b[1]))
	}
	if out, err := exec.Command("go", append([]string{"vet"}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}
