package flagd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// bucketingField is the name of the version of fractional in the metadata of a file.
const bucketingField = "midair.bucketing"

// Limits of a file.
const (
	maxFlags  = 1 << 21
	maxValues = 1 << 19 // of a rule, of the variants of a flag, of all $evaluators
)

type hooks = map[string]func(context.Context) string

// Options of Parse.
type Options struct {
	// Attributes are asked before the attributes of the caller. An empty answer stands for no attribute.
	Attributes map[string]func(context.Context) string
	// Bucketing is the version of fractional for files without a name in the metadata; FractionalV2 if empty.
	Bucketing string
}

// A Document is the compiled content of a file. Documents never change.
type Document struct {
	// Flags are the flags that can be served.
	Flags map[string]*Flag
	// Faults are the flags that cannot be served, in the order of the file, with the reasons.
	Faults []Note
	// Warnings are for the author of the file, in the order of the file. Warnings change nothing. There are at most 1000.
	Warnings []Note
	// Bucketing is the version of fractional in use.
	Bucketing string
}

// Parse compiles the content of a file. With an error nothing in the content can be used.
func Parse(content []byte, opts Options) (d *Document, err error) {
	defer func() {
		if p := recover(); p != nil {
			d, err = nil, fmt.Errorf("the library failed on it: %v", p)
		}
	}()
	src, err := validate(content)
	if err != nil {
		return nil, err
	}
	c := &compiler{
		source: src, attrs: opts.Attributes, used: map[string]bool{}, nodes: maxNodes + len(content)/8,
		warnings: warnings{source: src},
	}
	if bytes.HasPrefix(content, []byte(byteOrderMark)) {
		c.warn(0, "the file begins with a byte order mark, which flagd refuses: save it as UTF-8 without")
	}
	root, err := c.outline()
	if err != nil {
		return nil, err
	}
	if c.bucketing, err = choice(root, opts.Bucketing); err != nil {
		return nil, err
	}
	d = &Document{Flags: make(map[string]*Flag, len(root.flags)), Bucketing: c.bucketing.String()}
	for _, p := range root.flags {
		c.add(d, root, p)
	}
	c.key = ""
	for _, name := range root.fragments {
		if !c.used[name.name] {
			c.warn(name.at, "$evaluators has %q, which no flag uses", name.name)
		}
	}
	d.Warnings = c.warnings.all()
	return d, nil
}

// choice is the version of fractional: what the file says, else what the program says.
func choice(root *outline, option string) (bucketing, error) {
	name := cmp.Or(option, FractionalV2)
	if _, err := bucketingNamed(name); err != nil {
		return 0, err
	}
	b, ok := root.metadata[bucketingField]
	if !ok {
		return bucketingNamed(name)
	}
	s, _ := b.(string)
	v, err := bucketingNamed(s)
	if err != nil {
		return 0, fmt.Errorf("metadata.%s: %w", bucketingField, err)
	}
	return v, nil
}

// add compiles a flag into the document.
func (c *compiler) add(d *Document, root *outline, p part) {
	c.key = p.name
	f, err := newFlag(c, root, p)
	if err == nil {
		d.Flags[p.name] = f
		return
	}
	at := p.at
	if f := (*fault)(nil); errors.As(err, &f) {
		at = f.at
	}
	d.Faults = append(d.Faults, Note{Key: p.name, Line: c.line(at), Text: err.Error()})
}

// outline is what a file has beside its flags, and the places of the flags.
type outline struct {
	metadata    map[string]any
	rawMetadata string
	fragments   []part
	rawParts    string // the fragments as in the file
	flags       []part
}

func (c *compiler) outline() (*outline, error) {
	root, err := c.read(0, 1, maxValues)
	if err != nil {
		return nil, err
	}
	if root.kind != Object {
		return nil, errors.New(`it must be an object with "flags"`)
	}
	var fields [4]part
	c.fields(root, "the file", []string{"metadata", "$evaluators", "flags", "$schema"}, fields[:])
	o := &outline{}
	if p := fields[0]; p.kind != Null {
		o.metadata, o.rawMetadata = readMetadata(c, p), p.raw(c.source)
	}
	if p := fields[1]; p.kind != Null {
		if err := c.addFragments(o, p); err != nil {
			return nil, err
		}
	}
	return o, c.findFlags(o, fields[2])
}

// fields finds the parts of an object by name. Unknown names get a warning, except names
// that begin with $. A name in other upper and lower case is taken for the known name, as encoding/json does.
func (c *compiler) fields(p part, what string, known []string, fields []part) {
	for _, x := range p.items {
		i := slices.Index(known, x.name)
		if i < 0 {
			i = slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, x.name) })
			switch {
			case i >= 0:
				c.warn(x.at, "the name %q in %s should be %q", x.name, what, known[i])
			case !strings.HasPrefix(x.name, "$"):
				c.warn(x.at, "the name %q in %s is not known", x.name, what)
			}
		}
		if i >= 0 {
			fields[i] = x
		}
	}
}

func (c *compiler) addFragments(o *outline, p part) error {
	if p.kind != Object {
		c.warn(p.at, "$evaluators is a %v, and should be an object", p.kind)
		return nil
	}
	all, err := c.read(p.at, 2*maxDepth+3, maxValues)
	if err != nil {
		return fmt.Errorf("$evaluators: %w", err)
	}
	o.rawParts, o.fragments = p.raw(c.source), all.items
	c.fragments = make(map[string]part, len(o.fragments))
	for _, f := range o.fragments {
		c.fragments[f.name] = f
	}
	return nil
}

// findFlags finds the flags, which are the parts of an object, or the elements of a list that have a key.
func (c *compiler) findFlags(o *outline, p part) error {
	switch {
	case p.kind == Null:
		return errors.New(`it has no "flags"`)
	case p.kind != Object && p.kind != List:
		return errors.New(`"flags" must be an object`)
	}
	all, err := c.read(p.at, 1, maxFlags)
	if err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	if o.flags = all.items; p.kind == Object {
		return nil
	}
	index := make(map[string]int, len(o.flags))
	for i := range o.flags {
		x := &o.flags[i]
		if x.kind == Object {
			flag, _ := c.read(x.at, 1, maxValues)
			x.name = flag.item("key").text
		}
		if j, ok := index[x.name]; ok {
			c.warn(o.flags[j].at, "the flag %q is in the file twice: the last one counts", x.name)
		}
		index[x.name] = i
	}
	var last []part
	for i, x := range o.flags {
		if index[x.name] == i {
			last = append(last, x)
		}
	}
	o.flags = last
	return nil
}

// read reads the part that begins at an offset, with what is inside down to some levels; an error for too many values.
func (c *compiler) read(at, levels, room int) (part, error) {
	r := c.reader(at)
	r.room = room
	p := r.part(levels)
	if r.room < 0 {
		return part{}, &fault{at, fmt.Sprintf("it has more than %d values", room)}
	}
	return p, nil
}

func (c *compiler) reader(at int) *reader {
	return &reader{text: c.text, pos: at, twice: func(at int, name string) {
		c.warn(at, "the name %q is used twice in one object: the last one counts", name)
	}}
}
