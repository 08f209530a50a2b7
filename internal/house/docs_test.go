package house_test

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// A page has one reader and one question, and is read once.
func TestPagesAreShort(t *testing.T) {
	for _, p := range pages(t) {
		limit := 0
		switch {
		case p.name == "README.md":
			limit = 200
		case strings.HasPrefix(p.name, "docs/"):
			limit = 250
		}
		if limit > 0 && p.lines > limit {
			t.Errorf("%s has %d lines, and may have %d", p.name, p.lines, limit)
		}
	}
}

var (
	link     = regexp.MustCompile(`\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#{1,6} +(.*)$`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// Every relative link leads to a file, and every #anchor to a heading of it. Links to other sites are looked at for their form
// only. Every page of docs can be reached from the README.
func TestLinksResolve(t *testing.T) {
	all := pages(t)
	anchors, leads := map[string]map[string]bool{}, map[string][]string{}
	for _, p := range all {
		anchors[p.name] = anchorsOf(p)
	}
	for _, p := range all {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			if target, reason := follow(p.name, m[1], anchors); reason != "" {
				t.Errorf("%s: %s: %s", p.name, m[1], reason)
			} else {
				leads[p.name] = append(leads[p.name], target)
			}
		}
	}
	reached := map[string]bool{}
	for next := []string{"README.md"}; len(next) > 0; next = next[1:] {
		if !reached[next[0]] {
			reached[next[0]] = true
			next = append(next, leads[next[0]]...)
		}
	}
	for _, p := range all {
		if strings.HasPrefix(p.name, "docs/") && !reached[p.name] {
			t.Errorf("no link leads from the README to %s", p.name)
		}
	}
}

// follow returns the file of this repository that a link of the page leads to, or why it leads nowhere.
func follow(from, to string, anchors map[string]map[string]bool) (target, reason string) {
	u, err := url.Parse(to)
	switch {
	case err != nil:
		return "", err.Error()
	case u.Scheme == "https" && strings.Contains(u.Host, "."):
		return "", ""
	case u.Scheme != "" || u.Host != "" || path.IsAbs(u.Path):
		return "", "want https, or a path from this page"
	}
	target = from
	if u.Path != "" {
		target = path.Join(path.Dir(from), u.Path)
	}
	if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(target))); err != nil {
		return "", "there is no such file"
	}
	if u.Fragment != "" && !anchors[target][u.Fragment] {
		return "", "there is no such heading"
	}
	return target, ""
}

// anchorsOf are the names that GitHub gives to the headings of a page.
func anchorsOf(p page) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(p.text, -1) {
		text := linkText.ReplaceAllString(m[1], "$1")
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, text)] = true
	}
	return all
}
