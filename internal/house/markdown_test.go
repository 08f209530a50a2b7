package house_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A page is a Markdown file of this repository.
type page struct {
	name   string // from the root, with slashes
	text   string // without blocks of code
	blocks []block
	lines  int
}

// A block is a block of code: fenced, with a language, or indented.
type block struct {
	line     int // where it begins
	language string
	marker   string // the comment <!-- … --> before it
	text     string
}

// skipped are directories without pages of ours.
var skipped = map[string]bool{".git": true, "testdata": true}

func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && skipped[d.Name()] {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		all = append(all, parse(filepath.ToSlash(name), string(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return all
}

var comment = regexp.MustCompile(`^<!-- (.*) -->$`)

// parse takes the blocks of code out of a page. Every other line of its text stays at its place.
func parse(name, content string) page {
	p := page{name: name}
	lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
	p.lines = len(lines)
	text := make([]string, len(lines))
	var marker string
	for i := 0; i < len(lines); i++ {
		switch m := comment.FindStringSubmatch(lines[i]); {
		case m != nil:
			marker = m[1]
		case strings.HasPrefix(lines[i], "```"):
			b := block{line: i + 1, language: strings.TrimPrefix(lines[i], "```"), marker: marker}
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				b.text += lines[i] + "\n"
			}
			p.blocks, marker = append(p.blocks, b), ""
		case strings.HasPrefix(lines[i], "    ") && (i == 0 || lines[i-1] == ""):
			b := block{line: i + 1, marker: marker}
			for ; i < len(lines) && (strings.HasPrefix(lines[i], "    ") || lines[i] == ""); i++ {
				b.text += strings.TrimPrefix(lines[i], "    ") + "\n"
			}
			i--
			p.blocks, marker = append(p.blocks, b), ""
		case lines[i] != "":
			text[i], marker = lines[i], ""
		}
	}
	p.text = strings.Join(text, "\n")
	return p
}

var span = regexp.MustCompile("`([^`\n]+(?:\n[^`\n]+)*)`")

// commands are the lines that a reader may type: the lines of blocks of code, and the code in the text. Code that is broken
// over two lines of text is one.
func (p page) commands() []string {
	var all []string
	for _, b := range p.blocks {
		all = append(all, strings.Split(strings.ReplaceAll(b.text, "\\\n", " "), "\n")...)
	}
	for _, m := range span.FindAllStringSubmatch(p.text, -1) {
		all = append(all, strings.Join(strings.Fields(m[1]), " "))
	}
	return all
}
