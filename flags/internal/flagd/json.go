package flagd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// source is the text of a file, which is valid JSON.
type source struct {
	text string
	ends *[]int // of the lines; filled when a line is asked for
}

// line is the line of an offset, from 1.
func (s source) line(at int) int {
	if *s.ends == nil {
		*s.ends = []int{}
		for i := strings.IndexByte(s.text, '\n'); i >= 0; {
			*s.ends = append(*s.ends, i)
			next := strings.IndexByte(s.text[i+1:], '\n')
			if next < 0 {
				break
			}
			i += 1 + next
		}
	}
	i, _ := slices.BinarySearch(*s.ends, at)
	return 1 + i
}

// byteOrderMark is what some editors write before UTF-8.
const byteOrderMark = "\uFEFF"

// validate makes sure that the content is JSON in UTF-8.
func validate(content []byte) (source, error) {
	content = bytes.TrimPrefix(content, []byte(byteOrderMark))
	head := bytes.TrimSpace(content)
	switch {
	case len(head) == 0:
		return source{}, errors.New(`it is empty: write {"flags": {}} for no flags`)
	case isWide(content):
		return source{}, errors.New("it is in UTF-16 or UTF-32: save it as UTF-8, without a byte order mark")
	case isYAML(head):
		return source{}, errors.New("it is YAML: convert it to JSON, for example with yq -o=json flags.yaml")
	}
	if !json.Valid(content) {
		return source{}, invalid(content)
	}
	return source{string(content), new([]int)}, nil
}

// isWide reports whether the content begins as UTF-16 or UTF-32 does: with a byte order mark, or with zero bytes.
func isWide(content []byte) bool {
	return bytes.HasPrefix(content, []byte{0xff, 0xfe}) || bytes.HasPrefix(content, []byte{0xfe, 0xff}) ||
		bytes.IndexByte(content[:min(len(content), 4)], 0) >= 0
}

// isYAML reports whether the content is no JSON, but has a line that begins with a name of the format.
func isYAML(head []byte) bool {
	if head[0] == '{' || head[0] == '[' || head[0] == '"' {
		return false
	}
	if bytes.HasPrefix(head, []byte("---")) || bytes.HasPrefix(head, []byte("%YAML")) {
		return true
	}
	for _, name := range []string{"flags:", "$schema:", "$evaluators:", "metadata:"} {
		if bytes.HasPrefix(head, []byte(name)) || bytes.Contains(head, []byte("\n"+name)) {
			return true
		}
	}
	return false
}

// invalid explains why the content is no JSON.
func invalid(content []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(content, &raw)
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return fmt.Errorf("it is not valid JSON: %w", err)
	}
	at := min(int(syntax.Offset), len(content))
	line := 1 + bytes.Count(content[:at], []byte("\n"))
	switch text := err.Error(); {
	case strings.HasPrefix(text, "unexpected end"):
		return fmt.Errorf("it ends in the middle, in line %d: it was cut, or somebody is writing it", line)
	case strings.Contains(text, "after top-level value"):
		return fmt.Errorf("there is something after its end, in line %d", line)
	case strings.Contains(text, "max depth"):
		return fmt.Errorf("too many objects and lists are inside one another, in line %d", line)
	}
	return fmt.Errorf("it is not valid JSON near line %d: %w", line, err)
}

// part is a piece of the file.
type part struct {
	kind    Kind
	at, end int
	name    string // in the object around the part
	text    string // of a text; of another scalar, as in the file
	items   []part // of a list or an object
}

// raw is the piece as in the file.
func (p part) raw(s source) string { return s.text[p.at:p.end] }

// item is a part of an object; of the kind Null if there is none.
func (p part) item(name string) part {
	for _, x := range p.items {
		if x.name == name {
			return x
		}
	}
	return part{}
}

// data is the piece as encoding/json decodes it.
func (p part) data(s source) any {
	var x any
	if json.Unmarshal([]byte(p.raw(s)), &x) != nil { // a number is too large
		return map[string]any{}
	}
	return x
}

// reader reads valid JSON, without another check.
type reader struct {
	text  string
	pos   int
	room  int                       // how many more parts may be read; below 0, the last part is not complete
	twice func(at int, name string) // is called for a name that an object has twice
}

func (r *reader) space() {
	for r.pos < len(r.text) && (r.text[r.pos] == ' ' || r.text[r.pos] == '\n' || r.text[r.pos] == '\t' || r.text[r.pos] == '\r') {
		r.pos++
	}
}

// kindAt is the type of a value with this first byte.
func kindAt(b byte) Kind {
	switch b {
	case '{':
		return Object
	case '[':
		return List
	case '"':
		return Text
	case 't', 'f':
		return Boolean
	case 'n':
		return Null
	}
	return Number
}

// part reads a value. Objects and lists more than levels deep are left unread, with no items.
func (r *reader) part(levels int) part {
	r.space()
	p := part{at: r.pos, kind: kindAt(r.text[r.pos])}
	r.room--
	switch {
	case p.kind == Text:
		p.text = r.string()
	case p.kind == Object && levels > 0:
		p.items = r.object(levels - 1)
	case p.kind == List && levels > 0:
		r.each(func() { p.items = append(p.items, r.part(levels-1)) })
	case p.kind == Object || p.kind == List:
		r.skip()
	default:
		n := strings.IndexAny(r.text[r.pos:], ",]} \n\t\r")
		if n < 0 {
			n = len(r.text) - r.pos
		}
		p.text = r.text[r.pos : r.pos+n]
		r.pos += n
	}
	p.end = r.pos
	return p
}

// each calls read at each element of a list, or at each name of an object.
func (r *reader) each(read func()) {
	for r.pos++; ; r.pos++ {
		r.space()
		if c := r.text[r.pos]; c == ']' || c == '}' {
			break
		}
		if read(); r.room < 0 {
			return
		}
		r.space()
		if r.text[r.pos] != ',' {
			break
		}
	}
	r.pos++
}

// object reads an object. Of two parts with the same name the last part stays.
func (r *reader) object(levels int) []part {
	var items []part
	var seen map[string]int // for large objects
	r.each(func() {
		at, name := r.pos, r.string()
		r.space()
		r.pos++ // the colon
		p := r.part(levels)
		p.name = name
		i := slices.IndexFunc(items[:min(len(items), 8)], func(q part) bool { return q.name == name })
		if j, ok := seen[name]; ok && i < 0 {
			i = j
		}
		if i >= 0 {
			r.twice(at, name)
			items[i] = p
			return
		}
		if len(items) >= 8 {
			if seen == nil {
				seen = map[string]int{}
			}
			seen[name] = len(items)
		}
		items = append(items, p)
	})
	return items
}

// string reads a text.
func (r *reader) string() string {
	from := r.pos
	r.skipString()
	s := r.text[from+1 : r.pos-1]
	if strings.IndexByte(s, '\\') < 0 && utf8.ValidString(s) {
		return s
	}
	var decoded string
	_ = json.Unmarshal([]byte(r.text[from:r.pos]), &decoded) // the text is valid
	return decoded
}

func (r *reader) skipString() {
	for r.pos++; ; r.pos++ {
		switch r.text[r.pos] {
		case '\\':
			r.pos++
		case '"':
			r.pos++
			return
		}
	}
}

// skip goes past an object or a list.
func (r *reader) skip() {
	for depth := 0; ; {
		switch r.text[r.pos] {
		case '"':
			r.skipString()
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if r.pos++; depth == 0 {
			return
		}
	}
}
